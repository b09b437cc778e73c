"""Sends rows of losses and sample sheets to a run. Safe to repeat after a kill."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

SAMPLES_KEY = "samples"  # one key for all steps: the UI shows them with a slider
BATCH = 1000  # metrics in a request; the server's limit
EPOCHS = "bmask.samples_epochs"


def send_rows(client: MlflowClient, run_id: str, rows: list[dict]) -> None:
    """Sends whole rows in each request, which is one transaction, so that `last_step` can rely on complete rows."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    batch: list[Metric] = []
    for row in rows:
        metrics = [Metric(key, value, now, int(row["step"])) for key, value in row.items() if key != "step"]
        if batch and len(batch) + len(metrics) > BATCH:
            client.log_batch(run_id, metrics=batch)
            batch = []
        batch += metrics
    if batch:
        client.log_batch(run_id, metrics=batch)


def last_step(client: MlflowClient, run_id: str) -> int:
    """The step of the last row that the run has; 0 without any."""
    history = client.get_metric_history(run_id, "total")
    return max((metric.step for metric in history), default=0)


def send_sheets(client: MlflowClient, run_id: str, sheets: list[Path], again: bool = False) -> None:
    """Logs sample sheets under one key with the epoch as the step. Skips those that the run has, unless `again`."""
    from PIL import Image

    logged = [] if again else client.get_run(run_id).data.tags.get(EPOCHS, "").split()
    for sheet in sheets:
        epoch = int(sheet.stem.rpartition("-")[2])
        if str(epoch) not in logged:
            client.log_image(run_id, Image.open(sheet), key=SAMPLES_KEY, step=epoch)
            logged.append(str(epoch))
            client.set_tag(run_id, EPOCHS, " ".join(logged))
