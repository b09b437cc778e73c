"""A training's outputs in MLflow: logged whole, checked against what is there, taken back instead of training again.

The run holds every file of the training's folder but the generator, which is in the logged model, and `outputs.json`
with the size and SHA-256 of each.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bmask.errors import DataError
from bmask.files import fresh_folder, read_json, write_json
from bmask.gan.generator_file import FILE
from bmask.progress import say
from bmask.serving.model import SIZE
from bmask.tracking.resolving import ARTIFACT
from bmask.tracking.runs import FINGERPRINT, active, find_run, open_run
from bmask.tracking.sending import last_step, send_rows, send_sheets
from bmask.tracking.store import TrackingError, connect, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COMPLETE, MODEL_ID, EVALUATED = "bmask.complete", "bmask.model_id", "bmask.evaluated"
OUTPUTS = "outputs.json"
GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def ensure_logged(train_folder: Path, floor: float | None = None, adopt: bool = False) -> Run:
    """Brings the run of a training in line with its outputs: params, data, losses, samples, files, model. Safe to
    repeat: what the run says it has is looked for, and logged again where it is gone.

    `floor` is the attention floor that the logged model serves with; None takes serving's own. `adopt` is for the task
    that trains: it may take the run that MLFLOW_RUN_ID names (see `runs.open_run`).

    Raises TrackingError when the store does not answer, DataError when the folder is no training's.
    """
    folder = Path(train_folder)
    try:
        about = read_json(folder / "run.json")
    except FileNotFoundError:
        raise DataError(f"{folder} holds no run.json, so no training; run `bmask train` first") from None
    client = connect()
    run = open_run(about, adopt)
    run_id, complete = run.info.run_id, run.data.tags.get(COMPLETE) == "true"
    files_there = complete and bool(_held(client, run_id))
    model_there = complete and has_model(client, run.data.tags.get(MODEL_ID))
    if files_there and model_there:
        return run
    if complete:
        say(f"MLflow lacks files of the training {about['model']}; they are logged again")
    if not files_there:
        _log_files(client, run_id, folder)
    if not model_there:
        if EVALUATED in run.data.tags:
            client.delete_tag(run_id, EVALUATED)  # scores are tied to the model
        with active(run):
            client.set_tag(run_id, MODEL_ID, _log_model(folder, about, floor))
    client.set_tag(run_id, COMPLETE, "true")
    return client.get_run(run_id)


def has_model(client: MlflowClient, model_id: str | None) -> bool:
    """Whether a logged model is there, not deleted, with a generator as long as it was when it was logged."""
    from mlflow.exceptions import MlflowException

    if not model_id:
        return False
    try:
        size = client.get_logged_model(model_id).tags.get(SIZE)
        listed = client.list_logged_model_artifacts(model_id, str(Path(ARTIFACT).parent))
    except MlflowException as error:
        if error.error_code not in GONE:
            raise
        return False
    return any(item.path.endswith(FILE) and size in (None, str(item.file_size)) for item in listed)


def take_back(about: dict, out: Path) -> bool | None:
    """Writes the folder of a training that MLflow holds whole, as training it again would; nothing where it does not.

    `about` is what is known of a training before it starts; a private one gets no samples. Every file is read and
    compared with its digest. Returns whether it did; None where the store failed, which is told and nothing else.
    """
    model = about["model"]
    try:
        client = connect()
        run = find_run(about["fingerprint"])
        if run is None or run.data.tags.get(COMPLETE) != "true":
            return False
        with fresh_folder(out) as fresh:
            _fetch(client, run, about, fresh)
        with contextlib.suppress(Exception):  # the outputs are there
            open_run(about, adopt=True)
    except DataError as error:
        say(f"{model} is trained again, since what MLflow has of it cannot be taken ({error})")
        return False
    except Exception as error:  # of MLflow, an object storage's client, a disk
        told = str(error) if isinstance(error, TrackingError) else f"MLflow failed ({first_line(error)})"
        say(f"{told}; {model} is trained without it and logged at the end")
        return None
    say(f"{model}: MLflow has this training, finished, so its outputs are taken from run {run.info.run_id}")
    return True


def _fetch(client: MlflowClient, run: Run, about: dict, fresh: Path) -> None:
    """Downloads what the run holds into `fresh`. Raises DataError where a file is missing or not as it was logged."""
    from mlflow.artifacts import download_artifacts

    run_id, model_id = run.info.run_id, run.data.tags.get(MODEL_ID)
    held = _held(client, run_id)
    if not held or not has_model(client, model_id):
        raise DataError("some of its files are gone")
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(download_artifacts(f"models:/{model_id}", dst_path=f"{temporary}/model"))
        for name, known in held.items():
            if about["private"] and name.startswith("samples/"):
                continue
            path = packed / ARTIFACT if name == FILE else Path(client.download_artifacts(run_id, name, temporary))
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != known["sha256"]:
                raise DataError(f"{name} is damaged")
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_bytes(content)
    (fresh / "samples").mkdir(exist_ok=True)
    was = read_json(fresh / "run.json")
    for key in ("model", "data_digest"):  # they are in the generators' files too
        if was[key] != about[key]:
            raise DataError(f"its {key} is {was[key]}")
    write_json(fresh / "run.json", {**was, **about})


def _held(client: MlflowClient, run_id: str) -> dict[str, dict]:
    """What the run holds by its outputs.json, if all but the generator is listed with its size; else nothing."""
    listed = {item.path: item for item in client.list_artifacts(run_id)}
    if OUTPUTS not in listed:
        return {}
    if "samples" in listed:
        listed |= {item.path: item for item in client.list_artifacts(run_id, "samples")}
    with tempfile.TemporaryDirectory() as temporary:
        held = read_json(Path(client.download_artifacts(run_id, OUTPUTS, temporary)))
    files = {name: known["bytes"] for name, known in held.items() if name != FILE}
    return held if all(name in listed and listed[name].file_size == size for name, size in files.items()) else {}


def _log_files(client: MlflowClient, run_id: str, folder: Path) -> None:
    with open(folder / "losses.csv", newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    sent = last_step(client, run_id)
    send_rows(client, run_id, [row for row in rows if row["step"] > sent])
    none_there = all(item.path != "images" for item in client.list_artifacts(run_id))
    send_sheets(client, run_id, sorted((folder / "samples").glob("epoch-*.png")), again=none_there)
    held = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        held[str(name)] = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        if str(name) != FILE:
            client.log_artifact(run_id, str(path), str(name.parent) if name.parent != Path() else None)
    client.log_dict(run_id, held, OUTPUTS)


def _log_model(folder: Path, about: dict, floor: float | None) -> str:
    from bmask.serving.model import log_generator
    from bmask.serving.unmasker import FLOOR

    info = log_generator(
        folder / FILE,
        name=about["model"],
        step=int(about["steps"]),
        tags={FINGERPRINT: about["fingerprint"], "data_digest": about["data_digest"]},
        floor=FLOOR if floor is None else floor,
    )
    return info.model_id
