"""The grain of a photo on what was painted: a small generator's face, enlarged, is smoother than any photo."""

from __future__ import annotations

import cv2
import numpy as np

FINE = 1.0  # px, deviation of the blur that grain does not survive
SURVIVES = 0.873  # share of white noise's deviation that is finer: (1 - 2 G(0) + sum of G squared) ** 0.5
CALM, CALMEST = 8.0, 0.2  # px over which detail is judged, and the share of pixels with least of it: skin, sky, walls
SOLID = 0.9  # opacity from which a pixel counts as painted
LEAST = 100  # px that must be there to be looked at
MOST = 8.0  # grey levels; what is rougher is hair or cloth, no grain
WINDOW = 2048  # px a side about the middle in which grain is measured
ROWS = 256  # that get their noise at a time: photos may be large


def match_grain(photo: np.ndarray, painted: np.ndarray, weight: np.ndarray) -> None:
    """Adds to a photo with something painted over it the grain that the photo has beside it.

    The noise is grey and Gaussian, always the same for the same shape. Nothing is added where the photo has no grain,
    where what was painted has as much already, or where there is too little of either to tell.

    Args:
        photo: uint8 (H, W, 3), as it was.
        painted: uint8 (H, W, 3), changed in place; a pixel of weight 0 stays as it is.
        weight: float32 (H, W) in [0, 1], how much of a pixel was painted.
    """
    middle = tuple(slice(max(0, (side - WINDOW) // 2), (side + WINDOW) // 2) for side in weight.shape)
    wanted = _grain(photo[middle], weight[middle] == 0)
    has = _grain(painted[middle], weight[middle] > SOLID)
    if wanted is None or has is None or wanted <= has:
        return
    deviation = np.float32(np.sqrt(min(wanted, MOST) ** 2 - min(has, MOST) ** 2) / SURVIVES)
    draws = np.random.default_rng(0)
    for top in range(0, len(weight), ROWS):
        rows = slice(top, top + ROWS)
        noise = draws.standard_normal(weight[rows].shape, np.float32) * (deviation * weight[rows])
        there = weight[rows] > 0
        for channel in range(3):
            own = painted[rows, :, channel]
            own[there] = np.clip(np.floor(own[there] + noise[there] + np.float32(0.5)), 0, 255)


def _grain(picture: np.ndarray, where: np.ndarray) -> float | None:
    """Deviation of what is finer than FINE in the calmest pixels of a place, grey levels, by the median of its size."""
    if where.sum() < LEAST:
        return None
    grey = picture.mean(axis=2, dtype=np.float32)
    fine = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), FINE))
    detail = cv2.GaussianBlur(fine, (0, 0), CALM)[where]
    return float(np.median(fine[where][detail <= np.quantile(detail, CALMEST)])) / 0.6745  # of a normal distribution
