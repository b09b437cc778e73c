"""What each process of test_distributed.py runs: `torchrun --nproc-per-node N share_the_work.py PLANS OUT`.

Plans are (name, system, changed options). Each process writes its outcome, so that the test can compare them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import pasted
from bmask.training import checkpoint
from bmask.training.distributed import World, joined
from bmask.training.loop import train
from tiny import LOOP, SIZE, SYSTEMS, TRAIN, pictures

# Each epoch has one step.
OPTIONS = dataclasses.replace(
    LOOP, epochs=5, constant_epochs=5, epoch_photos=4, lr=1e-3, pool=0, sample_every=99, checkpoint_every=99
)


def outcome(system: str, changes: dict, world: World = World()) -> dict:
    """Runs a training; returns its final state, or the error."""
    if system == "inpainting":  # its discriminator starts at the third step; below 64 px its lowest norms see so few
        size, recipe = 64, dataclasses.replace(pasted.OPTIONS, filters=16)  # numbers that they give signs of rounding
        photos, frozen = pasted.given(side=72), pasted.frozen_weights()
    else:
        size, recipe, frozen = SIZE, SYSTEMS[system], {}
        photos = {d: np.stack([pictures(TRAIN, 18, d == "a", seed) for seed in (0, 9)]) for d in "ab"}
    seen = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    with tempfile.TemporaryDirectory() as folder:
        options = dataclasses.replace(OPTIONS, image_size=size, **changes)
        try:
            done = train(recipe, photos, seen, options, Path(folder), {}, world=world, frozen=frozen)
        except ValueError as error:
            return {"error": str(error)}
        with torch.inference_mode():
            output = done.generators["ab"](seen).image
        whole = checkpoint.read(Path(folder) / checkpoint.LATEST) if world.first else {"system": {}, "pools": {}}
    return {
        "history": done.history,
        "output": output,
        "average": done.generators.state_dict(),
        "system": dict(whole["system"]),
        "pools": whole["pools"],
    }


def main(plans: str, out: str) -> None:
    with joined(torch.device("cpu")) as world:
        for name, system, changes in json.loads(plans):
            checkpoint.write(Path(out) / f"{name}-{world.rank}", outcome(system, changes, world))


if __name__ == "__main__":
    main(*sys.argv[1:])
