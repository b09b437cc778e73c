"""Pictures with the spectrum of photos, and functions that make altered copies."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter


@cache
def picture(seed: int, height: int = 128, width: int = 96) -> np.ndarray:
    """A picture with the spectrum of a photo: noise at four scales."""
    noise = np.random.default_rng(seed).normal(size=(4, height, width, 3))
    total = sum(gaussian_filter(layer, (s, s, 0)) * s for layer, s in zip(noise, (24, 12, 5, 2), strict=True))
    return np.uint8(np.clip(128 + 50 * total / total.std(), 0, 255))


def cut(photo: np.ndarray, share: float, right: float = 0.5, down: float = 0.5) -> np.ndarray:
    """Cuts `share` of the width and height off each side on average; right and down (0 to 1) place what is left."""
    height, width = (round(side * (1 - 2 * share)) for side in photo.shape[:2])
    top, left = round((photo.shape[0] - height) * down), round((photo.shape[1] - width) * right)
    return photo[top : top + height, left : left + width]


def turned(photo: np.ndarray, degrees: float, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    height, width = photo.shape[:2]
    about = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(np.ascontiguousarray(photo), about, (width, height), borderMode=border)
