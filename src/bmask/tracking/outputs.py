"""A training's outputs in MLflow: logging them, checking them, and fetching them instead of training again.

The run holds every file of the training's folder except the generator, which is in the logged model. It also holds
`outputs.json` with the size and SHA-256 of each file.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bmask.errors import DataError, explained
from bmask.files import fresh_folder, read_json, write_json
from bmask.gan.generator_file import FILE, load_generator, read_about, save_generator
from bmask.progress import say
from bmask.serving.model import SIZE
from bmask.tracking.resolving import ARTIFACT
from bmask.tracking.runs import FINGERPRINT, active, find_run, open_run
from bmask.tracking.sending import last_step, send_rows, send_sheets
from bmask.tracking.store import Gone, TrackingError, connect, failure, reading

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COMPLETE, MODEL_ID, EVALUATED = "bmask.complete", "bmask.model_id", "bmask.evaluated"
OUTPUTS = "outputs.json"
HEADER_KEYS = ("model", "fingerprint", "data_digest")  # keys of run.json that generators' headers have too


def ensure_logged(train_folder: Path, threshold: float | None = None, adopt: bool = False) -> Run:
    """Brings the run of a training in line with its outputs: params, data, losses, samples, files, model. Safe to
    repeat: it checks what the run claims to have, and logs again what is gone. A repeated training may give other bits;
    then everything is logged again, so that files and model of a run are of one training.

    `threshold` is the attention threshold that the logged model serves with; None means serving's default. `adopt` is
    for the task that trains: it may take the run that MLFLOW_RUN_ID names (see `runs.open_run`).

    Raises TrackingError when the store does not answer, DataError when the folder holds no training.
    """
    folder = Path(train_folder)
    try:
        about = read_json(folder / "run.json")
    except FileNotFoundError:
        raise DataError(f"{folder} holds no run.json, so it holds no training; run `bmask train` first") from None
    client = connect()
    if not (folder / FILE).is_file():
        raise DataError(f"{folder} holds no {FILE}; run `bmask train` again")
    run = open_run(about, adopt)
    run_id, complete = run.info.run_id, run.data.tags.get(COMPLETE) == "true"
    held = _held(client, run_id) if complete else {}
    files_there = bool(held) and held[FILE]["sha256"] == _sha256(folder / FILE)
    model_there = files_there and has_model(client, run.data.tags.get(MODEL_ID))
    if files_there and model_there:
        return run
    if complete:
        trouble = "has other files" if held and not files_there else "lacks files"
        say(f"MLflow {trouble} of the training {about['model']}; they are logged again")
        client.delete_tag(run_id, COMPLETE)  # until both are logged: a kill in between must not leave a mixture
    if not files_there:
        _log_files(client, run_id, folder)
        for key in ("data_digest", "data_revision"):  # test photos may change while the training stays the same
            if about.get(key):
                client.set_tag(run_id, key, about[key])
    if not model_there:
        if EVALUATED in run.data.tags:
            client.delete_tag(run_id, EVALUATED)  # the scores are those of the old model
        with active(run):
            client.set_tag(run_id, MODEL_ID, _log_model(folder, about, threshold))
    client.set_tag(run_id, COMPLETE, "true")
    return client.get_run(run_id)


def has_model(client: MlflowClient, model_id: str | None) -> bool:
    """Whether a logged model exists, is not deleted, and its generator has the size that was logged.

    Raises TrackingError if the store cannot tell.
    """
    if not model_id:
        return False
    try:
        with reading():
            size = client.get_logged_model(model_id).tags.get(SIZE)
            listed = client.list_logged_model_artifacts(model_id, str(Path(ARTIFACT).parent))
    except Gone:
        return False
    return any(item.path.endswith(FILE) and size in (None, str(item.file_size)) for item in listed)


def take_back(about: dict, out: Path) -> bool | None:
    """Fetches the folder of a training from MLflow, if MLflow holds all of it.

    `about` is what is known of a training before it starts; a private training gets no samples. Samples and params are
    those that were logged, even if the present params ask for other samples. Names and digests in run.json and in the
    generators' files are the present ones. Every file is compared with its digest; if one differs, the training is
    repeated and logged again.

    Returns whether it did; None if the store failed, which is reported but not raised. Raises OSError when `out` cannot
    be written.
    """
    model, client, run = about["model"], None, None
    try:
        client = connect()
        run = find_run(about["fingerprint"])
        if run is None or run.data.tags.get(COMPLETE) != "true":
            return False
        with fresh_folder(out) as fresh:
            _fetch(client, run, about, fresh)
        with contextlib.suppress(Exception):  # the outputs are fetched, and that is enough
            open_run(about, adopt=True)
    except DataError as error:
        say(f"{model} is trained again, since its outputs cannot be fetched from MLflow ({error})")
        if client and run:
            with contextlib.suppress(Exception):  # else `ensure_logged`, which compares sizes, may not log it again
                client.delete_tag(run.info.run_id, COMPLETE)
        return False
    except Exception as error:  # of MLflow, an object storage's client, a disk
        if explained(error) and not isinstance(error, TrackingError):
            raise
        say(f"{failure(error)}; {model} is trained anyway and logged at the end")
        return None
    say(f"{model}: MLflow holds this training finished; its outputs are fetched from run {run.info.run_id}")
    return True


def _fetch(client: MlflowClient, run: Run, about: dict, fresh: Path) -> None:
    """Downloads what the run holds into `fresh`. Raises DataError if a file is missing or not as it was logged,
    TrackingError if it cannot be read."""
    from mlflow.artifacts import download_artifacts

    run_id, model_id = run.info.run_id, run.data.tags.get(MODEL_ID)
    held = _held(client, run_id)
    if not held or not has_model(client, model_id):
        raise DataError("some of its files are gone")
    with tempfile.TemporaryDirectory() as temporary:
        with reading():
            packed = Path(download_artifacts(f"models:/{model_id}", dst_path=f"{temporary}/model"))
        for name, known in held.items():
            if about["private"] and name.startswith("samples/"):
                continue
            with reading():
                path = packed / ARTIFACT if name == FILE else Path(client.download_artifacts(run_id, name, temporary))
                content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != known["sha256"]:
                raise DataError(f"{name} is damaged")
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_bytes(content)
    (fresh / "samples").mkdir(exist_ok=True)
    for path in fresh.glob("*generator.safetensors"):  # discriminators have no header
        header, present = read_about(path), {key: about[key] for key in HEADER_KEYS}
        if not present.items() <= header.items():
            save_generator(path, load_generator(path)[0], {**header, **present})
    logged = read_json(fresh / "run.json")
    write_json(fresh / "run.json", logged | {key: about[key] for key in (*HEADER_KEYS, "data_revision", "private")})


def _held(client: MlflowClient, run_id: str) -> dict[str, dict]:
    """The run's outputs.json, if the run holds all files but the generator with the right sizes; else an empty dict.

    Raises TrackingError if the store cannot tell.
    """
    with tempfile.TemporaryDirectory() as temporary, reading():
        listed = {item.path: item for item in client.list_artifacts(run_id)}
        if OUTPUTS not in listed:
            return {}
        if "samples" in listed:
            listed |= {item.path: item for item in client.list_artifacts(run_id, "samples")}
        path = Path(client.download_artifacts(run_id, OUTPUTS, temporary))
        try:
            held = read_json(path)
        except ValueError:  # truncated
            return {}
    files = {name: known["bytes"] for name, known in held.items() if name != FILE}
    return held if all(name in listed and listed[name].file_size == size for name, size in files.items()) else {}


def _log_files(client: MlflowClient, run_id: str, folder: Path) -> None:
    with open(folder / "losses.csv", newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]  # a loss may begin later
    sent = last_step(client, run_id)
    send_rows(client, run_id, [row for row in rows if row["step"] > sent])
    no_sheets = all(item.path != "images" for item in client.list_artifacts(run_id))
    send_sheets(client, run_id, sorted((folder / "samples").glob("epoch-*.png")), again=no_sheets)
    held = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        held[str(name)] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        if str(name) != FILE:
            client.log_artifact(run_id, str(path), str(name.parent) if name.parent != Path() else None)
    client.log_dict(run_id, held, OUTPUTS)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _log_model(folder: Path, about: dict, threshold: float | None) -> str:
    from bmask.serving.model import log_generator
    from bmask.serving.unmasker import THRESHOLD

    info = log_generator(
        folder / FILE,
        name=about["model"],
        step=int(about["steps"]),
        tags={FINGERPRINT: about["fingerprint"], "data_digest": about["data_digest"]},
        threshold=THRESHOLD if threshold is None else threshold,
    )
    return info.model_id
