"""What decides the bits of a training: the same fingerprint, the same generators, wherever it runs and is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bmask.gan.device import pick_device, pick_precision
from bmask.reach import code_of_training

if TYPE_CHECKING:
    from bmask.params import Params
    from bmask.params.sections import Model

SCHEDULE = ("epochs", "constant_epochs")  # left out: a longer training may go on from a shorter one's checkpoint


def fingerprint(params: Params, recipe: Model, data: str, warm: dict[str, Path], processes: int = 1) -> dict:
    """All but its length, as JSON values by name. `data`: the photos' digest; `warm`: files that it begins from."""
    device = pick_device(params.train.device)
    shared = params.train.model_dump(include={"image_size", "seed", "threads", "compile", "pool", "ema", "log_every"})
    schedule = recipe.schedule.model_dump(exclude=set(SCHEDULE))
    if warm:
        schedule["warm_start"] = {way: hashlib.sha256(path.read_bytes()).hexdigest() for way, path in warm.items()}
    return {
        **{f"train.{key}": value for key, value in shared.items()},
        **{f"schedule.{key}": value for key, value in schedule.items()},
        **{f"network.{key}": value for key, value in asdict(recipe.network).items()},
        "device": device.type,
        "processes": processes,
        "precision": pick_precision(params.train.precision, device),
        "data": data,
        "torch": torch.__version__,
        "code": code_of_training(recipe.network.system),
    }


def identity(found: dict, recipe: Model) -> str:
    """The digest of a fingerprint with the length: which training this is."""
    return _hash({**found, **{key: getattr(recipe.schedule, key) for key in SCHEDULE}})


def short(found: dict) -> str:
    """A fingerprint in 12 characters, for names of folders."""
    return _hash(found)[:12]


def _hash(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
