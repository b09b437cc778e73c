"""Measures whether the domains differ by more than the mask: systems and judge may learn that difference instead.

A classifier sees one kind of cue at a time and predicts a photo's domain; 50 % is chance. In its cross-validation,
near-duplicates stay in one fold. All cues are measured above the mask, in the upper UPPER of the square.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

UPPER = 0.4  # share of the side
BANDS = 12  # of spatial frequency, up to half a cycle per pixel
BLOCK = 8  # px, side of a JPEG block
FOLDS = 5
MIN_PHOTOS = 100  # of each domain; with fewer, an accuracy says nothing
TREES = 100


Greys = list[NDArray[np.float32]]  # of one shape (H, W), 0..255


def spectrum(greys: Greys) -> NDArray[np.float64]:
    """Mean log power in BANDS rings of spatial frequency: sharpness, noise, enlargement."""
    height, width = greys[0].shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    ring = np.minimum(frequency / 0.5 * BANDS, BANDS).astype(int).ravel()  # leaves out the corners
    count = np.maximum(np.bincount(ring, minlength=BANDS)[:BANDS], 1)
    powers = (np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2 for grey in greys)
    total = np.array([np.bincount(ring, power.ravel(), BANDS)[:BANDS] for power in powers])
    return np.log(total / count + 1e-3)


def compression(greys: Greys) -> NDArray[np.float32]:
    """How much larger the steps in grey are at every eighth line, along both axes: the grid of JPEG's blocks."""
    found = []
    for axis in (0, 1):
        jumps = np.array([np.abs(np.diff(grey, axis=axis)).mean(1 - axis) for grey in greys])
        phases = np.stack([jumps[:, phase::BLOCK].mean(1) for phase in range(min(BLOCK, jumps.shape[1]))], 1)
        usual = phases.mean(1) + 1e-6
        found += [phases[:, -1] / usual, phases.max(1) / usual]
    return np.stack(found, 1)


def border(greys: Greys) -> NDArray[np.float32]:
    """How flat the outermost lines are and how they differ from those further in: frames, bars, padding."""
    found = []
    for outer, inner in ((np.s_[0], np.s_[2]), (np.s_[:, -1], np.s_[:, -3]), (np.s_[:, 0], np.s_[:, 2])):
        lines, further = (np.array([grey[line] for grey in greys]) for line in (outer, inner))
        found += [lines.std(1), np.abs(lines - further).mean(1)]
    return np.stack(found, 1)


CUES: dict[str, Callable[[Greys], NDArray]] = {"spectrum": spectrum, "compression": compression, "border": border}


def cues(photos: NDArray[np.uint8]) -> dict[str, NDArray]:
    """Each of CUES for photos uint8 (N, S, S, 3): {name: features (N, D)}."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    upper = [photo[: round(UPPER * len(photo))].astype(np.float32) @ weights for photo in photos]
    return {name: measure(upper) for name, measure in CUES.items()}


def told_apart(
    kinds: dict[str, NDArray], masked: NDArray[np.bool_], groups: NDArray, seed: int = 0
) -> dict[str, float]:
    """The balanced accuracy, 0..1, of trees that tell masked from unmasked photos by each kind of features (N, D), in
    cross-validation. NaN if a domain has fewer than MIN_PHOTOS photos.

    Args:
        groups: (N,), photos of one group are always in one fold.
    """
    if min(masked.sum(), (~masked).sum()) < MIN_PHOTOS:
        return dict.fromkeys(kinds, float("nan"))

    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

    trees = ExtraTreesClassifier(TREES, min_samples_leaf=3, random_state=seed)
    # Split once for all kinds: with many small groups, this takes a third as long as training the trees.
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(masked, masked, groups))
    return {
        name: float(cross_val_score(trees, features, masked, cv=folds, scoring="balanced_accuracy").mean())
        for name, features in kinds.items()
    }
