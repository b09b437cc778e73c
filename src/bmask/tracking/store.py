"""The MLflow store: connecting to it, and messages that say what to do if it fails."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from bmask.errors import FULL, BmaskError
from bmask.tracking import location

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT, GIVEN = "bmask", "MLFLOW_RUN_ID"  # names a run that was opened for this process, e.g. by a cluster
GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")


class TrackingError(BmaskError):
    """The tracking store cannot be used."""

    exit_code = 5


class Gone(TrackingError):
    """The store answers, but does not hold what was asked for."""


class NoStore(TrackingError):
    """There is no store yet, and a reader must not create one."""


def connect(create: bool = True) -> MlflowClient:
    """The client of the store that MLFLOW_TRACKING_URI names, else of the database mlflow.db in the working folder.

    With `create`, the store and the experiment are made if they do not exist.

    Raises TrackingError when the store cannot be used, NoStore when it does not exist and `create` is false.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise TrackingError("MLFLOW_TRACKING_URI is not set and a pod's disk does not last; set it in the config map")
    uri, file = location.address()
    if file and not create and not file.exists():  # before MLflow is imported, which takes seconds
        raise NoStore(f"there is no MLflow store {uri} yet; run the pipeline first or set MLFLOW_TRACKING_URI")
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs tracebacks and raises too
    mlflow.set_tracking_uri(uri)
    try:
        with _locked(file):
            if file and file.exists():
                location.follow(file)
            client = mlflow.MlflowClient()
            if create:
                _enter(client, file)
            else:
                client.search_experiments(max_results=1)
    except TrackingError:
        raise
    except Exception as error:  # of MLflow, SQLAlchemy, Alembic, a database's driver
        raise TrackingError(f"the MLflow store {without_password(uri)} {_trouble(error, uri)}") from None
    return client


def experiment_name() -> str:
    """The name of the experiment for new runs."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def first_line(error: Exception) -> str:
    """The first line of a store's error, without the password: libraries put the whole address into errors."""
    return without_password(str(error).partition("\n")[0])[:200]


def without_password(text: str) -> str:
    """`text` with *** in place of the password in the store's address, if there is one.

    Libraries disagree on where a password with an unquoted #, / or @ ends. So two readings are replaced, each plain and
    quoted: SQLAlchemy's, and everything up to the last @.
    """
    import mlflow
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    address = mlflow.get_tracking_uri()
    found = re.match(r"[^/]+://[^/:@]*:(.+)@", address)
    written = found[1] if found else ""
    try:
        password = str(make_url(address).password or "")
    except (ArgumentError, ValueError):
        password = ""
    plain = {written, unquote(written), password} - {""}
    forms = plain | {quote(form, safe) for form in plain for safe in ("", "/", " +")}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def failure(error: Exception) -> str:
    """What went wrong with the store, as the beginning of a sentence."""
    return str(error) if isinstance(error, TrackingError) else f"MLflow failed ({first_line(error)})"


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turns the many errors of reading from the store into TrackingError, or Gone if the store says that it is gone.
    Errors of a full local disk pass unchanged."""
    try:
        yield
    except BmaskError:
        raise
    except Exception as error:  # of MLflow, an object storage's client, HTTP
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        kind = Gone if getattr(error, "error_code", "") in GONE else TrackingError
        raise kind(f"{failure(error)}; check that its files can be reached and read from here") from None


@contextlib.contextmanager
def _locked(file: Path | None) -> Iterator[None]:
    """Keeps other processes from making tables or experiments at the same time, which MLflow does not do safely."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system that cannot lock folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _enter(client: MlflowClient, file: Path | None) -> None:
    """Makes the experiment for new runs MLflow's active one."""
    import mlflow
    from mlflow.exceptions import MlflowException

    name, given = experiment_name(), os.environ.get(GIVEN)
    if given:
        try:
            found = client.get_experiment(client.get_run(given).info.experiment_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            known = f"does not know the run {given}; unset {GIVEN} or set MLFLOW_TRACKING_URI"
            raise TrackingError(f"the MLflow store {without_password(mlflow.get_tracking_uri())} {known}") from None
    else:
        found = client.get_experiment_by_name(name) or _create(client, name, file)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {found.name} in the MLflow store {without_password(mlflow.get_tracking_uri())} is deleted;"
            f" restore it with `mlflow experiments restore --experiment-id {found.experiment_id}`,"
            " or set MLFLOW_EXPERIMENT_NAME to another one"
        )
    mlflow.set_experiment(experiment_id=found.experiment_id)


def _create(client: MlflowClient, name: str, file: Path | None) -> Experiment:
    from mlflow.exceptions import MlflowException

    place = location.place(file, name) if file else {}
    try:
        client.create_experiment(name, **place)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise
    made = client.get_experiment_by_name(name)
    assert made is not None
    return made


def _trouble(error: Exception, uri: str) -> str:
    """What is wrong with the store and what to do, as the end of a sentence."""
    said, code = first_line(error), getattr(error, "error_code", "")
    if isinstance(error, ImportError):
        return f"needs a database driver that is not installed ({error.name}); install it or set MLFLOW_TRACKING_URI"
    if "database schema" in said or type(error).__module__.startswith("alembic"):
        remedy = f"`mlflow db upgrade {without_password(uri)}`"
        return f"has the tables of another MLflow version; back it up and run {remedy}, or install the one that made it"
    if "filesystem tracking backend" in said:
        move = "move its runs into a database with `mlflow migrate-filestore`"
        return f"is a folder, which MLflow no longer supports; {move} and set MLFLOW_TRACKING_URI={location.DEFAULT}"
    if "UnsupportedModelRegistryStoreURI" in type(error).__name__ or type(error).__name__ == "ArgumentError":
        forms = f"http://host:5000, {location.DEFAULT} or postgresql://user@host/database"
        return f"has an address that MLflow does not know; write MLFLOW_TRACKING_URI like {forms}"
    if code in REFUSED:
        allowed = "the server's --allowed-hosts must include its host name"
        return f"refuses access ({said}); check MLFLOW_TRACKING_USERNAME, _PASSWORD or _TOKEN; {allowed}"
    if "not in a valid JSON format" in said or code in ("ENDPOINT_NOT_FOUND", "NOT_FOUND"):
        return f"answers, but not as MLflow does ({said}); check the login, and the address in MLFLOW_TRACKING_URI"
    return f"does not answer ({said}); start it or set MLFLOW_TRACKING_URI"
