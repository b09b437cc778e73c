"""Adds a photo's grain to what was painted: an enlarged face of a small generator is smoother than any photo."""

from __future__ import annotations

import cv2
import numpy as np

GRAIN_BLUR = 1.0  # px, deviation of the blur that removes grain
FINE_SHARE = 0.873  # deviation left of white noise without its blur, as a share: (1 - 2 G(0) + sum of G squared) ** 0.5
DETAIL_BLUR, CALM_SHARE = 8.0, 0.2  # px over which detail is averaged; share of pixels with the least: skin, sky, walls
PAINTED = 0.9  # opacity above which a pixel counts as painted
MIN_PIXELS = 100  # fewer are not enough to measure grain
MAX_GRAIN = 8.0  # grey levels; what is rougher is hair or cloth
WINDOW = 2048  # px a side of the middle square in which grain is measured
ROWS = 256  # rows that get their noise at a time, to save memory


def match_grain(photo: np.ndarray, painted: np.ndarray, weight: np.ndarray) -> None:
    """Adds grain to the painted pixels of a photo, as much as the other pixels have.

    The noise is grey and Gaussian, always the same for the same shape. None is added if the photo has no grain, if the
    painted pixels have as much already, or if there are too few pixels of either kind.

    Args:
        photo: uint8 (H, W, 3), before painting.
        painted: uint8 (H, W, 3), changed in place; a pixel of weight 0 stays as it is.
        weight: float32 (H, W) in [0, 1], how much of a pixel was painted.
    """
    middle = tuple(slice(max(0, (side - WINDOW) // 2), (side + WINDOW) // 2) for side in weight.shape)
    wanted = _grain(photo[middle], weight[middle] == 0)
    has = _grain(painted[middle], weight[middle] > PAINTED)
    if wanted is None or has is None or wanted <= has:
        return
    deviation = np.float32(np.sqrt(min(wanted, MAX_GRAIN) ** 2 - min(has, MAX_GRAIN) ** 2) / FINE_SHARE)
    draws = np.random.default_rng(0)
    for top in range(0, len(weight), ROWS):
        rows = slice(top, top + ROWS)
        noise = draws.standard_normal(weight[rows].shape, np.float32) * (deviation * weight[rows])
        there = weight[rows] > 0
        for channel in range(3):
            own = painted[rows, :, channel]
            own[there] = np.clip(np.floor(own[there] + noise[there] + np.float32(0.5)), 0, 255)


def _grain(picture: np.ndarray, where: np.ndarray) -> float | None:
    """Deviation of grain in the calmest pixels of `where`, grey levels, from the median; None for too few pixels."""
    if where.sum() < MIN_PIXELS:
        return None
    grey = picture.mean(axis=2, dtype=np.float32)
    fine = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), GRAIN_BLUR))
    detail = cv2.GaussianBlur(fine, (0, 0), DETAIL_BLUR)[where]
    return float(np.median(fine[where][detail <= np.quantile(detail, CALM_SHARE)])) / 0.6745  # of a normal distribution
