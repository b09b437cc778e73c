"""Turns, scales and shifts a face so that eyes, nose and mouth match the template, and lays it back.

Coordinates are continuous, in px: (0, 0) is the upper left corner of a picture and (0.5, 0.5) the middle of its first
pixel, so that they scale with the picture. A transform is float64 (2, 3), [A | t], and takes a point p to A p + t.
"""

from __future__ import annotations

import cv2
import numpy as np

from bmask.faces.template import CENTRE, TEMPLATE

GREY = 127  # fills what lies outside a photo; mirrored borders would add second faces


def to_square(
    landmarks: np.ndarray, side: float, centre: float = CENTRE, template: np.ndarray = TEMPLATE
) -> np.ndarray:
    """The transform (2, 3) from a photo to a square picture of its face.

    Args:
        landmarks: float (5, 2), x and y, px of the photo.
        side: of the square, px.
        centre: the share of the side that the generator's picture takes; 1 for that picture itself.
        template: where the landmarks belong in that picture.
    """
    return umeyama(landmarks, (template * centre + (1 - centre) / 2) * side)


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (rotation, one scale, shift; no mirroring) that takes points to points by least squares.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns". In the plane it
    needs no singular values: scale and rotation are one complex number, and the estimate is linear in it.

    Args:
        source, target: float (N, 2), not all of the source's points in one place.

    Returns:
        float64 (2, 3).
    """
    middle, aim = np.mean(source, 0), np.mean(target, 0)
    x, y = (source - middle).T
    u, v = (target - aim).T
    cosine, sine = np.array([x @ u + y @ v, x @ v - y @ u]) / (x @ x + y @ y)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack([turn, (aim - turn @ middle)[:, None]])


def apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where the transform takes points, float (N, 2)."""
    return points @ transform[:, :2].T + transform[:, 2]


def scale_of(transform: np.ndarray) -> float:
    """The factor by which a similarity enlarges."""
    return float(np.sqrt(np.abs(np.linalg.det(transform[:, :2]))))


def invert(transform: np.ndarray) -> np.ndarray:
    """The inverse transform (2, 3)."""
    back = np.linalg.inv(transform[:, :2])
    return np.hstack([back, -back @ transform[:, 2:]])


def bounds(transform: np.ndarray, side: float, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right, px, of the part of a photo that the square of a transform touches."""
    corners = apply(invert(transform), np.array([(0, 0), (side, 0), (0, side), (side, side)]))
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    left, top = np.clip(low, 0, (width, height)).tolist()
    right, bottom = np.clip(high, 0, (width, height)).tolist()
    return top, bottom, left, right


def align(photo: np.ndarray, transform: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H, W, C) -> uint8 (side, side, C): the face in its place, grey where the photo ends."""
    return warp(photo, transform, (side, side), GREY)


def extend(square: np.ndarray, transform: np.ndarray, height: int, width: int, margin: float) -> np.ndarray:
    """Replaces the part of a square outside its photo by the nearest pixels of the photo.

    That part is grey, which makes a generated picture greyish at the photo's edge too, and that would be laid back.

    Args:
        square: uint8 or float32 (S, S) or (S, S, C), C at most 4.
        transform: of `align`.
        height, width: of the photo, px.
        margin: px of the square within the photo's edge that are replaced too.
    """
    side = square.shape[0]
    down, across = np.mgrid[:side, :side] + 0.5
    points = apply(invert(transform), np.stack([across.ravel(), down.ravel()], 1))
    inner = min(margin / scale_of(transform), height / 4, width / 4)
    nearest = np.clip(points, inner, (width - inner, height - inner))
    if np.array_equal(points, nearest):
        return square
    x, y = np.float32(apply(transform, nearest) - 0.5).T.reshape(2, side, side)
    return cv2.remap(np.ascontiguousarray(square), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def lay_back(picture: np.ndarray, transform: np.ndarray, height: int, width: int) -> np.ndarray:
    """The inverse of `align`: a square picture where it came from.

    Args:
        picture: uint8 or float32 (S, S) or (S, S, C), C at most 4, such as a mask or premultiplied colours.
        transform: that `align` was given.
        height, width: of the photo, px.

    Returns:
        The same type, (height, width) or (height, width, C); 0 outside the square.
    """
    return warp(picture, invert(transform), (height, width), 0)


def warp(picture: np.ndarray, transform: np.ndarray, shape: tuple[int, int], border: float) -> np.ndarray:
    """Warps a picture (H, W) or (H, W, C) by a similarity to a canvas of (height, width), with cubic interpolation.

    Against aliasing, a picture that shrinks is averaged down to twice the resolution of the canvas, warped at that
    resolution, and averaged down to the canvas.
    """
    height, width = shape
    scale = scale_of(transform)
    over = 2 if scale < 1 else 1
    transform, scale = transform * over, scale * over
    if scale < 1:
        rows, columns = picture.shape[:2]
        smaller = max(1, round(columns * scale)), max(1, round(rows * scale))
        picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)
        transform = transform @ np.diag([columns / smaller[0], rows / smaller[1], 1])
    pixels = transform.copy()
    pixels[:, 2] += transform[:, :2].sum(1) / 2 - 0.5  # OpenCV counts from the middle of the first pixel
    canvas = cv2.warpAffine(
        np.ascontiguousarray(picture),
        pixels,
        (width * over, height * over),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(border,) * 4,
    )
    return canvas if over == 1 else cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
