"""Stage 2: training photos -> training arrays: every photo and its altered copies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bmask.data.records import DOMAINS
from bmask.data.sheets import contact_sheet
from bmask.data.split.dataset import Dataset, open_array
from bmask.files import fresh_folder, write_bytes, write_json
from bmask.progress import bar, say

if TYPE_CHECKING:
    from albumentations import Compose

    from bmask.params import Params
    from bmask.params.sections import Augment

COLOURS = ("brightness", "contrast", "saturation")
PHOTOS_ON_SHEET = 6  # of each domain
COPIES_ON_SHEET = 8


def augment(params: Params, dataset_folder: Path, out: Path) -> None:
    """Writes `{domain}_train.npy`, uint8 (copies, N, S, S, 3), in the dataset's order; copy 0 is the photo itself.

    Also writes `summary.json` and, unless the dataset is private, `contact_sheet.png`: a row per photo with its copies.
    A copy depends only on the photo's file, the copy's number and the parameters, not on the photo's place. So adding
    a photo does not change the copies of other photos.

    Raises:
        DataError: there is no usable dataset in `dataset_folder`.
    """
    settings, dataset = params.augment, Dataset.open(dataset_folder)
    vary = policy(settings, dataset.load_size)
    total = hashlib.sha256()
    with fresh_folder(Path(out)) as folder:
        rows: list[list[np.ndarray]] = []
        labels: list[str] = []
        counts: dict[str, int] = {}
        for domain in DOMAINS:
            photos, contents = dataset.photos(domain, "train"), dataset.hashes(domain, "train")
            path = folder / f"{domain}_train.npy"
            copies = np.lib.format.open_memmap(path, "w+", np.uint8, (settings.copies, *photos.shape))
            for index in bar(range(len(photos)), len(photos), f"augment: {domain} photos"):
                copies[0, index] = photos[index]
                for copy in range(1, settings.copies):
                    copies[copy, index] = vary_once(vary, photos[index], contents[index], copy, settings.seed)
            copies.flush()
            for copy in open_array(path):
                total.update(copy.tobytes())
            counts[domain] = len(photos)
            rows += [list(copies[:COPIES_ON_SHEET, index]) for index in range(min(PHOTOS_ON_SHEET, len(photos)))]
            labels += [f"{domain}: before, after"] * (len(rows) - len(labels))
        write_json(
            folder / "summary.json",
            {
                "digest": total.hexdigest(),
                "copies": settings.copies,
                "counts": counts,
                "load_size": dataset.load_size,
                "private": dataset.private,
                "data_digest": dataset.digest,
                "policy": settings.model_dump(),
            },
        )
        if not dataset.private:
            write_bytes(folder / "contact_sheet.png", contact_sheet(rows, labels))
        sizes = " + ".join(map(str, counts.values()))
        say(f"augment: {settings.copies} arrays of {sizes} photos, the first unaltered, digest {total.hexdigest()}")


def policy(settings: Augment, size: int) -> Compose:
    """The albumentations policy: rotation and zoom, a random crop resized to `size`, slight changes of colour.

    No step may make anything that looks like a mask: nothing is erased or blurred, and borders are reflected. Crops are
    square, so that faces keep their proportions. The training loop does the left-right flip.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else the import asks the internet for the newest version
    import albumentations

    around_one = {name: (1 - getattr(settings, name), 1 + getattr(settings, name)) for name in COLOURS}
    return albumentations.Compose(
        [
            albumentations.Affine(
                scale=(1 - settings.scale, 1 + settings.scale),
                rotate=(-settings.rotate, settings.rotate),
                keep_ratio=True,
                interpolation=cv2.INTER_CUBIC,
                border_mode=cv2.BORDER_REFLECT_101,
                p=1,
            ),
            albumentations.RandomResizedCrop(
                (size, size), scale=(settings.crop, 1), ratio=(1, 1), interpolation=cv2.INTER_CUBIC, p=1
            ),
            albumentations.ColorJitter(**around_one, hue=(-settings.hue, settings.hue), p=1),
        ]
    )


def vary_once(vary: Compose, photo: np.ndarray, content: str, copy: int, seed: int) -> np.ndarray:
    """Copy number `copy` of one photo, uint8 (S, S, 3); `content` is the sha256 of the photo's file.

    Each transform has its own seed: Compose would give the same one to all, and then a photo that is rotated far to
    the left would always be bright.
    """
    for number, transform in enumerate(vary.transforms):
        key = f"{seed} {content} {copy} {number}".encode()
        transform.set_random_seed(int.from_bytes(hashlib.sha256(key).digest()[:4], "big"))
    return vary(image=np.ascontiguousarray(photo))["image"]
