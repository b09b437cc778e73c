"""The grain of a photo on what was painted: a small generator's face, enlarged, is smoother than any photo."""

from __future__ import annotations

import cv2
import numpy as np

FINE = 1.0  # px, deviation of the blur that grain does not survive
SURVIVES = 0.873  # share of white noise's deviation that is finer: (1 - 2 G(0) + sum of G squared) ** 0.5
CALM = 3.0  # px, over which a picture's detail is judged: grain is looked for in its calmer half
SOLID = 0.9  # opacity from which a pixel counts as painted
LEAST = 100  # px that are looked at, or nothing is said


def match_grain(photo: np.ndarray, painted: np.ndarray, weight: np.ndarray) -> None:
    """Adds to a photo with something painted over it the grain that the photo has beside it.

    Args:
        photo: uint8 (H, W, 3), as it was.
        painted: uint8 (H, W, 3), changed in place; a pixel of weight 0 stays as it is.
        weight: (H, W) in [0, 1], how much of a pixel was painted.

    The noise is grey and Gaussian, always the same for the same shape. A photo without grain gets none, nor does what
    has as much as its photo already.
    """
    wanted, has = _grain(photo, weight == 0), _grain(painted, weight > SOLID)
    if not wanted > has:
        return
    deviation = np.sqrt(wanted**2 - has**2) / SURVIVES
    noise = np.random.default_rng(0).standard_normal(weight.shape, np.float32) * (deviation * weight)
    there = weight > 0
    grained = np.floor(painted[there] + noise[there][:, None] + 0.5)
    painted[there] = np.clip(grained, 0, 255).astype(np.uint8)


def _grain(picture: np.ndarray, where: np.ndarray) -> float:
    """Deviation of what is finer than FINE in the calmer half of a place, grey levels, by the median of its size."""
    if where.sum() < LEAST:
        return 0.0
    grey = picture.mean(axis=2, dtype=np.float32)
    fine = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), FINE))
    detail = cv2.GaussianBlur(fine, (0, 0), CALM)[where]
    return float(np.median(fine[where][detail <= np.median(detail)])) / 0.6745  # of a normal distribution
