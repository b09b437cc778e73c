"""Versions of the registered model: one for each training and attention threshold, made again if files are gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bmask.gan.generator_file import FILE
from bmask.progress import say
from bmask.serving.model import THRESHOLD_TAG
from bmask.tracking import registry, runs
from bmask.tracking.outputs import MODEL_ID, has_model
from bmask.tracking.registry import Version

ARTIFACTS = "artifacts"  # the folder of a packed model in which MLflow puts the generator
WriteFiles = Callable[[Path, Path], None]  # (generator, folder): writes what serving needs beside it into the folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def version_of(
    client: MlflowClient,
    name: str,
    folder: Path,
    about: dict,
    threshold: float,
    scores: dict,
    write_files: WriteFiles,
) -> Version:
    """The version of a training with this attention threshold, tagged with these scores; created if there is none.

    `folder` is the training's folder, `about` its run.json; the training's run must be complete. `write_files` is
    called only for a new version.
    """
    tags = {registry.SCORE + key: f"{value:g}" for key, value in scores.items()}
    version = find(client, name, about["fingerprint"], threshold)
    if version is None:
        tags |= {key: about[key] for key in ("model", "data_digest")}
        return _create(client, name, folder, about, threshold, tags, write_files)
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, str(version.number), key, value)
    return version


def find(client: MlflowClient, name: str, fingerprint: str, threshold: float) -> Version | None:
    """The version of a training with this attention threshold; its newest successor if files were gone."""
    identity = {"fingerprint": fingerprint, THRESHOLD_TAG: f"{threshold:g}"}
    return next((v for v in registry.versions(client, name) if identity.items() <= v.tags.items()), None)


def mend(client: MlflowClient, name: str, trainings: dict[Path, dict], write_files: WriteFiles) -> None:
    """Gives each version whose files are gone a successor with the same tags and aliases, if its training is in
    `trainings`, which maps folders to run.json. Otherwise reports versions that have an alias and cannot be served.
    `write_files`: as for version_of.
    """
    folders = {about["fingerprint"]: folder for folder, about in trainings.items()}
    for version in registry.versions(client, name):
        folder = folders.get(version.tags.get("fingerprint", ""))
        if registry.REPLACED in version.tags or not (folder or version.aliases) or _is_there(client, version):
            continue
        if folder is None:
            whose = f"version {version.number} of {name}, {' and '.join(version.aliases)}"
            say(f"the files of {whose}, are gone, and its training is not among the results, so it cannot be served")
            continue
        threshold = float(version.tags[THRESHOLD_TAG])
        other = find(client, name, version.tags["fingerprint"], threshold)
        if other is None or other.number == version.number:  # no successor was made before a kill
            other = _create(client, name, folder, trainings[folder], threshold, version.tags, write_files)
        registry.replace(client, name, version, other.number)
        say(f"the files of version {version.number} of {name} are gone; version {other.number} takes its place")


def _is_there(client: MlflowClient, version: Version) -> bool:
    """False when a version that bmask made has lost its model."""
    kind, _, model_id = version.source.partition(":/")
    return kind != "models" or has_model(client, model_id.strip("/"))


def _create(
    client: MlflowClient,
    name: str,
    folder: Path,
    about: dict,
    threshold: float,
    tags: dict[str, str],
    write_files: WriteFiles,
) -> Version:
    run = runs.find_run(about["fingerprint"])
    assert run is not None  # `ensure_logged` has made it
    model_id = _model_with_threshold(client, run, folder, about, threshold)
    if registry.registered_model(client, name) is None:
        client.create_registered_model(name, description="Takes the mask off a photo of a face. Made by bmask.")
    origin = {
        "git_sha": run.data.tags.get("git_sha", "-"),
        "fingerprint": about["fingerprint"],
        THRESHOLD_TAG: f"{threshold:g}",
    }
    with TemporaryDirectory() as more:
        write_files(folder / FILE, Path(more))
        if any(Path(more).iterdir()):
            client.log_model_artifacts(model_id, more, ARTIFACTS)
    made = client.create_model_version(
        name, f"models:/{model_id}", run.info.run_id, tags={**origin, **tags}, model_id=model_id
    )
    return next(v for v in registry.versions(client, name) if v.number == int(made.version))


def _model_with_threshold(client: MlflowClient, run: Run, folder: Path, about: dict, threshold: float) -> str:
    """The id of the training's logged model; logs the model again if the logged threshold differs."""
    from bmask.serving.model import log_generator

    logged = client.get_logged_model(run.data.tags[MODEL_ID])
    if logged.tags.get(THRESHOLD_TAG) == f"{threshold:g}":
        return logged.model_id
    tags = {key: value for key, value in logged.tags.items() if not key.startswith("mlflow.") and key != THRESHOLD_TAG}
    with runs.active(run):
        info = log_generator(
            folder / FILE, name=about["model"], step=int(about["steps"]), tags=tags, threshold=threshold
        )
    return info.model_id
