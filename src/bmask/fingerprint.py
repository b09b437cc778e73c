"""What a training learns: the same fingerprint, the same training, wherever it runs and is kept.

Every option is part of it but those named here, so that one that is forgotten cannot resume a foreign training. Where
it runs changes the last bits and not what is learned, so it is noted beside it, in checkpoints: see `placement`.
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

PLACE = {"device", "precision", "processes", "threads"}  # of params.train; noted
WATCHED = {"samples", "sample_every", "checkpoint_every", "checkpoints"}  # what is shown and kept of a training
LENGTH = ("epochs", "constant_epochs")  # of a schedule; a longer training may go on from a shorter one's checkpoint


def fingerprint(params: Params, recipe: Model, data: str, warm: dict[str, Path]) -> dict:
    """All but its length, as JSON values by name. `data`: the photos' digest; `warm`: files that it begins from."""
    shared = params.train.model_dump(mode="json", exclude=PLACE | WATCHED)
    schedule = recipe.schedule.model_dump(mode="json", exclude=set(LENGTH))
    if warm:
        schedule["warm_start"] = {way: hashlib.sha256(path.read_bytes()).hexdigest() for way, path in warm.items()}
    return {
        **{f"train.{key}": value for key, value in shared.items()},
        **{f"schedule.{key}": value for key, value in schedule.items()},
        **{f"network.{key}": value for key, value in asdict(recipe.network).items()},
        "data": data,
        "fit": params.ingest.fit,  # in the generator's header: how it frames what it serves
        "torch": torch.__version__,
        "code": code_of_training(recipe.network.system),
    }


def identity(found: dict, recipe: Model) -> str:
    """The digest of a fingerprint with the length: which training this is."""
    return _hash({**found, **{key: getattr(recipe.schedule, key) for key in LENGTH}})


def short(found: dict) -> str:
    """A fingerprint in 12 characters, for names of folders."""
    return _hash(found)[:12]


def _hash(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
