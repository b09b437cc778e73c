"""Stage masks: makes masks to paste on unmasked photos, and finds each masked photo's own mask.

A small network learns from drawn masks to find masks. What it finds on the masked training photos is cut out, rotated,
relit and pasted on unmasked photos. So a system learns from real masks without pairs of photos.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap

from bmask.data.records import DOMAINS
from bmask.data.sheets import contact_sheet
from bmask.data.split.dataset import Dataset, open_array, resize
from bmask.files import fresh_folder, read_json, write_bytes, write_json
from bmask.progress import bar, say

if TYPE_CHECKING:
    from bmask.params import Params
    from bmask.params.sections import Masks

FEATURES = "features.safetensors"
FINDER = "finder.safetensors"
COLUMNS, ROWS = 10, 5  # of the contact sheet: fifty photos and their cut-outs
BACKGROUND = np.array((255, 0, 255), np.float32)  # a colour that no mask has
MIN_FOUND = 0.5  # share of the masked training photos
FINDER_MASKS = 2000  # drawn masks that the finder learns from
CHUNK = 256  # masks that are made at a time
MAX_SIDE, SIDE_STEP = 64, 16  # px, of the finder's input, which it halves four times


def masks(params: Params, dataset_folder: Path, augment_folder: Path, out: Path) -> None:
    """Writes what systems that learn from pasted masks need in addition to the photos of augment.

    masks_train.npy: RGBA uint8 (1, M, S, S, 4), masks to paste: cut-outs, drawn masks, and empty ones (alpha 0).
    cutouts_train.npy: RGBA uint8 (copies, N, S, S, 4), masked training photos; alpha is 255 where their mask is. Photos
        whose mask was not found in one piece are left out.
    cutouts_{validation,test}.npy: uint8 (N, S, S), the masks, for evaluation; all 0 if none was found.
    finder.safetensors, features.safetensors: the mask finder, and the face detector's first layers.
    summary.json and, unless the dataset is private, contact_sheet.png: fifty photos and their cut-outs.

    If masks are found on too few photos, it prints a warning, and a training that needs the cut-outs refuses to start.

    Raises:
        DataError: the photos of ingest or augment, or the detector's weights, are missing.
    """
    import torch
    from safetensors.torch import save

    from bmask.faces.features import feature_weights
    from bmask.gan.device import pick_device
    from bmask.pasting.cutouts import clean
    from bmask.pasting.drawn import draw_masks
    from bmask.pasting.train_finder import find, train_finder

    settings, dataset = params.masks, Dataset.open(dataset_folder)
    side, size = dataset.load_size, min(params.train.image_size // SIDE_STEP * SIDE_STEP, MAX_SIDE)
    masked, unmasked = (open_array(Path(augment_folder) / f"{domain}_train.npy") for domain in DOMAINS)
    device, before = pick_device(params.train.device), torch.get_num_threads()
    torch.set_num_threads(1)  # the layers are small: a second thread gains little, and costs much beside other programs
    seen = round(side * size / params.train.image_size)
    drawn = draw_masks(min(settings.count, FINDER_MASKS), seen, settings.seed)
    finder = train_finder(np.stack([resize(copy, seen) for copy in unmasked]), drawn, size, settings, device)

    with fresh_folder(Path(out)) as folder:
        shares, cutouts = {}, []
        for split in ("validation", "test"):
            cut, good = clean(find(finder, dataset.photos("masked", split), size, device), side)
            np.save(folder / f"cutouts_{split}.npy", cut * good[:, None, None])
            shares[split] = float(good.mean())
        for copy in masked:
            cutouts.append(clean(find(finder, copy, size, device), side))
        usable = np.flatnonzero(np.all([good for _, good in cutouts], axis=0))
        shares["train"] = len(usable) / masked.shape[1]
        worn = open_memmap(folder / "cutouts_train.npy", "w+", np.uint8, (len(masked), len(usable), side, side, 4))
        for number, (cut, _) in enumerate(cutouts):
            worn[number, ..., :3], worn[number, ..., 3] = masked[number, usable], cut[usable]
        bank = open_memmap(folder / "masks_train.npy", "w+", np.uint8, (1, settings.count, side, side, 4))
        _fill(bank[0], worn[0] if len(usable) else None, settings)
        torch.set_num_threads(before)

        state = {name: value.cpu().contiguous() for name, value in finder.state_dict().items()}
        for name, weights in ((FINDER, state), (FEATURES, feature_weights())):
            write_bytes(folder / name, save(weights))
        about = {"digest": _digest(folder), "masks": settings.count, "found": shares, "private": dataset.private}
        about |= {"data_digest": dataset.digest, "settings": settings.model_dump()}
        about["enough"] = shares["train"] >= MIN_FOUND
        about["augment_digest"] = read_json(Path(augment_folder) / "summary.json")["digest"]
        write_json(folder / "summary.json", about)
        if not dataset.private:
            write_bytes(folder / "contact_sheet.png", _sheet(worn[0]))
    shown = ", ".join(f"{shares[split]:.1%} of {split}" for split in ("train", "validation", "test"))
    say(f"masks: {settings.count} to paste; a mask in one piece found on {shown}; digest {about['digest']}")
    if not about["enough"]:
        say(
            "masks: these are too few to learn from; frame photos by their faces (ingest.fit: face), or raise"
            f" masks.steps from {settings.steps}"
        )


def _fill(bank: np.ndarray, worn: np.ndarray | None, settings: Masks) -> None:
    """Fills RGBA uint8 (M, S, S, 4) with cut-out and drawn masks in random order, and makes some of them empty.

    worn: RGBA photos with cut-outs, if there are any.
    """
    from bmask.pasting.cutouts import lift
    from bmask.pasting.drawn import draw_masks

    rng, side = np.random.default_rng(settings.seed), bank.shape[1]
    order = rng.permutation(len(bank))
    lifted = 0 if worn is None else round(settings.cut_out * len(bank))
    for start in bar(range(0, len(bank), CHUNK), what="masks: to paste"):
        count = min(CHUNK, len(bank) - start)
        split = min(max(lifted - start, 0), count)
        made = [draw_masks(count - split, side, settings.seed, first=start + split)]
        if worn is not None and split:
            made.insert(0, lift(worn[..., :3], worn[..., 3], split, settings.seed, first=start))
        bank[order[start : start + count]] = np.concatenate(made)
    bank[rng.choice(len(bank), round(settings.bare * len(bank)), replace=False), ..., 3] = 0


def _digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(path.name.encode())
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def _sheet(cutouts: np.ndarray) -> bytes:
    """The first fifty photos, each above its cut-out. cutouts: RGBA uint8 (N, S, S, 4)."""
    rows: list[list[np.ndarray]] = []
    for start in range(0, min(COLUMNS * ROWS, len(cutouts)), COLUMNS):
        few = cutouts[start : start + COLUMNS]
        alpha = few[..., 3:].astype(np.float32) / 255
        rows += [list(few[..., :3]), list((few[..., :3] * alpha + BACKGROUND * (1 - alpha)).astype(np.uint8))]
    return contact_sheet(rows, ["photos", "their masks"] * (len(rows) // 2))
