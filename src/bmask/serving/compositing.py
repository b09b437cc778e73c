"""Applies a generator's change of a small square to the photo, at the photo's own resolution.

A generator sees the photo's middle square, resized to x. It returns an image y and, where it has one, an attention mask
a. Both schemes of AttentionGAN add a foreground F to what remains of their input,

    y = F + x (1 - a)        F = C A in scheme I, the sum of C_i A_i in scheme II,

so F = y - x (1 - a) is what the generator painted, multiplied by its attention. In compositing this is called
premultiplied alpha. Premultiplied pictures may be interpolated, so F and a are enlarged and laid over the photo p:

    out = s up(F) + (1 - s A) p        A = up(a),   s = clip((A - threshold) / (1 - threshold), 0, 1) / A.

Consequences:
- where A <= threshold, s is 0 and the photo's own pixel is kept, bit for bit;
- at the threshold the result is continuous, since s A is 0 there;
- where the attention is partial, the photo's fine detail stays in proportion to 1 - s A;
- at equal sizes and threshold 0, out = y + (1 - a)(p - x), which is y itself where p = x.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from bmask.data.reading.framing import frame as crop
from bmask.data.reading.framing import resample
from bmask.serving.grain import match_grain

# Share of a face's square: with an older photos-128 at most 0.02 on 60 bare faces, over 0.2 on 63 of 64 masked ones.
MIN_MASK_SHARE = 0.04
OVAL = (0.5, 0.54, 0.46, 0.44)  # a face in its square: centre x, y and half axes, as shares of the side
FEATHER = 0.25  # share of the half axes over which the oval's edge fades


def middle_square(height: int, width: int) -> tuple[int, int, int]:
    """The square a generator sees: (top, left, side) in pixels of the photo."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def frame(photo: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a photo, uint8 (H, W, 3), resized as ingest does: uint8 (size, size, 3)."""
    return resample(crop(photo, "crop"), size)


def opacity(photo_shape: tuple[int, ...], attention: np.ndarray | None, threshold: float) -> np.ndarray:
    """How much the generator replaces each pixel of the photo: s A above, float32 (H, W) in [0, 1].

    It is exactly 0 where the photo's pixel is kept. Without attention it is 1 in the whole middle square.
    """
    height, width = photo_shape[:2]
    top, left, side = middle_square(height, width)
    result = np.zeros((height, width), np.float32)
    if attention is None:
        result[top : top + side, left : left + side] = 1
    else:
        result[top : top + side, left : left + side] = _above(_enlarge(attention, side), threshold)
    return result


def composite(
    photo: np.ndarray, low: np.ndarray, image: np.ndarray, attention: np.ndarray | None, threshold: float
) -> np.ndarray:
    """Lays a generator's result over the photo it was made from.

    Args:
        photo: uint8 (H, W, 3), any size.
        low: uint8 (h, w, 3), the generator's own input, as `frame` gives it.
        image: the generator's output (h, w, 3), float in [-1, 1] or uint8.
        attention: float (h, w) in [0, 1], or None: then `image` replaces the whole middle square.
        threshold: in [0, 1); attention up to it counts as 0.

    Returns:
        uint8 (H, W, 3). Outside the middle square, and where the attention is at most `threshold`, it is the photo.

    Raises:
        ValueError: the pictures' shapes do not fit together.
    """
    if low.shape != image.shape or (attention is not None and attention.shape != low.shape[:2]):
        shapes = low.shape, image.shape, None if attention is None else attention.shape
        raise ValueError(f"low, image and attention have shapes {shapes}; they must come from one generator call")
    top, left, side = middle_square(*photo.shape[:2])
    result = photo.copy()
    square = result[top : top + side, left : left + side]
    painted = image.astype(np.float32) if image.dtype == np.uint8 else (image.astype(np.float32) + 1) * 127.5
    if attention is None:
        square[:] = _to_bytes(_enlarge(painted, side))
        return result

    attention = attention.astype(np.float32)
    foreground = painted - low * (1 - attention[..., None])
    _lay_over(square, foreground, attention, threshold, lambda plane: _enlarge(plane, side))
    return result


def composite_face(
    photo: np.ndarray,
    low: np.ndarray,
    image: np.ndarray,
    attention: np.ndarray | None,
    threshold: float,
    lay_back: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """As `composite`, for a face that was turned and scaled into the generator's square. Without attention, it changes
    an oval around the face.

    Args:
        lay_back: maps float32 (h, w) of the generator's square to (H, W) of the photo, 0 outside the square.

    Returns:
        The result, uint8 (H, W, 3), and its opacity as in `opacity`, float32 (H, W).
    """
    painted = image.astype(np.float32) if image.dtype == np.uint8 else (image.astype(np.float32) + 1) * 127.5
    if attention is None:
        attention, threshold = feathered_face(low.shape[0]), 0.0
        foreground = painted * attention[..., None]
    else:
        attention = attention.astype(np.float32)
        foreground = painted - low * (1 - attention[..., None])
    result = photo.copy()
    weight = _lay_over(result, foreground, attention, threshold, lay_back)
    match_grain(photo, result, weight)
    return result, weight


def shows_mask(attention: np.ndarray) -> bool:
    """Whether the attention (h, w) on a framed face is large enough to count as a mask."""
    return bool((attention > 0.5).mean() >= MIN_MASK_SHARE)


def settled(attention: np.ndarray) -> np.ndarray:
    """The attention (h, w) on a framed face; all 0 if it does not count as a mask, so that the face stays unchanged."""
    return attention if shows_mask(attention) else np.zeros_like(attention)


def feathered_face(side: int) -> np.ndarray:
    """The face's oval in its square, float32 (side, side): 1 inside, falling linearly to 0 at the oval's edge."""
    down, across = (np.mgrid[:side, :side].astype(np.float32) + 0.5) / side
    distance = np.hypot((across - OVAL[0]) / OVAL[2], (down - OVAL[1]) / OVAL[3])
    return np.clip((1 - distance) / FEATHER, 0, 1)


def _lay_over(
    photo: np.ndarray,
    foreground: np.ndarray,
    attention: np.ndarray,
    threshold: float,
    enlarge: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Changes the photo, uint8 (H, W, 3), in place; returns the opacity (H, W). `enlarge` maps planes (h, w) to it."""
    wide = enlarge(attention)
    weight = _above(wide, threshold)
    kept = weight <= 0
    share = weight / np.where(kept, 1, wide)
    for channel in range(3):  # one at a time: in float32, a photo of 12 megapixels needs 36 MB per plane
        own = photo[..., channel]
        blend = share * enlarge(foreground[..., channel]) + (1 - weight) * own
        photo[..., channel] = np.where(kept, own, _to_bytes(blend))
    return weight


def _above(attention: np.ndarray, threshold: float) -> np.ndarray:
    """Rescales attention: 0 up to the threshold, then linearly up to 1."""
    return np.clip((attention - threshold) / (1 - threshold), 0, 1)


def _enlarge(picture: np.ndarray, side: int) -> np.ndarray:
    """Resizes to a photo's side, in float32: cubic to enlarge, area averages to shrink."""
    picture = picture.astype(np.float32, copy=False)
    if picture.shape[0] == side:
        return picture
    shrinks = side < picture.shape[0]
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(picture + 0.5), 0, 255).astype(np.uint8)
