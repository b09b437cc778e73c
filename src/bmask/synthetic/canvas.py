"""Painting: oversampled pictures, outlines as layers with soft edges, and the pose that places a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike

Points = np.ndarray  # (N, 2) float, x to the right and y down
Corners = np.ndarray | Sequence[Sequence[float] | np.ndarray]  # the same, or convertible into it
Layer = tuple[slice, slice, np.ndarray]  # rows, columns and opacity (rows, columns) of a window of the picture
_SHIFT = 4  # fractional bits of polygon corners
_EMPTY = (slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32))


def colour(*rgb: float) -> np.ndarray:
    """An RGB colour in 0..255 as float32 in 0..1."""
    return np.asarray(rgb, np.float32) / 255


def rounded(points: Corners, times: int = 3, closed: bool = True) -> Points:
    """Chaikin's corner cutting: a smooth curve along a few corners. Open curves keep their ends."""
    return _cutting(len(points), times, closed) @ np.asarray(points, np.float64)


@lru_cache(maxsize=256)
def _cutting(n: int, times: int, closed: bool) -> np.ndarray:
    """The matrix (corners after, n) of all rounds of corner cutting, which is a linear operation."""
    points = np.eye(n)
    for _ in range(times):
        before = points if closed else points[:-1]
        after = np.roll(points, -1, axis=0) if closed else points[1:]
        cut = np.empty((2 * len(before), n))
        cut[0::2], cut[1::2] = 0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after
        points = cut if closed else np.concatenate([points[:1], cut, points[-1:]])
    return points


def across(right: Corners, times: int = 3) -> Points:
    """A smooth open curve across the face, left to right. `right` is its right half, from the outside in."""
    right = np.asarray(right, np.float64)
    return rounded(np.concatenate([right * (-1, 1), right[::-1]]), times, closed=False)


def mirrored(right: Corners) -> Points:
    """A closed outline from its right half, top to bottom. Ends on the axis of symmetry are not doubled."""
    right = np.asarray(right, np.float64)
    left = (right * (-1, 1))[::-1]
    return np.concatenate([right, left[int(right[-1, 0] == 0) : len(left) - int(right[0, 0] == 0)]])


@lru_cache
def _circle(corners: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def ellipse(x: float, y: float, width: float, height: float, tilt: float = 0.0, corners: int = 24) -> Points:
    """An ellipse around (x, y) with half axes `width` and `height`, rotated by `tilt` radians."""
    local = _circle(corners) * (width, height)
    if tilt:
        c, s = np.cos(tilt), np.sin(tilt)
        local = local @ ((c, s), (-s, c))
    return local + (x, y)


@dataclass(frozen=True)
class Pose:
    """Where a head is in the picture and where it looks.

    Head coordinates: the origin is between the eyes, the crown at y = -1, the chin at y = 1, ears near x = -0.7, 0.7.
    """

    x: float  # of the origin, share of the picture's side
    y: float
    scale: float  # of one unit, share of the picture's side
    roll: float  # radians
    yaw: float  # -1..1, about 40 degrees either way
    pitch: float  # -1..1
    width: float = 0.72  # half width of the head, in head units; `turn` does not move points there

    def turn(self, points: Corners, lift: float = 0.0) -> Points:
        """Head coordinates after yaw and pitch: points near the front of the head move most, its outline hardly."""
        points = np.asarray(points, np.float64)
        x, y = points[:, 0], points[:, 1]
        depth = np.maximum(1 - (x / self.width) ** 2 - (y / 1.08) ** 2, 0) + lift
        jaw = np.minimum(np.maximum((y - 0.1) / 0.9, 0), 1)
        turned = np.empty_like(points)
        turned[:, 0] = x + self.yaw * (0.31 * depth + 0.16 * jaw)
        turned[:, 1] = y + self.pitch * 0.16 * depth
        return turned

    def place(self, points: Corners) -> Points:
        """Converts turned head coordinates to shares of the picture's side."""
        c, s = np.cos(self.roll) * self.scale, np.sin(self.roll) * self.scale
        return np.asarray(points) @ ((c, s), (-s, c)) + (self.x, self.y)

    def __call__(self, points: Corners, lift: float = 0.0) -> Points:
        return self.place(self.turn(points, lift))

    def grid(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Turned head coordinates (x, y) of the centres of the cells of a grid over the picture; each (side, side)."""
        at = (np.arange(side, dtype=np.float32) + 0.5) / side
        x, y = at[None, :] - self.x, at[:, None] - self.y
        c, s = np.cos(self.roll) / self.scale, np.sin(self.roll) / self.scale
        return (x * c + y * s).astype(np.float32), (y * c - x * s).astype(np.float32)


class Canvas:
    """A picture without masks; after the first mask also its masked copy and the share of mask in each pixel.

    Pictures are (3, side, side) float32, since separate planes are faster than interleaved pixels. Positions, widths
    and blurs are shares of the side.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self.images = [np.zeros((3, side, side), np.float32)]
        self.coverage: np.ndarray | None = None

    def fill(self, *outlines: Points, blur: float = 0.0, within: Layer | None = None) -> Layer:
        """The layer of filled outlines, with blurred edges and limited to the layer `within`."""
        return self._layer(outlines, 0.0, blur, within)

    def line(self, *lines: Points, width: float, blur: float = 0.0, within: Layer | None = None) -> Layer:
        """The layer of strokes."""
        return self._layer(lines, width, blur, within)

    def _layer(self, outlines: Sequence[Points], width: float, blur: float, within: Layer | None) -> Layer:
        shrink = max(1, int(blur * self.side / 2.5))  # a coarse grid is enough for a wide blur
        side = -(-self.side // shrink)
        thick = max(1, round(width * side)) if width else 0
        points = (np.concatenate(outlines) if len(outlines) > 1 else outlines[0]) * (self.side / shrink)
        margin = int(2.5 * blur * side) + thick + 2
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        left, right = max(0, int(left) - margin), min(side, int(right) + margin + 1)
        top, bottom = max(0, int(top) - margin), min(side, int(bottom) + margin + 1)
        if right <= left or bottom <= top:
            return _EMPTY
        alpha: np.ndarray = np.zeros((bottom - top, right - left), np.uint8)
        corners = np.rint((points - (left + 0.5, top + 0.5)) * (1 << _SHIFT)).astype(np.int32)
        shapes = np.split(corners, np.cumsum([len(o) for o in outlines[:-1]])) if len(outlines) > 1 else [corners]
        if thick:
            cv2.polylines(alpha, shapes, False, 255, thick, cv2.LINE_AA, _SHIFT)
        else:
            for shape in shapes:  # one at a time, so that overlaps stay filled
                cv2.fillPoly(alpha, [shape], 255, cv2.LINE_AA, _SHIFT)
        if blur:
            reach = 2 * int(2 * blur * side + 0.5) + 1
            alpha = cv2.GaussianBlur(alpha, (reach, reach), blur * side)
        rows = slice(top * shrink, min(bottom * shrink, self.side))
        columns = slice(left * shrink, min(right * shrink, self.side))
        if shrink > 1:
            alpha = cv2.resize(alpha, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_LINEAR)
            alpha = alpha[: rows.stop - rows.start, : columns.stop - columns.start]
        layer = rows, columns, alpha * np.float32(1 / 255)
        return self.inside(layer, within) if within is not None else layer

    def inside(self, layer: Layer, other: Layer, out: bool = False) -> Layer:
        """The part of a layer inside another, or with `out` the part outside."""
        rows, columns, alpha = layer
        full = np.zeros((self.side, self.side), np.float32)
        full[other[0], other[1]] = other[2]
        window = full[rows, columns]
        return rows, columns, alpha * (1 - window if out else window)

    def paint(
        self,
        layer: Layer,
        paint: ArrayLike,
        light: np.ndarray | None = None,
        opacity: float = 1.0,
        texture: np.ndarray | None = None,
    ) -> None:
        """Paints on the picture and its masked copy; multiplies the paint by `light` (3, side, side) and `texture`."""
        paint, alpha = _mixed(layer, paint, light, opacity, texture)
        for image in self.images:
            _blend(image, layer, paint, alpha)
        if self.coverage is not None:
            self.coverage[layer[:2]] *= 1 - alpha

    def paint_mask(
        self,
        layer: Layer,
        paint: ArrayLike,
        light: np.ndarray | None = None,
        opacity: float = 1.0,
        texture: np.ndarray | None = None,
    ) -> None:
        """Paints only on the masked copy and counts the layer as mask."""
        if self.coverage is None:
            self.images.append(self.images[0].copy())
            self.coverage = np.zeros((self.side, self.side), np.float32)
        paint, alpha = _mixed(layer, paint, light, opacity, texture)
        _blend(self.images[1], layer, paint, alpha)
        covered = self.coverage[layer[:2]]
        covered += alpha * (1 - covered)


def _mixed(
    layer: Layer, paint: ArrayLike, light: np.ndarray | None, opacity: float, texture: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns, alpha = layer
    colours = np.asarray(paint, np.float32)
    colours = colours[:, None, None] if colours.ndim == 1 else colours[:, rows, columns]
    if light is not None:
        colours = colours * light[:, rows, columns]
    if texture is not None:
        colours = colours * texture[rows, columns]
    return colours, alpha if opacity == 1 else alpha * np.float32(opacity)


def _blend(image: np.ndarray, layer: Layer, paint: np.ndarray, alpha: np.ndarray) -> None:
    window = image[:, layer[0], layer[1]]
    change = paint - window
    change *= alpha
    window += change
