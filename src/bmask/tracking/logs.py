"""MLflow: what is logged, in batches. Which run it goes to is for `runs` to say.

While a training runs, `Tracker` sends rows and pictures; when it is done, `ensure_logged` brings its run in line with
the stage's outputs, whoever made them and wherever they came from.
"""

from __future__ import annotations

import contextlib
import csv
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmask.errors import DataError
from bmask.files import read_json
from bmask.progress import say
from bmask.tracking.runs import FINGERPRINT, PIPELINE_RUN, activate, active, end, open_run, settle_pipeline
from bmask.tracking.store import GIVEN, connect, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor

    from bmask.gan.translation import Translation

COMPLETE, MODEL_ID, EVALUATED, TRAININGS = "bmask.complete", "bmask.model_id", "bmask.evaluated", "bmask.trainings"
SAMPLES_KEY = "samples"  # one key for all steps: the UI shows them with a slider
BATCH = 1000  # metrics in a request; the server's limit


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
            self.client = connect()
            run = open_run(self.about, adopt=True)
            self.run_id = run.info.run_id
            activate(run, log_system_metrics=True)
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
        self._safely(lambda: ensure_logged(train_folder, floor, adopt=True))

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
        if self.run_id:
            self._safely(lambda: end(status))

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

        running = mlflow.active_run()
        if running and running.info.run_id == self.run_id:
            with contextlib.suppress(Exception):
                end("KILLED")


def ensure_logged(train_folder: Path, floor: float | None = None, adopt: bool = False) -> Run:
    """Brings the run of a training in line with its outputs: params, data, losses, samples, model. Safe to repeat.

    `floor` is the attention floor that the logged model serves with; None takes serving's own. `adopt` is for the task
    that trains: it may take the run that MLFLOW_RUN_ID names (see `runs.open_run`).

    Raises TrackingError when the store does not answer, DataError when the folder is no training's.
    """
    try:
        about = read_json(Path(train_folder) / "run.json")
    except FileNotFoundError:
        raise DataError(f"{train_folder} holds no run.json, so no training; run `bmask train` first") from None
    client = connect()
    run = open_run(about, adopt)
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
    with active(run):
        model_id = _log_model(train_folder, about, floor)
    for key, value in {MODEL_ID: model_id, COMPLETE: "true"}.items():
        client.set_tag(run_id, key, value)
    return client.get_run(run_id)


def log_scores(run_id: str, model_id: str | None, scores: dict[str, float], dataset: tuple[str, str]) -> None:
    """Ties scores to a run and, where a model is named, to it and the data they were measured on, (name, digest)."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    tied = {"model_id": model_id, "dataset_name": dataset[0], "dataset_digest": dataset[1][:36]}
    connect().log_batch(run_id, metrics=[Metric(key, float(value), now, 0, **tied) for key, value in scores.items()])


def log_data_report(run_id: str, page: Path, private: bool) -> None:
    """The report about the photos, as `data/report.html`: ingest itself runs before there is any run. Safe to repeat.

    Raises DataError when it is missing.
    """
    _log_page(connect(), run_id, page, private, "data")


def log_pipeline(
    trainings: list[str],
    decision: dict,
    scores: dict[str, float],
    data_page: Path,
    pages: Iterable[Path],
    private: bool,
) -> None:
    """What a pipeline run on Kubeflow came to: the best training's scores, reports and tables, trainings' run ids.

    They go to the parent of its runs, which ends with it; where Kubeflow's MLflow plugin keeps the parent, to the run
    that it gave this task. Elsewhere nothing happens. Safe to repeat.

    Raises DataError when a page is missing.
    """
    pipeline = os.environ.get("KFP_RUN_ID")
    if not pipeline:
        return
    client = connect()
    parent = settle_pipeline(client)
    run = parent or client.get_run(os.environ[GIVEN])
    run_id, data = run.info.run_id, decision["data_digest"]
    if run.data.tags.get(EVALUATED) != decision["evaluation"]:
        log_scores(run_id, None, scores, ("test photos", data))
    for page in pages:
        _log_page(client, run_id, page, private)
    log_data_report(run_id, data_page, private)
    told = {PIPELINE_RUN: pipeline, TRAININGS: " ".join(trainings), "bmask.best": decision["model"]}
    for key, value in {**told, "data_digest": data, EVALUATED: decision["evaluation"]}.items():
        client.set_tag(run_id, key, value)
    if parent:
        client.set_terminated(run_id, "FINISHED")


def _log_page(client: MlflowClient, run_id: str, path: Path, private: bool, place: str | None = None) -> None:
    """Logs a report or table; one that shows pictures of photos that are private by now is left out."""
    if not path.is_file():
        raise DataError(f"{path} is missing; run the stage that writes {path.parent} again")
    if private and "data:image" in path.read_text(encoding="utf-8"):  # from before the photos were called private
        say(f"{path} shows pictures of private photos, so it is not logged; run the stage that writes it again")
    else:
        client.log_artifact(run_id, str(path), place)


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
    """A request is one transaction and holds whole rows, so the store has a row whole or not at all: see _last_step."""
    from mlflow.entities import Metric

    now, batch = int(time.time() * 1000), []
    for row in rows:
        metrics = [Metric(key, value, now, int(row["step"])) for key, value in row.items() if key != "step"]
        if batch and len(batch) + len(metrics) > BATCH:
            client.log_batch(run_id, metrics=batch)
            batch = []
        batch += metrics
    if batch:
        client.log_batch(run_id, metrics=batch)


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
