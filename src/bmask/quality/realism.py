"""Realism as a two-sample test: how well a classifier separates generated lower faces from real ones.

Lopez-Paz and Oquab 2017: train a classifier on part of both samples and test it on the rest. An accuracy of 0.5 means
that it cannot separate them, 1 that it always can. The features are fixed and in no network's loss: histograms of
oriented gradients (Dalal and Triggs 2005), colours, and contrast at four scales, each in a coarse grid.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

LOWER = 0.5  # the lower face begins at this share of the height
SIDE = 48  # px of the square that the lower face is resized to
GRID = 3  # cells a side
BINS = 8  # of gradient directions
FOLDS = 5
RIDGE = 1.0

Photos = NDArray[np.uint8]


class Told(NamedTuple):
    """Whether a classifier that was not trained on a photo is right about it, 0 or 1; NaN where there was none."""

    fake: NDArray[np.float64]  # (N,)
    real: NDArray[np.float64]  # (M,)

    @property
    def accuracy(self) -> float:
        """Mean over both samples, so that the larger one does not count more."""
        return float(np.mean([np.nan if np.isnan(own).all() else np.nanmean(own) for own in self]))


def lower_features(photos: Photos) -> NDArray[np.float64]:
    """uint8 (N, S, S, 3) -> (N, D)."""
    rows = []
    for photo in photos:
        top, side = round(LOWER * len(photo)), len(photo)
        face = cv2.resize(photo[top:, side // 8 : side - side // 8], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        rows.append(_features(face.astype(np.float32) / 255))
    return np.stack(rows)


def _features(face: NDArray[np.float32]) -> NDArray[np.float64]:
    grey = face.mean(axis=2)
    down, across = np.gradient(grey)
    strength, bins = np.hypot(down, across), ((np.arctan2(down, across) % np.pi) / np.pi * BINS).astype(int) % BINS
    parts = [_cells(strength * (bins == b)) for b in range(BINS)]
    histogram = np.stack(parts)
    found = [histogram / (histogram.sum(axis=0) + 0.01), *(_cells(face[..., c])[None] for c in range(3))]
    low = grey
    for _ in range(4):
        smooth = cv2.GaussianBlur(low, (0, 0), 1.5)
        found.append(np.log(_cells((low - smooth) ** 2) + 1e-5)[None])
        low = smooth
    return np.concatenate([part.ravel() for part in found]).astype(np.float64)


def _cells(plane: NDArray) -> NDArray:
    """Means over a grid of cells, (GRID, GRID)."""
    cell = SIDE // GRID
    return plane.reshape(GRID, cell, GRID, cell).mean(axis=(1, 3))


def two_sample(
    fake: NDArray[np.float64],
    real: NDArray[np.float64],
    groups: tuple[NDArray[np.str_], NDArray[np.str_]],
    seed: int = 0,
) -> Told:
    """Cross-validates a linear classifier on features (N, D) and (M, D); photos of one group share a fold."""
    x = np.concatenate([fake, real])
    y = np.concatenate([np.full(len(fake), 1.0), np.full(len(real), -1.0)])
    names, member = np.unique(np.concatenate(groups), return_inverse=True)
    folds = min(FOLDS, len(names))
    fold = (np.random.default_rng(seed).permutation(len(names)) % folds)[member]
    right = np.full(len(x), np.nan)
    for held in range(folds):
        test = fold == held
        if test.any() and len(np.unique(y[~test])) == 2:
            right[test] = np.sign(_fitted(x[~test], y[~test], x[test])) == y[test]
    return Told(right[: len(fake)], right[len(fake) :])


def _fitted(x: NDArray, y: NDArray, unseen: NDArray) -> NDArray:
    """Ridge regression on standardised features, both samples weighted equally (Fisher's discriminant with a ridge)."""
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, unseen = (x - mean) / spread, (unseen - mean) / spread
    weight = np.where(y > 0, 0.5 / (y > 0).mean(), 0.5 / (y < 0).mean())[:, None]
    x, unseen = np.c_[x, np.ones(len(x))], np.c_[unseen, np.ones(len(unseen))]
    gram = x.T @ (weight * x) + RIDGE * x.shape[1] * np.eye(x.shape[1])
    return unseen @ np.linalg.solve(gram, x.T @ (weight[:, 0] * y))


def real_against_real(real: NDArray[np.float64], groups: NDArray[np.str_], seed: int = 0) -> Told:
    """The test on two halves of the real photos: its result where there is no difference."""
    names, member = np.unique(groups, return_inverse=True)
    half = (np.random.default_rng(seed).permutation(len(names)) % 2 == 0)[member]
    return two_sample(real[half], real[~half], (groups[half], groups[~half]), seed)
