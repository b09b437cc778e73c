"""A split of drawn discs with eyes and a mouth, with or without a band over the mouth: small, quick, with truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from bmask.data.records import SPLITS
from bmask.data.split.dataset import Dataset

COUNTS = {"train": 40, "validation": 16, "test": 14}
LABELS = ("cap", "skin", "")


def face(rng: np.random.Generator, size: int) -> np.ndarray:
    """uint8 (size, size, 3): a disc of a skin colour with two eyes and a mouth."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    photo = np.empty((size, size, 3))
    photo[:] = rng.uniform(0, 255, 3)
    x, y = 0.5 + rng.uniform(-0.04, 0.04, 2)
    photo[(columns - x) ** 2 + (rows - y) ** 2 < 0.42**2] = (rng.uniform(150, 250), rng.uniform(120, 160), 100)
    for eye in (-0.15, 0.15):
        photo[(columns - x - eye) ** 2 + (rows - y + 0.12) ** 2 < 0.005] = 20
    photo[(abs(columns - x) < 0.18) & (abs(rows - y - 0.22) < 0.05)] = (170, 20, 40)
    return np.clip(photo + rng.normal(0, 4, photo.shape), 0, 255).astype(np.uint8)


def mask(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The photo with a band over its mouth, and the band's region, 0 or 255."""
    size = len(photo)
    region = np.zeros((size, size), np.uint8)
    region[round(0.55 * size) : round(0.92 * size), round(0.16 * size) : round(0.84 * size)] = 255
    colour = rng.uniform((60, 120, 160), (140, 200, 255))
    return np.where(region[..., None] > 0, colour, photo).astype(np.uint8), region


def write_dataset(
    folder: Path,
    size: int = 32,
    counts: dict[str, int] = COUNTS,
    truth: bool = True,
    private: bool = False,
    seed: int = 0,
) -> Dataset:
    """A folder as ingest writes it. Photos of a split come in groups of two; every third masked photo has no label."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = []
    for split in SPLITS:
        unmasked = np.stack([face(rng, size) for _ in range(counts[split])])
        twins = np.stack([face(rng, size) for _ in range(counts[split])])
        masked, regions = zip(*(mask(twin, rng) for twin in twins), strict=True)
        np.save(folder / f"unmasked_{split}.npy", unmasked)
        np.save(folder / f"masked_{split}.npy", np.stack(masked))
        if truth and split != "train":
            np.save(folder / f"truth_{split}_twin.npy", twins)
            np.save(folder / f"truth_{split}_region.npy", np.stack(regions))
        for domain in ("masked", "unmasked"):
            for i in range(counts[split]):
                row = {"domain": domain, "name": f"{split}-{i}.png", "sha256": "", "width": size, "height": size}
                row |= {"group": f"{domain}-{split}-{i // 2}", "split": split, "index": i, "reason": ""}
                rows.append(row | {"slices": LABELS[i % 3] if domain == "masked" else ""})
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = {"version": 4, "digest": f"drawn-{seed}", "load_size": size, "fit": "crop", "private": private}
    summary |= {"truth": truth}
    summary |= {"source": "drawn", "rejected": 0, "counts": {d: counts for d in ("masked", "unmasked")}, "groups": {}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return Dataset.open(folder)
