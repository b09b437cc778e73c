"""The MLflow store: where it is, and that it answers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

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
        raise TrackingError(
            f"the MLflow store {without_password(uri)} does not answer ({first_line(error)});"
            " start it or set MLFLOW_TRACKING_URI"
        ) from None
    return mlflow.MlflowClient()


def first_line(error: Exception) -> str:
    """What a store's error says first. Libraries put the whole address into it, so the password is taken out."""
    return without_password(str(error).partition("\n")[0])[:200]


def without_password(text: str) -> str:
    """`text` with *** for the password that the store's address holds, if it holds one."""
    import mlflow

    password = urlsplit(mlflow.get_tracking_uri()).password
    for form in (password, unquote(password)) if password else ():
        text = text.replace(form, "***")
    return text
