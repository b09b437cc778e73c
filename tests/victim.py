"""A small training in a process of its own, for tests that kill it: `python tests/victim.py CHECKPOINTS OUT [OPTIONS]`.

Prints the number of each step that is done. OUT gets both generators and the losses; OPTIONS are JSON for LoopOptions.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

import pasted
from bmask.data.split.dataset import to_tensor
from bmask.gan.options import SystemOptions
from bmask.gan.translation import Translation
from bmask.training.loop import train
from bmask.training.options import LoopOptions
from tiny import LOAD, SIZE, SYSTEMS, TRAIN, pictures

WIDE = {"filters": 4, "discriminator_filters": 24}  # checkpoints of some MB, so that writing one takes a while
OPTIONS = {"batch_size": 4, "lr": 2e-3, "image_size": SIZE, "device": "cpu", "precision": "fp32", "threads": 1}
OPTIONS |= {"pool": 6, "ema": 0.9, "sample_every": 3, "checkpoint_every": 1, "log_every": 1}
STEPS = TRAIN // 4  # in an epoch


class Tell:
    """An observer that prints where the training is."""

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None: ...

    def losses(self, row: dict) -> None:
        print(row["step"], flush=True)

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None: ...

    def saved(self) -> None: ...


def main(folder: Path, out: Path, system: str = "scheme2", **changes) -> None:
    if system == "inpainting":
        size, photos, frozen = pasted.SIZE, pasted.given(), pasted.frozen_weights()
        recipe: SystemOptions = dataclasses.replace(pasted.OPTIONS, filters=16, discriminator_filters=24)
    else:
        photos = {d: np.stack([pictures(TRAIN, LOAD, d == "a", seed) for seed in (0, 9)]) for d in "ab"}
        size, recipe, frozen = SIZE, dataclasses.replace(SYSTEMS[system], **WIDE), {}
    shown = to_tensor(pictures(2, size, masked=True, seed=5))
    options = LoopOptions(**OPTIONS | {"image_size": size} | changes)
    trained = train(recipe, photos, shown, options, folder, {"data": "tiny"}, [Tell()], frozen=frozen)
    weights = {f"{way}.{name}": w for way, g in trained.generators.items() for name, w in g.state_dict().items()}
    out.mkdir(parents=True)
    save_file(weights, out / "generators.safetensors")
    (out / "losses.json").write_text(json.dumps(trained.history))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3]))
