"""MLflow: which run belongs to a training, its tags and params, and its parent run.

The fingerprint, a tag, identifies a training's run. On Kubeflow all runs of one pipeline run have one parent. It is
made here, unless Kubeflow's MLflow plugin is on and has made it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bmask.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FINGERPRINT, TRAINING_RUN = "bmask.fingerprint", "bmask.training_run"
KIND, PIPELINE = "bmask.kind", "pipeline"  # tells a pipeline run's parent from its children
PIPELINE_RUN, PARENT, DVC_EXPERIMENT = "kfp_run_id", "mlflow.parentRunId", "dvc_experiment"


def find_run(fingerprint: str) -> Run | None:
    """The run of the training with this fingerprint in any experiment, the newest if there are several."""
    import mlflow

    clause = f"tags.`{FINGERPRINT}` = '{fingerprint}'"
    found = mlflow.search_runs(filter_string=clause, output_format="list", max_results=1, search_all_experiments=True)
    return found[0] if found else None


def open_run(about: dict, adopt: bool = False) -> Run:
    """The run of this training: the one with its fingerprint, whatever its parent, or a new one with params and data.

    With `adopt`, which is for the task that trains, the run that MLFLOW_RUN_ID names becomes the training's run. If it
    belongs to another training, or this training has a run already, it gets a tag with the id of the training's run.
    """
    import mlflow

    client, given = mlflow.MlflowClient(), os.environ.get(store.GIVEN)
    run = find_run(about["fingerprint"]) or _new_run(client, about, adopt)
    if not (run.inputs and run.inputs.dataset_inputs):  # new, or killed before params and data were logged
        with active(run):
            mlflow.log_params(_flat(about["params"]))
            mlflow.log_input(_dataset(about["data_digest"]), context="training")
        run = client.get_run(run.info.run_id)
    if given and adopt and given != run.info.run_id:
        _tag(client, given, {TRAINING_RUN: run.info.run_id} | _pipeline_tag())
    return run


def activate(run: Run, **options: Any) -> None:
    """Makes a run MLflow's active one. Sets its experiment first, since MLflow refuses runs of other experiments."""
    import mlflow

    mlflow.set_experiment(experiment_id=run.info.experiment_id)
    mlflow.start_run(run_id=run.info.run_id, **options)


def end(status: str) -> None:
    """Ends the active run. Restores MLFLOW_RUN_ID, which MLflow removes and the next training here needs."""
    import mlflow

    given = os.environ.get(store.GIVEN)
    try:
        mlflow.end_run(status)
    finally:
        if given:
            os.environ[store.GIVEN] = given


@contextlib.contextmanager
def active(run: Run) -> Iterator[None]:
    """Inside, the run is MLflow's active one."""
    activate(run)
    try:
        yield
    except BaseException:
        end("FAILED")
        raise
    end("FINISHED")


def pipeline_run(client: MlflowClient) -> Run | None:
    """The parent of this pipeline run's runs; made if there is none.

    None outside of Kubeflow, and if its own plugin made the runs (MLFLOW_RUN_ID is set).
    """
    pipeline = os.environ.get("KFP_RUN_ID")
    if not pipeline or os.environ.get(store.GIVEN):
        return None
    if parents := _parents(client, pipeline):
        return parents[0]
    tags = {KIND: PIPELINE, PIPELINE_RUN: pipeline, "git_sha": git_sha()}
    own = _create(client, _experiment(client), f"pipeline {pipeline[:8]}", tags)
    first = (_parents(client, pipeline) or [own])[0]
    if first.info.run_id != own.info.run_id:  # trainings start side by side: another was faster
        client.delete_run(own.info.run_id)
    return first


def settle_pipeline(client: MlflowClient) -> Run | None:
    """The parent as `pipeline_run` gives it; called after the trainings, it merges parents that did not see each other.
    There are several if clocks differ, or if one create request takes longer than all that the other process did."""
    parent = pipeline_run(client)
    if parent is None:
        return None
    for other in _parents(client, parent.data.tags[PIPELINE_RUN]):
        if other.info.run_id != parent.info.run_id:
            for child in client.search_runs([other.info.experiment_id], f"tags.{PARENT} = '{other.info.run_id}'"):
                client.set_tag(child.info.run_id, PARENT, parent.info.run_id)
            client.delete_run(other.info.run_id)
    return parent


def dvc_experiment() -> str | None:
    """The name of the DVC experiment that this process belongs to."""
    return os.environ.get("DVC_EXP_NAME") or None


def git_sha() -> str:
    """The commit of the working folder, with `-dirty` if tracked files differ from it.

    Outside of git it is BMASK_GIT_SHA, which the image sets, else `unknown`.
    """
    try:
        describe = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("BMASK_GIT_SHA") or "unknown"


def _new_run(client: MlflowClient, about: dict, adopt: bool) -> Run:
    """The run that MLFLOW_RUN_ID names, if it may be adopted; else a new one, under it or the pipeline run's parent."""
    given = os.environ.get(store.GIVEN)
    parent = client.get_run(given) if given else pipeline_run(client)
    tags = {FINGERPRINT: about["fingerprint"], "bmask.model": about["model"], "data_digest": about["data_digest"]}
    tags |= {"git_sha": git_sha()} | _pipeline_tag()
    name, experiment = about["model"], dvc_experiment()
    if about.get("data_revision"):
        tags["data_revision"] = about["data_revision"]
    if experiment:
        name, tags[DVC_EXPERIMENT] = f"{name} ({experiment})", experiment
    if given and adopt and parent and _is_free(parent, about):
        _tag(client, given, tags)
        return client.get_run(given)
    if parent is None:
        return _create(client, _experiment(client), name, tags)
    return _create(client, parent.info.experiment_id, name, tags | {PARENT: parent.info.run_id})


def _is_free(run: Run, about: dict) -> bool:
    """False for another training's run, and for a run with other params, since MLflow cannot change a param."""
    params = _flat(about["params"])
    agree = (str(params.get(key, value)) == value for key, value in run.data.params.items())
    return FINGERPRINT not in run.data.tags and all(agree)


def _parents(client: MlflowClient, pipeline: str) -> list[Run]:
    """The parents of a pipeline run, in an order on which all processes agree."""
    clause = f"tags.`{KIND}` = '{PIPELINE}' and tags.{PIPELINE_RUN} = '{pipeline}'"
    found = client.search_runs([_experiment(client)], clause)
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def _experiment(client: MlflowClient) -> str:
    """The id of the experiment for new runs, which `store.connect` has made."""
    experiment = client.get_experiment_by_name(store.experiment_name())
    assert experiment is not None
    return experiment.experiment_id


def _create(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> Run:
    """Makes a run without activating it: `mlflow.start_run` would take the run that MLFLOW_RUN_ID names."""
    from mlflow.tracking.context.registry import resolve_tags

    return client.create_run(experiment, tags=resolve_tags(tags), run_name=name)


def _tag(client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _pipeline_tag() -> dict[str, str]:
    pipeline = os.environ.get("KFP_RUN_ID")
    return {PIPELINE_RUN: pipeline} if pipeline else {}


def _dataset(digest: str) -> Any:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    # The digest column takes 36 characters; the whole is in the run's tag.
    return MetaDataset(CodeDatasetSource({"stage": "ingest"}), name="photos", digest=digest[:36])  # type: ignore[abstract]  # it runs


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
