"""From the name of a model, as people type it, to a generator file on this machine."""

from __future__ import annotations

from pathlib import Path

from bmask.errors import DataError
from bmask.gan.generator_file import FILE

REGISTERED = "bmask-unmasker"  # as params.register.name
ARTIFACT = f"artifacts/{FILE}"  # its place inside a packed model
ALIASES = ("champion", "challenger")


def resolve(name: str | Path, registered: str = REGISTERED, trained: Path = Path("results/train")) -> Path:
    """Finds the generator file that `name` means.

    Args:
        name: a generator file; a folder that holds one (`results/train/attentiongan`, a packed model); the name of a
            training below `trained`; `champion` or `challenger`; or an MLflow address such as
            `models:/bmask-unmasker@champion`, `models:/bmask-unmasker/3` or `models:/m-...`.
        registered: the registered model that the aliases belong to.

    Raises:
        DataError: there is no such model; the sentence lists those that exist.
    """
    name = str(name)
    if name in ALIASES:
        return _download(f"models:/{registered}@{name}", registered, trained)
    if ":/" in name:
        return _download(name, registered, trained)
    for folder in (Path(name), trained / name):
        for path in (folder, folder / FILE, folder / ARTIFACT):
            if path.is_file():
                return path
    if Path(name).is_dir():
        raise DataError(f"{name} holds no {FILE}; {_known(registered, trained)}")
    raise DataError(f"there is no model {name}; {_known(registered, trained)}")


def _download(address: str, registered: str, trained: Path) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException

    from bmask.tracking.store import connect

    connect()
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=address)) / ARTIFACT
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"there is no model {address} ({reason}); {_known(registered, trained)}") from None
    if not path.is_file():
        raise DataError(f"{address} holds no {ARTIFACT}, so bmask did not log it; {_known(registered, trained)}")
    return path


def _known(registered: str, trained: Path) -> str:
    """What could have been named, as the end of a sentence."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from bmask.tracking.store import connect

    names = [str(path.parent) for path in sorted(trained.glob(f"[!.]*/{FILE}"))]
    connect()
    try:
        names += MlflowClient().get_registered_model(registered).aliases
        versions = MlflowClient().search_model_versions(f"name='{registered}'")
        names += [f"models:/{registered}/{version.version}" for version in reversed(versions)]
    except MlflowException:
        pass  # nothing registered yet, or no store to ask
    return f"there are {', '.join(names)}" if names else "nothing is trained or registered yet: run the pipeline first"
