"""The MLflow store: where it is, and that it answers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from bmask.errors import BmaskError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT, GIVEN = "bmask", "MLFLOW_RUN_ID"  # a run that was opened for this process, by a cluster for example


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
    if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise TrackingError("MLFLOW_TRACKING_URI is not set and a pod's disk does not last; set it in the config map")
    mlflow.set_tracking_uri(uri)
    client, given = mlflow.MlflowClient(), os.environ.get(GIVEN)
    try:
        if given:
            mlflow.set_experiment(experiment_id=client.get_run(given).info.experiment_id)
        else:
            mlflow.set_experiment(experiment_name())
    except Exception as error:
        if given and getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            trouble = f"does not know the run {given}; unset {GIVEN} or set MLFLOW_TRACKING_URI"
        else:
            trouble = f"does not answer ({first_line(error)}); start it or set MLFLOW_TRACKING_URI"
        raise TrackingError(f"the MLflow store {without_password(uri)} {trouble}") from None
    return client


def experiment_name() -> str:
    """Of the experiment where runs begin."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


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
