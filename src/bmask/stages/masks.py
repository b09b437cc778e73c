"""Stage masks: masks to paste on unmasked photos, and where each masked photo's own mask is.

A small network learns on drawn masks to find masks; what it finds on the masked training photos is cut out and, turned
and lit anew, pasted on unmasked ones. So a system learns from masks as people wear them, without a pair of photos.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.records import DOMAINS
from bmask.data.sheets import contact_sheet
from bmask.data.split.dataset import Dataset, open_array, resize
from bmask.errors import DataError
from bmask.files import fresh_folder, read_json, write_bytes, write_json
from bmask.progress import say

if TYPE_CHECKING:
    from bmask.params import Params

FEATURES = "features.safetensors"
FINDER = "finder.safetensors"
IN_ROW, ROWS = 10, 5  # of the sheet: fifty photos and their cut-outs
BEHIND = np.array((255, 0, 255), np.float32)  # a colour that no mask has
LEAST_USABLE = 0.5
LARGEST, STEP = 64, 16  # px: the finder looks at photos of no more, and halves them four times


def masks(params: Params, dataset_folder: Path, augment_folder: Path, out: Path) -> None:
    """Writes what systems need that learn from pasted masks, beside the photos of augment.

    masks_train.npy: RGBA uint8 (1, M, S, S, 4), masks to paste: lifted off masked training photos, drawn, none at all.
    cutouts_train.npy: RGBA uint8 (copies, N, S, S, 4), masked training photos; alpha is 255 where their mask is. Photos
        whose mask was not found in one piece are left out.
    cutouts_{validation,test}.npy: uint8 (N, S, S), for evaluation; 0 all over where none was found.
    finder.safetensors, features.safetensors: the mask finder, and the face detector's first layers.
    summary.json and, unless the dataset is private, contact_sheet.png: fifty photos and their cut-outs.

    Raises:
        DataError: there are no usable photos, or masks were found on fewer than half of the masked ones.
    """
    import torch
    from safetensors.torch import save

    from bmask.faces.features import feature_weights
    from bmask.gan.device import pick_device
    from bmask.pasting.cutouts import clean, lift
    from bmask.pasting.drawn import draw_masks
    from bmask.pasting.finding import find, train_finder

    settings, dataset = params.masks, Dataset.open(dataset_folder)
    side, size = dataset.load_size, min(params.train.image_size // STEP * STEP, LARGEST)
    masked, unmasked = (open_array(Path(augment_folder) / f"{domain}_train.npy") for domain in DOMAINS)
    torch.set_num_threads(1)  # of layers so small, a second thread gains little and costs much beside other programs
    drawn = draw_masks(settings.count, side, settings.seed)
    device = pick_device(params.train.device)
    seen = round(side * size / params.train.image_size)
    small = np.stack([resize(copy, seen) for copy in unmasked]), resize(drawn, seen)
    finder = train_finder(*small, size, settings, device)

    found = [clean(find(finder, copy, size, device), side) for copy in masked]
    usable = np.all([good for _, good in found], axis=0)
    if usable.mean() < LEAST_USABLE:
        raise DataError(
            f"a mask in one piece was found on {usable.sum()} of {len(usable)} masked training photos; frame them by"
            f" their faces (ingest.fit: face), or raise masks.steps {settings.steps}"
        )
    cutouts = np.stack(
        [np.concatenate([copy, cut[..., None]], -1) for copy, (cut, _) in zip(masked, found, strict=True)]
    )
    cutouts = cutouts[:, usable]
    lifted = round(settings.cut_out * settings.count)
    bank = np.concatenate([lift(cutouts[0, ..., :3], cutouts[0, ..., 3], lifted, settings.seed), drawn])[
        : settings.count
    ]
    bank = bank[np.random.default_rng(settings.seed).permutation(len(bank))]
    bank[: round(settings.bare * len(bank)), ..., 3] = 0

    arrays = {"masks_train": bank[None], "cutouts_train": cutouts}
    shares = {"train": float(usable.mean())}
    for split in ("validation", "test"):
        cut, good = clean(find(finder, dataset.photos("masked", split), size, device), side)
        arrays[f"cutouts_{split}"] = cut * good[:, None, None]
        shares[split] = float(good.mean())
    digest = hashlib.sha256()
    with fresh_folder(Path(out)) as folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
            digest.update(f"{name} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        state = {name: value.cpu().contiguous() for name, value in finder.state_dict().items()}
        for name, weights in ((FINDER, state), (FEATURES, feature_weights())):
            content = save(weights)
            digest.update(content)
            write_bytes(folder / name, content)
        summary = {"digest": digest.hexdigest(), "masks": len(bank), "found": shares, "private": dataset.private}
        augmented = read_json(Path(augment_folder) / "summary.json")["digest"]
        write_json(folder / "summary.json", {**summary, "augment_digest": augmented, "settings": settings.model_dump()})
        if not dataset.private:
            write_bytes(folder / "contact_sheet.png", _sheet(cutouts[0]))
    shown = ", ".join(f"{share:.1%} of {split}" for split, share in shares.items())
    say(f"masks: {len(bank)} to paste; a mask in one piece on {shown}; digest {digest.hexdigest()}")


def _sheet(cutouts: np.ndarray) -> bytes:
    """The first fifty photos, each above what was cut out of it. cutouts: RGBA uint8 (N, S, S, 4)."""
    rows: list[list[np.ndarray]] = []
    for start in range(0, min(IN_ROW * ROWS, len(cutouts)), IN_ROW):
        few = cutouts[start : start + IN_ROW]
        alpha = few[..., 3:].astype(np.float32) / 255
        rows += [list(few[..., :3]), list((few[..., :3] * alpha + BEHIND * (1 - alpha)).astype(np.uint8))]
    return contact_sheet(rows, ["photos", "their masks"] * (len(rows) // 2))
