"""For the components in their containers: turns Kubeflow's parameters and artifacts into those of the stages."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bmask.errors import BmaskError, TrainingError, explained
from bmask.files import read_json, write_json
from bmask.params import Params, parse_params

GPUS = "BMASK_GPUS"  # number of GPUs requested; not an input, since inputs are in Kubeflow's cache key


@contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the task as `bmask` ends for errors that a user can fix: one sentence and an exit code, no traceback."""
    try:
        yield
    except (BmaskError, OSError) as error:
        if (told := explained(error)) is None:
            raise
        print(f"bmask: {told[0]}", file=sys.stderr, flush=True)
        sys.exit(told[1])


def params_of(models: Sequence[dict[str, Any]] = (), **sections: dict[str, Any]) -> Params:
    """Params from the sections that a task was given; other sections have their defaults.

    Each entry of `models` has a `name`, since Kubeflow loops over lists and not over dicts. Raises ParamsError.
    """
    named = {entry["name"]: {key: value for key, value in entry.items() if key != "name"} for entry in models}
    return parse_params(_whole({**sections, "models": named}), "the task's parameters")


def on_gpus(train: dict[str, Any]) -> dict[str, Any]:
    """The section `train` for a task that requested GPUs: one process per GPU, whatever the number of cores.

    Raises TrainingError when torch sees fewer: on CPUs the training would take days without any warning.
    """
    from bmask.gan.device import gpus

    requested = int(os.environ.get(GPUS, 0))
    if not requested:
        return train
    if (seen := gpus()) < requested:
        raise TrainingError(
            f"cluster.gpus requested {requested} GPU{'s' * (requested > 1)}, but torch sees {seen or 'none'};"
            " check that the nodes' driver supports the image's CUDA and that one process can use that many of"
            " cluster.gpu, or train on CPUs with cluster.gpus=0"
        )
    return {**train, "processes": requested}


def on_any_node(train: dict[str, Any]) -> dict[str, Any]:
    """The section `train` for a task that does not train: its node may have no GPU, so `cuda` becomes `auto`."""
    return {**train, "device": "auto"} if str(train.get("device", "")).startswith("cuda") else train


def _whole(tree: Any) -> Any:
    """Turns 8.0 into 8, since Kubeflow passes integers as doubles. Where a float is expected, 1 is as good as 1.0."""
    if isinstance(tree, dict):
        return {key: _whole(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_whole(value) for value in tree]
    return int(tree) if isinstance(tree, float) and tree.is_integer() else tree


@contextmanager
def training_folder(trainings: Sequence[str]) -> Iterator[Path]:
    """A folder as `bmask train` leaves it, with a link for each model to the artifact of its task."""
    with tempfile.TemporaryDirectory(prefix="bmask-trainings-") as folder:
        for path in map(Path, trainings):
            (Path(folder) / read_json(path / "run.json")["model"]).symlink_to(path.resolve())
        yield Path(folder)


def result(folder: str, name: str, *keys: str) -> dict[str, Any]:
    """A stage's JSON file, or some of its keys."""
    tree = read_json(Path(folder) / name)
    return {key: tree[key] for key in keys} if keys else tree


def last_losses(folder: str) -> dict[str, float]:
    """The last row of a training's losses.csv."""
    with open(Path(folder) / "losses.csv", newline="", encoding="utf-8") as file:
        *_, row = csv.DictReader(file)
    return {name: float(value) for name, value in row.items() if value}


def log_numbers(metrics: Any, tree: dict[str, Any]) -> None:
    """Logs the numbers of a nested dict to a KFP Metrics artifact, named a.b.c, without the ends of intervals.

    Also writes them as JSON: kfp's local cache treats an artifact without a file as missing.
    """
    numbers = _numbers(tree)
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    write_json(Path(metrics.path), numbers)


def _numbers(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not key.endswith(("_low", "_high")):
            found[f"{prefix}{key}"] = float(value)
    return found
