"""The MLflow store: where it is, and that it answers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from bmask.errors import BmaskError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "bmask"


class TrackingError(BmaskError):
    """The tracking store cannot be used."""

    exit_code = 5


def connect() -> MlflowClient:
    """The client of the store that MLFLOW_TRACKING_URI names, else of sqlite:///mlflow.db in the working folder.

    Raises TrackingError when it does not answer.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    mlflow.set_tracking_uri(uri)
    try:
        if not os.environ.get("MLFLOW_RUN_ID"):
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
    except Exception as error:
        cause = str(error).splitlines()[0][:200]
        raise TrackingError(
            f"the MLflow store {_without_password(uri)} does not answer ({cause}); start it or set MLFLOW_TRACKING_URI"
        ) from None
    return mlflow.MlflowClient()


def _without_password(uri: str) -> str:
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(uri)
    if not parts.password:
        return uri
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.hostname}{port}"))
