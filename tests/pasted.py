"""Inpainting at a size that trains in a second: its options, its inputs, the folders of the stages before it."""

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
from bmask.params import Params, parse_params
from newcomer import arrays
from tiny import LOOP, tiny_params, write_augment, write_dataset

SIZE, LOAD = 32, 36  # px of the crops and of the stored photos
OPTIONS = InpaintingOptions(filters=8, blocks=1, discriminator_filters=4, cutouts=0.5, game_epoch=2)
TRAINING = dataclasses.replace(LOOP, image_size=SIZE)


def given(side: int = LOAD) -> dict[str, np.ndarray]:
    """Photos, masks to paste and cut-outs."""
    return arrays(side=side)


def frozen_weights() -> dict[str, dict[str, torch.Tensor]]:
    """Untrained features of the face detector's shape, so that tests need no trained weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return {"features": FaceFeatures().state_dict()}


def write_masks(folder: Path) -> Path:
    """Writes what trainings read from results/masks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("masks", "cutouts"):
        np.save(folder / f"{name}_train.npy", given()[name])
    save_file(frozen_weights()["features"], folder / "features.safetensors")
    about = {"digest": "digest-of-the-masks", "augment_digest": "digest-of-the-copies", "enough": True}
    write_json(folder / "summary.json", about)
    return folder


def write_folders(results: Path) -> None:
    """Writes what a training reads: the outputs of ingest, augment and masks."""
    write_dataset(results / "ingest", load_size=LOAD)
    write_augment(results / "augment", load_size=LOAD)
    write_masks(results / "masks")


def params(train: dict[str, Any] | None = None, network: dict[str, Any] | None = None, **schedule: Any) -> Params:
    """One model, `painter`; 4 epochs of 3 steps, the discriminator from the third epoch on."""
    shared = tiny_params(train=train).model_dump(mode="json", by_alias=True)["train"]
    chosen = {"epochs": 4, "constant_epochs": 2, "batch_size": 4, "lr": 2e-3, **schedule}
    model = {"network": dataclasses.asdict(OPTIONS) | (network or {}), "schedule": chosen}
    train = {**shared, "image_size": SIZE, "log_every": 1}
    return parse_params({"ingest": {"load_size": LOAD}, "train": train, "models": {"painter": model}})
