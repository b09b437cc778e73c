"""Brings what a generator did to a small square back into the photo at the photo's own resolution.

A generator sees the photo's middle square, resized to x. It returns an image y and, where it has one, an attention mask
a. Both schemes of AttentionGAN fuse a foreground F with what remains of their input,

    y = F + x (1 - a)        F = C A in scheme I, the sum of C_i A_i in scheme II,

so that F = y - x (1 - a) is the picture the generator painted, multiplied by its attention: premultiplied alpha, in the
language of compositing. Premultiplied pictures may be interpolated; so F and a are enlarged, and laid over the photo p:

    out = s up(F) + (1 - s A) p        A = up(a),   s A = clip((A - threshold) / (1 - threshold), 0, 1).

What follows from it:
- where A <= threshold, s is 0 and the photo's own pixel is kept, bit for bit;
- at the threshold it is continuous, since s A starts there from 0;
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

# Share of a face's square. That of an older photos-128 was at most 0.02 of 60 bare faces, over 0.2 of 63 of 64 masked.
LEAST = 0.04
OVAL = (0.5, 0.54, 0.46, 0.44)  # of a face in its square: middle and half axes, shares of the side
FEATHER = 0.25  # share of the half axes over which it fades


def middle_square(height: int, width: int) -> tuple[int, int, int]:
    """The square a generator sees: (top, left, side) in pixels of the photo."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def frame(photo: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a photo, uint8 (H, W, 3), resized as ingest does: uint8 (size, size, 3)."""
    return resample(crop(photo, "crop"), size)


def opacity(photo_shape: tuple[int, ...], attention: np.ndarray | None, threshold: float) -> np.ndarray:
    """How much of each pixel of the photo gives way to the generator's: s A above, float32 (H, W) in [0, 1].

    It is exactly 0 where the photo's pixel is kept. Without attention it is 1 all over the middle square.
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
        threshold: in [0, 1); attention up to it counts as none.

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
    """As `composite`, where the generator saw a face of the photo that was turned and scaled; without an attention it
    changes an oval about the face.

    Args:
        lay_back: takes float32 (h, w) from the generator's square to (H, W) of the photo, 0 outside the square.

    Returns:
        uint8 (H, W, 3) and, as of `opacity`, float32 (H, W).
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
    """Whether an attention (h, w) on a framed face is that of a mask."""
    return bool((attention > 0.5).mean() >= LEAST)


def settled(attention: np.ndarray) -> np.ndarray:
    """The attention (h, w) on a framed face; 0 all over where it is none of a mask, so that the face stays as it is."""
    return attention if shows_mask(attention) else np.zeros_like(attention)


def feathered_face(side: int) -> np.ndarray:
    """Where the face is in a square framed by it, float32 (side, side): 1 inside, softly down to 0 at an oval."""
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
    """Changes the photo, uint8 (H, W, 3); returns the opacity (H, W). `enlarge` brings planes (h, w) to its size."""
    wide = enlarge(attention)
    weight = _above(wide, threshold)
    kept = weight <= 0
    share = weight / np.where(kept, 1, wide)
    for channel in range(3):  # one at a time: a photo of 12 megapixels needs 36 MB a plane in float32
        own = photo[..., channel]
        blend = share * enlarge(foreground[..., channel]) + (1 - weight) * own
        photo[..., channel] = np.where(kept, own, _to_bytes(blend))
    return weight


def _above(attention: np.ndarray, threshold: float) -> np.ndarray:
    """Attention with the threshold taken off: 0 up to it, then straight up to 1."""
    return np.clip((attention - threshold) / (1 - threshold), 0, 1)


def _enlarge(picture: np.ndarray, side: int) -> np.ndarray:
    """To a photo's side, in float32: cubic, or area averages where the photo is the smaller one."""
    picture = picture.astype(np.float32, copy=False)
    if picture.shape[0] == side:
        return picture
    shrinks = side < picture.shape[0]
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(picture + 0.5), 0, 255).astype(np.uint8)
