"""The fingerprint: everything that a training's result depends on, wherever the training runs and is kept.

Every option counts except those named here, so that a forgotten option cannot make one training resume another. Where
a training runs changes only the last bits of its result, so checkpoints note it separately: see `placement`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bmask.reach import code_of_training

if TYPE_CHECKING:
    from bmask.params import Params
    from bmask.params.sections import Model

PLACE = {"device", "precision", "processes", "threads"}  # of params.train; noted in checkpoints
WATCHED = {"samples", "sample_every", "checkpoint_every", "checkpoints"}  # what is shown and kept of a training
LENGTH = ("epochs", "constant_epochs")  # of a schedule; a longer training may go on from a shorter one's checkpoint


def fingerprint(params: Params, recipe: Model, data: str, warm: dict[str, Path]) -> dict:
    """What the result depends on, without the schedule's length: JSON values by name.

    `data`: the photos' digest; `warm`: the files that a warm start reads.
    """
    shared = params.train.model_dump(mode="json", exclude=PLACE | WATCHED)
    schedule = recipe.schedule.model_dump(mode="json", exclude=set(LENGTH))
    if warm:
        schedule["warm_start"] = {way: hashlib.sha256(path.read_bytes()).hexdigest() for way, path in warm.items()}
    return {
        **{f"train.{key}": value for key, value in shared.items()},
        **{f"schedule.{key}": value for key, value in schedule.items()},
        **{f"network.{key}": value for key, value in asdict(recipe.network).items()},
        "data": data,
        "fit": params.ingest.fit,  # in the generator's header, for the framing of photos in serving
        "torch": torch.__version__,
        "code": code_of_training(recipe.network.system),
    }


def identity(found: dict, recipe: Model) -> str:
    """The digest of fingerprint and length, which identifies a training."""
    return _hash({**found, **{key: getattr(recipe.schedule, key) for key in LENGTH}})


def short(found: dict) -> str:
    """A fingerprint in 12 characters, for names of folders."""
    return _hash(found)[:12]


def _hash(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
