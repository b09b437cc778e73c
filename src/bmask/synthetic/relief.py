"""Shading: the height field of a head and its light. Flat colours multiplied by this light look like a round face."""

from __future__ import annotations

import cv2
import numpy as np

from bmask.synthetic.canvas import Pose
from bmask.synthetic.traits import Light, Person

# x, y, half width x, half width y, height; head coordinates before the turn
_MIDDLE = (
    (0.0, -0.22, 0.34, 0.10, 0.040),  # brow ridge
    (0.0, 0.62, 0.20, 0.10, 0.045),  # mouth
    (0.0, 0.90, 0.14, 0.10, 0.050),  # chin
    (0.0, 0.775, 0.12, 0.035, -0.022),  # below the lower lip
)
_PAIRED = (
    (0.31, -0.04, 0.13, 0.080, -0.045),  # eye sockets
    (0.27, 0.52, 0.05, 0.140, -0.012),  # beside the mouth
)


def _hill(x: np.ndarray, y: np.ndarray, at: np.ndarray, widths: tuple[float, float], height: float) -> np.ndarray:
    return np.float32(height) * np.exp(-(((x - at[0]) / widths[0]) ** 2) - ((y - at[1]) / widths[1]) ** 2)


def lit(heights: np.ndarray, light: Light, unit: float, side: int, warm: float, gloss: float) -> np.ndarray:
    """Lambertian light and highlights on a height field, enlarged to (3, side, side).

    Args:
        heights: (g, g), in head units. unit: cells per head unit.
        warm: how much redder shadows are than lit areas, as on skin. gloss: strength of the highlights.
    """
    dy, dx = np.gradient(heights.astype(np.float32) * np.float32(unit))  # one-sided at the border, unlike cv2.Sobel
    steep = np.sqrt(1 + dx * dx + dy * dy)
    lx, ly, lz = light.direction
    hx, hy, hz = light.halfway
    facing = (lz - dx * lx - dy * ly) / steep
    glossy = np.maximum((hz - dx * hx - dy * hy) / steep, 0) ** 24
    shade = light.ambient + (1.10 - light.ambient) * np.maximum(facing * 0.9 + 0.1, 0)
    shade += gloss * glossy
    planes = (shade ** (1 - warm), shade, shade ** (1 + 0.6 * warm))
    return np.stack([cv2.resize(plane * tint, (side, side)) for plane, tint in zip(planes, light.tint, strict=True)])


class Relief:
    """The head's height field on a coarse grid, and the light on its skin."""

    def __init__(self, person: Person, pose: Pose, light: Light, side: int) -> None:
        self.pose, self.light, self.side = pose, light, side
        self.cells = max(64, side // 4)
        self.unit = pose.scale * self.cells
        self.x, self.y = pose.grid(self.cells)
        inside = 1 - (self.x / (person.width + 0.10)) ** 2 - ((self.y + 0.02) / 1.14) ** 2
        edge = 0.12  # below it the square root is too steep: continue along its tangent
        root = np.sqrt(np.maximum(inside, edge))
        self.head = 0.78 * np.where(inside > edge, root, edge**0.5 + np.maximum(inside - edge, -1.5) / (2 * edge**0.5))
        heights = self.head.copy()
        cheek = (0.36, 0.26, 0.15, 0.12, 0.045 * (1 + 0.5 * max(0, person.smile)))
        for x, y, wide, tall, height in _MIDDLE:
            heights += self.hill((x, y), (wide, tall), height)
        for x, y, wide, tall, height in (*_PAIRED, cheek):
            for way in (-1, 1):
                heights += self.hill((way * x, y), (wide, tall), height)
        heights += self._nose(person)
        self.skin = lit(heights, light, self.unit, side, warm=0.14, gloss=0.13)

    def hill(
        self, at: tuple[float, float], widths: tuple[float, float], height: float, lift: float = 0.0
    ) -> np.ndarray:
        """One smooth hill at the head coordinates `at`."""
        return _hill(self.x, self.y, self.pose.turn([at], lift)[0], widths, height)

    def over(self, extra: np.ndarray | float = 0.0, warm: float = 0.04, gloss: float = 0.0) -> np.ndarray:
        """The light on something over the head: the head's smooth form plus `extra` heights on the grid."""
        return lit(self.head + extra, self.light, self.unit, self.side, warm, gloss)

    def _nose(self, person: Person) -> np.ndarray:
        pose, x, y = self.pose, self.x, self.y
        tip = pose.turn([(0, person.nose_length - 0.05)], lift=0.25)[0]
        root = pose.turn([(0, -0.1)], lift=0.05)[0]
        along = np.clip((y - root[1]) / (tip[1] - root[1]), 0, 1)
        middle = root[0] + (tip[0] - root[0]) * along
        width = 0.065 + (person.nose_width * 0.72 - 0.065) * along**2
        beyond = np.where(y > tip[1], (y - tip[1]) / 0.06, np.maximum(root[1] - y, 0) / 0.08)
        return (0.025 + 0.11 * along**1.3) * np.exp(-(((x - middle) / width) ** 2) - beyond**2)
