"""MLflow: logs a training while it runs, scores, reports, and the results of a pipeline run.

While a training runs, `Tracker` sends rows and pictures. When it is done, `outputs.ensure_logged` brings its run in
line with the stage's outputs, which may also come from a cache.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmask.errors import DataError
from bmask.progress import say
from bmask.tracking.outputs import EVALUATED, ensure_logged
from bmask.tracking.runs import PIPELINE_RUN, activate, end, open_run, settle_pipeline
from bmask.tracking.sending import last_step, send_rows, send_sheets
from bmask.tracking.store import GIVEN, connect, failure

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import Tensor

    from bmask.gan.translation import Translation

TRAININGS = "bmask.trainings"


class Tracker:
    """Observer of the training loop that logs to MLflow while the training runs.

    Losses are collected and sent every few seconds; after a resume, rows that the store has are not sent again. If the
    store fails, that is reported once and logging ends: the outputs hold everything, `ensure_logged` sends it later.
    """

    def __init__(self, about: dict, samples: Path, every: float = 10.0, live: bool = True):
        """`live` is false if the store did not answer: then it is asked again only at the end."""
        self.about, self.samples_folder, self.every, self.live = about, samples, every, live
        self.rows: list[dict] = []
        self.sent = time.monotonic()
        self.run_id: str | None = None

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None:
        def start() -> None:
            self.client = connect()
            run = open_run(self.about, adopt=True)
            self.run_id = run.info.run_id
            activate(run, log_system_metrics=True)
            self.last_step = last_step(self.client, self.run_id)
            self.rows = [row for row in history if row["step"] > self.last_step]

        if self.live:
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
            self._safely(lambda: send_sheets(self.client, self.run_id, [sheet]))

    def saved(self) -> None: ...

    def finish(self, train_folder: Path, threshold: float) -> None:
        """Ends the run and brings it in line with the outputs."""
        self._flush()
        self._end("FINISHED")
        self._safely(lambda: ensure_logged(train_folder, threshold, adopt=True))

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
            self._safely(lambda: send_rows(self.client, self.run_id, rows))

    def _end(self, status: str) -> None:
        if self.run_id:
            self._safely(lambda: end(status))

    def _safely(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            say(f"{failure(error)}; `bmask register` or `bmask log` will log the training later")
            self._end_here()
            self.run_id = None

    def _end_here(self) -> None:
        """Ends the active run: until then MLflow refuses to start another one in this process."""
        import mlflow

        running = mlflow.active_run()
        if running and running.info.run_id == self.run_id:
            with contextlib.suppress(Exception):
                end("KILLED")


def log_scores(run_id: str, model_id: str | None, scores: dict[str, float], dataset: tuple[str, str]) -> None:
    """Logs scores to a run, tied to a logged model, if one is named, and to the dataset (name, digest)."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    tied = {"model_id": model_id, "dataset_name": dataset[0], "dataset_digest": dataset[1][:36]}
    connect().log_batch(run_id, metrics=[Metric(key, float(value), now, 0, **tied) for key, value in scores.items()])


def log_data_report(run_id: str, page: Path, private: bool) -> None:
    """Logs the report about the photos as `data/report.html`; ingest runs before there is a run. Safe to repeat.

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
    """Logs the results of a pipeline run on Kubeflow: the best training's scores, reports, tables, trainings' run ids.

    They go to the parent of its runs, which is then ended; if Kubeflow's MLflow plugin made the parent, they go to this
    task's run. Does nothing outside of Kubeflow. Safe to repeat.

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
    tags = {PIPELINE_RUN: pipeline, TRAININGS: " ".join(trainings), "bmask.best": decision["model"]}
    for key, value in {**tags, "data_digest": data, EVALUATED: decision["evaluation"]}.items():
        client.set_tag(run_id, key, value)
    if parent:
        client.set_terminated(run_id, "FINISHED")


def _log_page(client: MlflowClient, run_id: str, path: Path, private: bool, place: str | None = None) -> None:
    """Logs a report or table, unless it shows pictures of photos that are private now."""
    if not path.is_file():
        raise DataError(f"{path} is missing; run the stage that writes {path.parent} again")
    if private and "data:image" in path.read_text(encoding="utf-8"):  # made before the photos were called private
        say(f"{path} shows pictures of private photos, so it is not logged; run the stage that writes it again")
    else:
        client.log_artifact(run_id, str(path), place)
