"""Everything at a size that trains in a second: options of the three systems, pictures, the stages' folders."""

from __future__ import annotations

import contextlib
import csv
import resource
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bmask.files import write_json
from bmask.gan.options import SystemOptions
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.params import Params, parse_params
from bmask.training.options import LoopOptions

SIZE, LOAD = 16, 18  # px of the crops and of the stored photos
TRAIN, VALIDATION, TEST = 12, 4, 3  # photos in each split of each domain

SMALL = {"filters": 4, "blocks": 1, "discriminator_filters": 4, "discriminator_layers": 2}
LOOP = LoopOptions(
    epochs=4,
    constant_epochs=2,
    batch_size=4,
    lr=2e-3,
    image_size=SIZE,
    device="cpu",
    precision="fp32",
    threads=1,
    pool=4,
    ema=0.9,
    sample_every=1,
    checkpoint_every=1,
    log_every=1,
)
SYSTEMS: dict[str, SystemOptions] = {
    "cyclegan": CycleGANOptions(**SMALL),
    "scheme1": AttentionGANOptions(scheme=1, **SMALL),
    "scheme2": AttentionGANOptions(scheme=2, masks=4, background_bias=2.0, **SMALL),
}


def pictures(count: int, size: int, masked: bool, seed: int) -> np.ndarray:
    """uint8 (count, size, size, 3): a bright disc on a plain ground, over its lower half a blue band when masked."""
    rng = np.random.default_rng([seed, masked])
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    photos = np.empty((count, size, size, 3))
    for photo in photos:
        photo[:] = rng.uniform(20, 110, 3)
        photo[(x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.16] = rng.uniform((190, 140, 110), (240, 190, 160))
        if masked:
            photo[(abs(x - 0.5) < 0.35) & (y > 0.55) & (y < 0.85)] = rng.uniform((60, 130, 180), (110, 180, 230))
    return np.clip(photos + rng.normal(0, 3, photos.shape), 0, 255).astype(np.uint8)


def write_dataset(
    folder: Path, private: bool = False, digest: str = "digest-of-the-split", load_size: int = LOAD
) -> Path:
    """A folder as `bmask ingest` writes it, without truth."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    rows = []
    for domain in ("masked", "unmasked"):
        for seed, (split, count) in enumerate(counts.items()):
            np.save(folder / f"{domain}_{split}.npy", pictures(count, load_size, domain == "masked", seed))
            rows += [_row(domain, split, i, load_size) for i in range(count)]
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = {
        "digest": digest,
        "load_size": load_size,
        "fit": "crop",
        "private": private,
        "source": "tiny",
        "rejected": 0,
        "truth": False,
    }
    per_domain = {domain: counts for domain in ("masked", "unmasked")}
    write_json(folder / "summary.json", {**summary, "counts": per_domain, "groups": per_domain, "version": 4})
    return folder


def _row(domain: str, split: str, index: int, side: int) -> dict[str, Any]:
    name = f"{split}-{index}.png"
    row = {"domain": domain, "name": name, "sha256": f"{domain}{name}", "width": side, "height": side}
    return {**row, "group": f"{domain}-{split}-{index}", "split": split, "index": index, "slices": "", "reason": ""}


def write_augment(folder: Path, copies: int = 2, digest: str = "digest-of-the-copies", load_size: int = LOAD) -> Path:
    """A folder as `bmask augment` writes it: copy 0 is the photo, the others are a little darker."""
    folder.mkdir(parents=True, exist_ok=True)
    for domain in ("masked", "unmasked"):
        photos = pictures(TRAIN, load_size, domain == "masked", seed=0)
        stack = np.stack([(photos * (1 - 0.05 * copy)).astype(np.uint8) for copy in range(copies)])
        np.save(folder / f"{domain}_train.npy", stack)
    write_json(folder / "summary.json", {"digest": digest, "copies": copies})
    return folder


def tiny_params(models: dict[str, dict] | None = None, train: dict | None = None, **schedule: Any) -> Params:
    """Params through the public parser. `models`: network options by name; `train` and `schedule` override."""
    networks = models or {"unmasker": {"system": "attentiongan", "scheme": 2, "masks": 4, "background_bias": 2.0}}
    schedule = {"epochs": 2, "constant_epochs": 1, "batch_size": 3, "lr": 1e-3, **schedule}
    shared = {
        "image_size": SIZE,
        "processes": 1,
        "threads": 1,
        "precision": "fp32",
        "device": "cpu",
        "pool": 4,
        "samples": 2,
    }
    shared |= {"sample_every": 1, "checkpoint_every": 1, "log_every": 2, "ema": 0.9}
    return parse_params(
        {
            "ingest": {"load_size": LOAD},
            "train": {**shared, **(train or {})},
            "models": {
                name: {"network": {**SMALL, **options}, "schedule": schedule} for name, options in networks.items()
            },
        }
    )


def write_generator(folder: Path) -> Path:
    """An untrained generator for 32 px whose weights are large enough to change its input."""
    import torch

    from bmask.gan.generator_file import save_generator
    from bmask.gan.lookup import build_generator

    options = AttentionGANOptions(scheme=2, filters=8, blocks=1, masks=4, background_bias=0.5)
    torch.manual_seed(1)
    network = build_generator(options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    path = folder / "generator.safetensors"
    save_generator(path, network, {"network": asdict(options), "image_size": 32, "model": "tiny"})
    return path


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Inside, no file grows beyond `room` bytes: the system answers as a full disk does, with an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
