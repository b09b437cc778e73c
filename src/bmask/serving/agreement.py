"""Whether an exported generator paints what PyTorch's does."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bmask.errors import DataError
from bmask.progress import say
from bmask.serving.exporting import export
from bmask.serving.unmasker import Unmasker

MEAN, WORST = 0.5, 8.0  # grey levels by which pictures may differ, on average and anywhere


def export_checked(generator: Path, photos: np.ndarray, folder: Path) -> bool:
    """Writes the exported generator into a folder. Returns whether it did, and prints a line that says so.

    Nothing is left where it cannot be exported, or where its pictures of `photos`, uint8 (N, h, w, 3), squares that are
    framed already, are not PyTorch's: then PyTorch serves.
    """
    with TemporaryDirectory() as draft:
        try:
            fast = Unmasker(export(generator, Path(draft)), device="cpu", engine="openvino")
        except DataError as error:
            say(f"PyTorch will serve it: {error}")
            return False
        mean, worst = disagreement(fast, Unmasker(generator, device="cpu", engine="pytorch"), photos)
        found = f"{mean:.2g} grey levels on average, {worst:g} at most, on {len(photos)} photos"
        agrees = mean <= MEAN and worst <= WORST
        verdict = "OpenVINO will serve it" if agrees else "PyTorch will serve it, since OpenVINO does not do the same"
        say(f"{verdict}: differences of {found}")
        if agrees:
            shutil.copytree(draft, folder, dirs_exist_ok=True)
        return agrees


def disagreement(one: Unmasker, other: Unmasker, photos: np.ndarray) -> tuple[float, float]:
    """The mean and the largest difference of their pictures of squares that are framed already, grey levels."""
    results = (unmasker.unmask(list(photos), framed=True) for unmasker in (one, other))
    gaps = [np.abs(a.image.astype(int) - b.image) for a, b in zip(*results, strict=True)]
    return float(np.mean([gap.mean() for gap in gaps])), float(max(gap.max() for gap in gaps))
