"""Runs a tiny training in this process, and reads what MLflow holds of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from bmask.params import Params
from bmask.stages.train import train
from bmask.tracking.runs import find_run


def train_here(params: Params, model: str = "unmasker") -> Path:
    out = Path("results/train") / model
    train(params, model, Path("results/ingest"), Path("results/augment"), Path("results/masks"), out)
    return out


def rows_of(folder: Path) -> list[dict[str, float]]:
    with open(folder / "losses.csv", newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def run_of(client: MlflowClient, folder: Path) -> Run:
    return client.get_run(find_run(json.loads((folder / "run.json").read_text())["fingerprint"]).info.run_id)


def runs(client: MlflowClient) -> list[Run]:
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def pictures_in(client: MlflowClient, run: Run) -> list[tuple[str, int]]:
    """Key and step of every full-size picture that the UI's slider shows, in order of steps."""
    found = [Path(item.path).name for item in client.list_artifacts(run.info.run_id, "images")]
    parts = [name.replace("%", "+").split("+") for name in found if name.endswith(".png")]
    return sorted((key, int(step)) for key, word, step, *_ in parts if word == "step")


def assert_holds(client: MlflowClient, run: Run, rows: list[dict[str, float]]) -> None:
    """Asserts that the run holds every loss of every row at its step, exactly once."""
    for name in set().union(*rows) - {"step"}:
        history = client.get_metric_history(run.info.run_id, name)
        found = sorted((metric.step, metric.value) for metric in history)
        assert found == [(int(row["step"]), row[name]) for row in rows if name in row], name
