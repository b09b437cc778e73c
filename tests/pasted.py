"""Inpainting at a size that trains in a second: its options, what it is handed, a folder as the stage masks leaves it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from bmask.files import write_json
from bmask.gan.perceptual import FaceFeatures
from bmask.gan.systems.inpainting import InpaintingOptions
from newcomer import arrays
from tiny import LOOP

SIZE, LOAD = 32, 36  # px of the crops and of the stored photos
OPTIONS = InpaintingOptions(filters=8, blocks=1, discriminator_filters=4, cutouts=0.5, game_epoch=2)
TRAINING = dataclasses.replace(LOOP, image_size=SIZE)


def given() -> dict[str, np.ndarray]:
    """Photos, masks to paste and cut-outs."""
    return arrays(side=LOAD)


def frozen_weights() -> dict[str, dict[str, torch.Tensor]]:
    """Features that nobody trained, of the face detector's shape: tests need no weights of others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return {"features": FaceFeatures().state_dict()}


def write_masks(folder: Path) -> Path:
    """What trainings read of results/masks."""
    folder.mkdir(parents=True)
    for name in ("masks", "cutouts"):
        np.save(folder / f"{name}_train.npy", given()[name])
    save_file(frozen_weights()["features"], folder / "features.safetensors")
    write_json(folder / "summary.json", {"digest": "digest-of-the-masks"})
    return folder


def network(**changes: Any) -> dict[str, Any]:
    """The options for `tiny_params`."""
    return dataclasses.asdict(dataclasses.replace(OPTIONS, **changes))
