"""Compares an exported generator's pictures with PyTorch's."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bmask.errors import DataError
from bmask.progress import say
from bmask.serving.exporting import export
from bmask.serving.unmasker import Unmasker

MAX_MEAN_DIFFERENCE, MAX_DIFFERENCE = 0.5, 8.0  # grey levels between both engines' pictures


def export_checked(generator: Path, photos: np.ndarray, folder: Path) -> bool:
    """Writes the exported generator into a folder if it agrees with PyTorch. Prints and returns whether it does.

    If the export fails, or its pictures of `photos` differ too much from PyTorch's, nothing is written, and PyTorch
    serves the generator. `photos` are framed squares, uint8 (N, h, w, 3).
    """
    with TemporaryDirectory() as draft:
        try:
            fast = Unmasker(export(generator, Path(draft)), device="cpu", engine="openvino")
        except DataError as error:
            say(f"PyTorch will serve the generator: {error}")
            return False
        mean, worst = disagreement(fast, Unmasker(generator, device="cpu", engine="pytorch"), photos)
        found = f"{mean:.2g} grey levels on average, {worst:g} at most, on {len(photos)} photos"
        agrees = mean <= MAX_MEAN_DIFFERENCE and worst <= MAX_DIFFERENCE
        verdict = "OpenVINO will serve the generator" if agrees else "too much, so PyTorch will serve the generator"
        say(f"OpenVINO's pictures differ from PyTorch's by {found}: {verdict}")
        if agrees:
            shutil.copytree(draft, folder, dirs_exist_ok=True)
        return agrees


def disagreement(one: Unmasker, other: Unmasker, photos: np.ndarray) -> tuple[float, float]:
    """The mean and the largest difference of their pictures of framed squares, in grey levels."""
    results = (unmasker.unmask(list(photos), framed=True) for unmasker in (one, other))
    gaps = [np.abs(a.image.astype(int) - b.image) for a, b in zip(*results, strict=True)]
    return float(np.mean([gap.mean() for gap in gaps])), float(max(gap.max() for gap in gaps))
