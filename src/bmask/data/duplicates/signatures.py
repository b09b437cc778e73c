"""What ingest keeps of a photo to find its near-duplicates: a perceptual hash, its aspect, a small grey thumbnail.

The hash has 64 bits: the signs of an 8x8 block of the DCT of the 32x32 grey thumbnail, without the first row and column
(Zauner 2010, pHash). Mirroring flips the sign of every odd horizontal frequency and of nothing else, so the mirrored
picture's hash is the hash XOR a constant, and no second hash is needed. (The `imagehash` package compares with a
median, which loses this property, and would be one more dependency.)
"""

from __future__ import annotations

import cv2
import numpy as np

from bmask.data.duplicates.alignment import SIDE, thumbnail
from bmask.data.duplicates.thumbnails import area_average

# 1 KB: the perceptual hash, width : height, and a grey thumbnail for alignment.py.
SIGNATURE = np.dtype([("hash", np.uint64), ("aspect", np.float32), ("thumbnail", np.uint8, (SIDE, SIDE))])

THUMBNAIL = 32  # px
FLAT = 0.5  # a smaller coefficient is rounding noise: an amplitude of 1/32 of a grey level
# float64 (8, THUMBNAIL), orthonormal. Two small products give the 64 coefficients five times as fast as a transform
# that gives all 1024, and without an import of scipy.
_COSINES = np.cos(np.pi * np.outer(np.arange(1, 9), np.arange(THUMBNAIL) + 0.5) / THUMBNAIL) * (2 / THUMBNAIL) ** 0.5


def _bits(block: np.ndarray) -> np.uint64:
    """bool (8, 8), vertical then horizontal frequency -> one number."""
    return np.packbits(block).view(">u8").astype(np.uint64)[0]


_ROW, _COLUMN = np.indices((8, 8))
MIRROR = _bits(_COLUMN % 2 == 0)  # horizontal frequencies 1, 3, 5, 7
COARSE = _bits((_ROW < 4) & (_COLUMN < 4))  # the sixteen lowest frequencies, which hardly ever change sign


def signature(photo: np.ndarray) -> np.void:
    """uint8 (H, W, 3) or grey (H, W) -> one SIGNATURE."""
    height, width = photo.shape[:2]
    grey = photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    return np.array([(perceptual_hash(grey), width / height, thumbnail(grey))], SIGNATURE)[0]


def perceptual_hash(photo: np.ndarray) -> np.uint64:
    """uint8 (H, W, 3) or grey (H, W) -> 64 bits that hardly change with compression, size, light and colour."""
    grey = photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    return _bits(_COSINES @ area_average(grey, THUMBNAIL) @ _COSINES.T > FLAT)
