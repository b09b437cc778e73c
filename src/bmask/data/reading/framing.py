"""Turns photos into squares: never squashed, resampled without aliasing, all compressed in the same way."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def frame(photo: np.ndarray, fit: str) -> np.ndarray:
    """uint8 (H, W, ...) -> square (S, S, ...), never squashed.

    `crop` and `aligned` (for photos of faces) take the middle square. `pad` keeps the whole photo and continues its
    edges, blurred: black bars would dominate the picture, and a mirrored border would show half of a second face.
    """
    height, width = photo.shape[:2]
    side = effective_side(width, height, fit)
    if fit != "pad":
        top, left = (height - side) // 2, (width - side) // 2
        return photo[top : top + side, left : left + side]
    top, left = (side - height) // 2, (side - width) // 2
    border = (top, side - height - top, left, side - width - left)
    square = cv2.copyMakeBorder(np.ascontiguousarray(photo), *border, cv2.BORDER_REPLICATE)
    reach = (side // 8 | 1,) * 2
    square = cv2.blur(cv2.blur(square, reach), reach)  # nearly a Gaussian, but its cost does not grow with `reach`
    square[top : top + height, left : left + width] = photo
    return square


def middle(photo: Image.Image) -> Image.Image:
    """The square that `frame` crops."""
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.crop((left, top, left + side, top + side))


def effective_side(width: ArrayLike, height: ArrayLike, fit: str) -> Any:
    """Side of the square that `frame` returns, px, for one photo or for many, int (N,)."""
    return (np.maximum if fit == "pad" else np.minimum)(width, height)


def resample(square: np.ndarray, side: int) -> np.ndarray:
    """uint8 (S, S, 3) -> uint8 (side, side, 3): Lanczos, with wider support when shrinking to avoid aliasing.

    Averages whole pixels first, down to three times the side, which is faster and hardly changes the result.
    """
    return square if square.shape[0] == side else np.asarray(resample_image(Image.fromarray(square), side))


def resample_image(square: Image.Image, side: int) -> Image.Image:
    """As `resample`."""
    return square.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)


def recompress(square: np.ndarray, quality: int) -> np.ndarray:
    """Compresses uint8 (S, S, 3) as JPEG of this quality (1 to 100), colours at half the resolution, and decodes it."""
    buffer = io.BytesIO()
    Image.fromarray(square).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer).convert("RGB"))
