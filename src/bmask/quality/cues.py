"""Can the domains be told apart by what is not the mask? Then systems and judge may learn that instead.

A classifier is shown one kind of cue at a time and asked which domain a photo is from: 50 % is a guess. Near-duplicates
stay on one side of its cross-validation. Everything is measured above the mask, in the upper UPPER of the square.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

UPPER = 0.4  # share of the side
BANDS = 12  # of spatial frequency, up to half a cycle a pixel
BLOCK = 8  # px; JPEG's
FOLDS = 5
FEWEST = 100  # photos of a domain; below, an accuracy says nothing
TREES = 100


def spectrum(grey: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean log power in BANDS rings of spatial frequency: sharpness, noise, enlargement."""
    height, width = grey.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    ring = np.minimum(frequency / 0.5 * BANDS, BANDS).astype(int).ravel()  # the corners beyond are left out
    total, count = np.bincount(ring, power.ravel(), BANDS), np.bincount(ring, minlength=BANDS)
    return np.log(total[:BANDS] / np.maximum(count[:BANDS], 1) + 1e-3)


def compression(grey: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much more grey levels jump at every eighth line, along both axes: the grid of JPEG's blocks."""
    found = []
    for jumps in (np.abs(np.diff(grey, axis=0)).mean(1), np.abs(np.diff(grey, axis=1)).mean(0)):
        phases = np.array([jumps[phase::BLOCK].mean() for phase in range(min(BLOCK, len(jumps)))])
        found += [phases[-1] / (phases.mean() + 1e-6), phases.max() / (phases.mean() + 1e-6)]
    return np.array(found)


def border(grey: NDArray[np.float32]) -> NDArray[np.float64]:
    """How flat the outermost lines are and how they differ from those further in: frames, bars, padding."""
    sides = (grey, grey[:, ::-1].T, grey.T)  # their first rows: top, right, left
    return np.array([value for side in sides for value in (side[0].std(), np.abs(side[0] - side[2]).mean())])


CUES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float64]]] = {
    "spectrum": spectrum,
    "compression": compression,
    "border": border,
}


def cues(photos: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Each of CUES for photos uint8 (N, S, S, 3): {name: (N, numbers)}."""
    weights = np.float32([0.299, 0.587, 0.114])
    upper = [photo[: round(UPPER * len(photo))].astype(np.float32) @ weights for photo in photos]
    return {name: np.array([measure(grey) for grey in upper]) for name, measure in CUES.items()}


def told_apart(
    kinds: dict[str, NDArray], masked: NDArray[np.bool_], groups: NDArray, seed: int = 0
) -> dict[str, float]:
    """For each kind of features (N, D) the balanced accuracy, 0..1, of trees that tell masked photos from others by it,
    on photos that they were not grown on. NaN where a domain has fewer than FEWEST photos.

    Args:
        groups: (N,), photos of one group are never on both sides.
    """
    if min(masked.sum(), (~masked).sum()) < FEWEST:
        return dict.fromkeys(kinds, float("nan"))

    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

    trees = ExtraTreesClassifier(TREES, min_samples_leaf=3, random_state=seed)
    # Once for all kinds: with many small groups, dealing them out takes a third as long as growing the trees.
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(masked, masked, groups))
    return {
        name: float(cross_val_score(trees, features, masked, cv=folds, scoring="balanced_accuracy").mean())
        for name, features in kinds.items()
    }
