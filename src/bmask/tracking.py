"""MLflow: which run a training is, and what is logged, in batches.

A training is found again by its fingerprint, a tag. While it trains, `Tracker` sends rows and pictures; when it is
done, `ensure_logged` brings the run in line with the stage's outputs, whoever made them and wherever they came from.
"""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmask.errors import DataError
from bmask.files import read_json
from bmask.progress import say
from bmask.store import connect, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor

    from bmask.gan.translation import Translation

FINGERPRINT, COMPLETE, MODEL_ID, EVALUATED = "bmask.fingerprint", "bmask.complete", "bmask.model_id", "bmask.evaluated"
SAMPLES_KEY = "samples"  # one key for all steps: the UI shows them with a slider
BATCH = 1000  # metrics in a request; the server's limit


def find_run(fingerprint: str) -> Run | None:
    """The run of the training with this fingerprint in the current experiment, the newest if there are several."""
    import mlflow

    clause = f"tags.`{FINGERPRINT}` = '{fingerprint}'"
    found = mlflow.search_runs(filter_string=clause, output_format="list", max_results=1, search_all_experiments=True)
    return found[0] if found else None


def git_sha() -> str:
    """The commit of the working folder, `-dirty` when tracked files differ from it, `unknown` outside git."""
    try:
        describe = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Tracker:
    """Observer of the training loop that logs to MLflow while the training runs.

    Losses gather and leave in one request per few seconds; after a resume, rows that the store has are not sent again.
    A store that fails is reported once and left alone: the outputs hold everything, `ensure_logged` sends it later.
    """

    def __init__(self, about: dict, samples: Path, every: float = 10.0):
        self.about, self.samples_folder, self.every = about, samples, every
        self.rows: list[dict] = []
        self.sent = time.monotonic()
        self.run_id: str | None = None

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None:
        def start() -> None:
            import mlflow

            self.client = connect()
            self.run_id = _open_run(self.about).info.run_id
            mlflow.start_run(run_id=self.run_id, log_system_metrics=True)
            self.last_step = _last_step(self.client, self.run_id)
            self.rows = [row for row in history if row["step"] > self.last_step]

        self._safely(start)

    def losses(self, row: dict) -> None:
        if self.run_id and row["step"] > self.last_step:
            self.rows.append(row)
        if time.monotonic() - self.sent >= self.every:
            self._flush()

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None:
        self._flush()
        sheet = self.samples_folder / f"epoch-{epoch:04d}.png"
        if self.run_id and sheet.exists():
            self._safely(lambda: _log_sheets(self.client, self.run_id, [sheet]))

    def saved(self) -> None: ...

    def finish(self, train_folder: Path, floor: float) -> None:
        """Ends the run and brings it in line with the outputs."""
        self._flush()
        self._end("FINISHED")
        self._safely(lambda: ensure_logged(train_folder, floor))

    def failed(self, why: str) -> None:
        self._flush()
        if self.run_id:
            self._safely(lambda: self.client.set_tag(self.run_id, "bmask.failure", why))
        self._end("FAILED")

    def interrupted(self) -> None:
        self._end("KILLED")

    def _flush(self) -> None:
        rows, self.rows, self.sent = self.rows, [], time.monotonic()
        if self.run_id and rows:
            self._safely(lambda: _log_rows(self.client, self.run_id, rows))

    def _end(self, status: str) -> None:
        import mlflow

        if self.run_id:
            self._safely(lambda: mlflow.end_run(status))

    def _safely(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            say(f"MLflow failed ({first_line(error)}); `bmask register` or `bmask log` will log the training later")
            self._end_here()
            self.run_id = None

    def _end_here(self) -> None:
        """Else the next run in this process would find one active."""
        import mlflow

        active = mlflow.active_run()
        if active and active.info.run_id == self.run_id:
            with contextlib.suppress(Exception):
                mlflow.end_run("KILLED")


def ensure_logged(train_folder: Path, floor: float | None = None) -> Run:
    """Brings the run of a training in line with its outputs: params, data, losses, samples, model. Safe to repeat.

    `floor` is the attention floor that the logged model serves with; None takes serving's own.

    Raises TrackingError when the store does not answer, DataError when the folder is no training's.
    """
    import mlflow

    try:
        about = read_json(Path(train_folder) / "run.json")
    except FileNotFoundError:
        raise DataError(f"{train_folder} holds no run.json, so no training; run `bmask train` first") from None
    client = connect()
    run = _open_run(about)
    if run.data.tags.get(COMPLETE) == "true":
        return run
    run_id = run.info.run_id
    last_step = _last_step(client, run_id)
    with open(Path(train_folder) / "losses.csv", newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    _log_rows(client, run_id, [row for row in rows if row["step"] > last_step])
    _log_sheets(client, run_id, sorted((Path(train_folder) / "samples").glob("epoch-*.png")))
    for name in ("losses.csv", "run.json"):
        client.log_artifact(run_id, str(Path(train_folder) / name))
    with mlflow.start_run(run_id=run_id):
        model_id = _log_model(train_folder, about, floor)
    for key, value in {MODEL_ID: model_id, COMPLETE: "true"}.items():
        client.set_tag(run_id, key, value)
    return client.get_run(run_id)


def log_scores(run_id: str, model_id: str, scores: dict[str, float], dataset: tuple[str, str]) -> None:
    """Ties scores to a training's run and model and to the data they were measured on, (name, digest)."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    tied = {"model_id": model_id, "dataset_name": dataset[0], "dataset_digest": dataset[1][:36]}
    connect().log_batch(run_id, metrics=[Metric(key, float(value), now, 0, **tied) for key, value in scores.items()])


def _open_run(about: dict) -> Run:
    """The run of this training: found by its fingerprint, named by MLFLOW_RUN_ID, or new with params, tags and data."""
    import mlflow

    client = mlflow.MlflowClient()
    run = find_run(about["fingerprint"])
    if run is not None:
        return run
    given = os.environ.get("MLFLOW_RUN_ID")
    tags = {FINGERPRINT: about["fingerprint"], "bmask.model": about["model"], "git_sha": git_sha()}
    tags["data_digest"] = about["data_digest"]
    with mlflow.start_run(run_id=given, run_name=None if given else about["model"]) as active:
        mlflow.set_tags(tags)
        mlflow.log_params(_flat(about["params"]))
        mlflow.log_input(_dataset(about["data_digest"]), context="training")
    return client.get_run(active.info.run_id)


def _dataset(digest: str) -> Any:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    # The digest column takes 36 characters; the whole is in the run's tag.
    return MetaDataset(CodeDatasetSource({"stage": "ingest"}), name="photos", digest=digest[:36])


def _log_model(train_folder: Path, about: dict, floor: float | None) -> str:
    from bmask.serving.model import log_generator
    from bmask.serving.unmasker import FLOOR

    info = log_generator(
        Path(train_folder) / "generator.safetensors",
        name=about["model"],
        step=int(about["steps"]),
        tags={FINGERPRINT: about["fingerprint"], "data_digest": about["data_digest"]},
        floor=FLOOR if floor is None else floor,
    )
    return info.model_id


def _log_rows(client: MlflowClient, run_id: str, rows: list[dict]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, int(row["step"])) for row in rows for key, value in row.items() if key != "step"]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def _log_sheets(client: MlflowClient, run_id: str, sheets: list[Path]) -> None:
    """Logs sample sheets under one key with the epoch as the step; those that the run has are left out."""
    from PIL import Image

    tag = "bmask.samples_epochs"
    logged = client.get_run(run_id).data.tags.get(tag, "").split()
    for sheet in sheets:
        epoch = int(sheet.stem.rpartition("-")[2])
        if str(epoch) not in logged:
            client.log_image(run_id, Image.open(sheet), key=SAMPLES_KEY, step=epoch)
            logged.append(str(epoch))
            client.set_tag(run_id, tag, " ".join(logged))


def _last_step(client: MlflowClient, run_id: str) -> int:
    history = client.get_metric_history(run_id, "total")
    return max((metric.step for metric in history), default=0)


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
