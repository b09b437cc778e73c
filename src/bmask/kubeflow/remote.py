"""The pipeline on a cluster: submitting, scheduling, watching."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmask.errors import ParamsError, PipelineError
from bmask.kubeflow.compiling import build_pipeline, write_pipeline
from bmask.kubeflow.server import Target
from bmask.params import Params
from bmask.progress import say

ENDED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
MAX_SILENCE = 300.0  # seconds without an answer after which `wait` gives up


def image_of_commit(params: Params, allow_dirty: bool = False) -> str:
    """`cluster.image` with the commit as its tag, which is part of Kubeflow's cache key.

    Raises:
        ParamsError: `cluster.image` is not set.
        PipelineError: the working folder differs from the commit, unless `allow_dirty`.
    """
    from bmask.tracking.runs import git_sha

    if not params.cluster.image:
        raise ParamsError(
            "cluster.image is not set, so the pods have no image to pull; name your registry's image without its tag,"
            " as in --set cluster.image=registry.example.com/team/bmask, or an image with its tag by --image"
        )
    sha = git_sha()
    if sha == "unknown":
        raise PipelineError("this is no git checkout, so there is no commit to tag the image; name one with --image")
    if sha.endswith("-dirty") and not allow_dirty:
        raise PipelineError(
            "the working folder differs from its commit, so the image of that commit would run other code;"
            " commit and run `make image`, or use --allow-dirty"
        )
    return f"{params.cluster.image}:{sha}"


def pinned(params: Params) -> Params:
    """Params with `ingest.revision` as a full commit, so that a run is of one commit and cached. Raises DataError."""
    if not params.ingest.repository or params.ingest.is_fixed:
        return params
    from bmask.data.sources.revisions import pin_revision

    commit = pin_revision(params.ingest.repository, params.ingest.revision)
    return params.model_copy(update={"ingest": params.ingest.model_copy(update={"revision": commit})})


def submit(params: Params, image: str, target: Target, name: str) -> str:
    """Starts a run and returns its id. Raises PipelineError when the server refuses it."""
    with target.answering() as client:
        experiment = target.experiment_id(client)
        with _package(params, image) as package:
            run = client.run_pipeline(experiment, name, str(package), **target.options)
        return target.told(run, "run_id")


def schedule(params: Params, image: str, target: Target, name: str, cron: str) -> str:
    """Creates a recurring run and returns its id. Runs never overlap, and missed runs are not made up for.

    `cron` has six fields, seconds first, as Kubeflow expects. A branch is not pinned: each run reads its newest commit,
    without the cache.

    Raises:
        PipelineError: the server refuses it. DataError: there is no such revision now.
    """
    if len(cron.split()) != 6:
        raise PipelineError(f"--cron {cron!r} needs six fields, seconds first, as in '0 0 3 * * *' for 3 o'clock")
    if (now := pinned(params).ingest.revision) != params.ingest.revision:
        say(f"each run reads the newest commit of {params.ingest.revision or 'HEAD'}; now that is {now}")
    with target.answering() as client:
        experiment = target.experiment_id(client)
        with _package(params, image) as package:
            made = client.create_recurring_run(
                experiment,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=str(package),
                **target.options,
            )
        return target.told(made, "recurring_run_id")


def wait(run_id: str, target: Target, every: float = 10.0) -> None:
    """Prints each change of a task's state until the run ends.

    Raises PipelineError when the run fails, with the names of the failed tasks, or when the server stops answering.
    """
    shown: dict[str, str] = {}
    answered = time.monotonic()
    with target.answering() as client:
        while True:
            try:
                run = client.get_run(run_id)
                answered = time.monotonic()
            except Exception as error:
                if time.monotonic() - answered > MAX_SILENCE or getattr(error, "status", None) in (401, 403, 404):
                    raise
                say(f"no answer ({type(error).__name__}); the run goes on, trying again")
                time.sleep(every)
                continue
            target.told(run, "run_id")
            tasks = run.run_details.task_details or [] if run.run_details else []
            states = {task.task_id: (task.display_name or task.task_id, str(task.state or "PENDING")) for task in tasks}
            for task, (name, state) in states.items():
                if shown.get(task) != state:
                    say(f"{time.strftime('%H:%M:%S')}  {name}: {state.lower()}")
                    shown[task] = state
            if str(run.state) in ENDED:
                break
            time.sleep(every)
    if str(run.state) != "SUCCEEDED":
        failed = sorted({name for name, state in states.values() if state == "FAILED"})
        which = f" (failed: {', '.join(failed)})" if failed else ""
        raise PipelineError(f"run {run_id} ended as {str(run.state).lower()}{which}; its logs are in Kubeflow's UI")


@contextmanager
def _package(params: Params, image: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bmask-pipeline-") as folder:
        path = Path(folder) / "unmask.yaml"
        write_pipeline(build_pipeline(params, image), path)
        yield path
