"""A new system's arrays and frozen network; its file is tests/systems/novel.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tiny import LOAD, TRAIN, pictures

FOLDER = Path(__file__).with_name("systems")


def bands(count: int, size: int) -> np.ndarray:
    """uint8 (count, size, size), 255 where `tiny.pictures` draws a mask."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    band = (abs(x - 0.5) < 0.35) & (y > 0.55) & (y < 0.85)
    return np.broadcast_to(np.where(band, 255, 0).astype(np.uint8), (count, size, size)).copy()


def arrays(copies: int = 2, side: int = LOAD) -> dict[str, np.ndarray]:
    """The arrays that batches are made of: photos of both domains, masks to paste, cut-outs of the masked photos."""
    photos = {d: np.stack([pictures(TRAIN, side, d == "a", seed) for seed in (0, 9)[:copies]]) for d in "ab"}
    colours = np.random.default_rng(4).integers(0, 256, (1, 5, 1, 1, 3), np.uint8)
    colours = np.broadcast_to(colours, (1, 5, side, side, 3))
    masks = np.concatenate([colours, bands(5, side)[None, ..., None]], axis=-1)
    worn = np.concatenate([photos["a"], np.stack([bands(TRAIN, side)] * copies)[..., None]], axis=-1)
    return {**photos, "masks": masks, "cutouts": worn}


def frozen_weights() -> dict[str, dict[str, torch.Tensor]]:
    draws = torch.Generator().manual_seed(2)
    weights = {"weight": torch.randn(5, 3, 4, 4, generator=draws) * 0.3, "bias": torch.zeros(5)}
    return {"features": weights}


def write_inputs(masks_folder: Path) -> None:
    """Writes what the train stage reads from results/masks: the other arrays and the frozen network."""
    masks_folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays().items():
        if name not in ("a", "b"):
            np.save(masks_folder / f"{name}_train.npy", array)
    save_file(frozen_weights()["features"], masks_folder / "features.safetensors")
    about = {"augment_digest": "digest-of-the-copies", "enough": True, "found": {"train": 1.0}}
    (masks_folder / "summary.json").write_text(json.dumps(about), encoding="utf-8")
