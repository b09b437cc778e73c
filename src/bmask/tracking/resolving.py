"""Finds the generator file that belongs to a model's name as people type it."""

from __future__ import annotations

import os
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from bmask.errors import DataError
from bmask.gan.generator_file import FILE

REGISTERED = "bmask-unmasker"  # as params.register.name
ARTIFACT = f"artifacts/{FILE}"  # its place inside a packed model
ALIASES = ("champion", "challenger")
SHIPPED = "photos-128"  # the generator that comes with bmask


def resolve(name: str | Path, registered: str = REGISTERED, trained: Path = Path("results/train")) -> Path:
    """Finds the generator file that `name` means.

    Args:
        name: a generator file; a folder that holds one (`results/train/attentiongan`, a packed model); the name of a
            training below `trained`; `champion` or `challenger`; an MLflow address such as
            `models:/bmask-unmasker@champion`, `models:/bmask-unmasker/3` or `models:/m-...`; or the name of one that
            ships with bmask.
        registered: the registered model that the aliases belong to.

    Raises:
        DataError: there is no such model; the message lists those that exist.
    """
    name = str(name).removeprefix("@")
    if name in ALIASES:
        return _download(f"models:/{registered}@{name}", registered, trained)
    if ":/" in name:
        return _download(name, registered, trained)
    for folder in (Path(name), trained / name, *_shipped(name)):
        for path in (folder, folder / FILE, folder / ARTIFACT):
            if path.is_file():
                return path
    trouble = f"{name} holds no {FILE}" if Path(name).is_dir() else f"there is no model {name}"
    raise DataError(f"{trouble}; {_listed(_known(registered, trained))}")


def best(registered: str = REGISTERED) -> str:
    """The name of the default model: the champion if there is one, else the shipped one.

    Raises TrackingError if the store cannot tell.
    """
    from bmask.tracking.store import Gone, NoStore, TrackingError, connect, reading

    if find_spec("mlflow") is None:  # an installation that only serves
        if os.environ.get("MLFLOW_TRACKING_URI"):
            raise TrackingError(
                f"MLFLOW_TRACKING_URI is set, but MLflow is not installed; --model {SHIPPED} needs no MLflow"
            )
        return SHIPPED

    try:
        with reading():
            aliases = connect(create=False).get_registered_model(registered).aliases
    except (NoStore, Gone):
        return SHIPPED
    return ALIASES[0] if ALIASES[0] in aliases else SHIPPED


def _shipped(name: str) -> list[Path]:
    found = Path(str(files("bmask_weights"))) / name
    return [found] if name == Path(name).name and found.is_dir() else []


def beside(generator: Path, name: str) -> Path | None:
    """Another file of a generator's training, from the generator's folder or from the run that logged the model.

    None if there is none. Raises TrackingError if the store cannot tell.
    """
    path, described = generator.with_name(name), generator.parent.parent / "MLmodel"
    if path.is_file():
        return path
    if not described.is_file():
        return None
    from mlflow.models import Model

    from bmask.tracking.store import Gone, NoStore, connect, reading

    try:
        client = connect(create=False)
        with reading():
            run_id = Model.load(str(described)).run_id
            there = run_id and any(item.path == name for item in client.list_artifacts(run_id))
            return Path(client.download_artifacts(run_id, name)) if there else None
    except (Gone, NoStore):  # the model came from elsewhere
        return None


def _download(address: str, registered: str, trained: Path) -> Path:
    import mlflow

    from bmask.tracking.store import NoStore, connect, first_line

    try:
        connect(create=False)
    except NoStore as error:
        raise DataError(f"there is no model {address}: {error}") from None
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=address)) / ARTIFACT
        reason = "" if path.is_file() else f"it holds no {ARTIFACT}"
    except Exception as error:  # of MLflow, a file system, an object storage's client
        reason = first_line(error).rstrip(".")
    if not reason:
        return path
    known = _known(registered, trained)
    if address in {*known, *(f"models:/{registered}@{alias}" for alias in known)}:
        remedy = "if they are gone, `bmask register` logs them again from the training's results"
        raise DataError(f"the files of {address} cannot be read ({reason}); {remedy}")
    raise DataError(f"there is no model {address} ({reason}); {_listed(known)}")


def _known(registered: str, trained: Path) -> list[str]:
    """The names of all models that can be found."""
    names = [str(path.parent) for path in sorted(trained.glob(f"[!.]*/{FILE}"))]
    if find_spec("mlflow") is None:
        return names
    from mlflow.exceptions import MlflowException

    from bmask.tracking.store import TrackingError, connect

    try:
        client = connect(create=False)
        names += client.get_registered_model(registered).aliases
        versions = client.search_model_versions(f"name='{registered}'")
        names += [f"models:/{registered}/{version.version}" for version in reversed(versions)]
    except (MlflowException, TrackingError):
        pass  # nothing registered yet, or no store to ask
    return names


def _listed(names: list[str]) -> str:
    there = f"there are {', '.join(names)}" if names else "nothing is trained or registered yet: run the pipeline first"
    return f"{there}; {SHIPPED} ships with bmask"
