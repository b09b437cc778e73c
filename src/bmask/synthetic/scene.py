"""What surrounds the person: background, hands, and the camera that takes the picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from bmask.synthetic.canvas import Canvas, Corners, ellipse, rounded
from bmask.synthetic.head import BLACK
from bmask.synthetic.traits import Light, any_colour

# a hand in head units, with its fingers up
_FINGERS = (((-0.2, 0.02), (-0.235, -0.42)), ((-0.07, -0.02), (-0.08, -0.54)), ((0.06, -0.01), (0.075, -0.5)),
            ((0.185, 0.05), (0.22, -0.34)))  # fmt: skip
_PALM = ((-0.28, 0.02), (-0.05, -0.06), (0.24, 0.02), (0.27, 0.4), (0.2, 0.62), (0.22, 1.7), (-0.2, 1.7), (-0.18, 0.62),
         (-0.29, 0.4))  # fmt: skip
_THUMB = ((-0.2, 0.42), (-0.46, 0.06))


def noise(rng: np.random.Generator, side: int, cells: int, stretch: float = 1.0) -> np.ndarray:
    """Smooth noise, (side, side), mean 0, deviation below 1. Grains are side / cells wide, `stretch` times as tall."""
    rough = rng.normal(0, 1, (max(2, round(cells / stretch)), cells)).astype(np.float32)
    return cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC)


def draw_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draws a wall, a gradient, shapes, lights, foliage, shelves or stripes, all out of focus."""
    side, image = canvas.side, canvas.images[0]
    image[:] = any_colour(rng, 0.12, 0.92)[:, None, None]
    style = rng.choice(["wall", "gradient", "shapes", "lights", "foliage", "shelves", "stripes"])
    angle, to = rng.uniform(0, 2 * np.pi), any_colour(rng, 0.1, 0.95)
    at = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    ramp = at[None] * np.float32(np.cos(angle)) + at[:, None] * np.float32(np.sin(angle)) + 0.5
    strength = np.float32(rng.uniform(0.3, 1) if style != "wall" else 0.25)
    image += (to[:, None, None] - image) * np.clip(ramp, 0, 1) * strength
    blur = rng.uniform(0.004, 0.03)
    if style == "shapes":
        for _ in range(rng.integers(4, 9)):
            corners = rng.uniform(-0.2, 1.2, 2) + rng.uniform(-0.35, 0.35, (4, 2))
            canvas.paint(canvas.fill(corners, blur=blur), any_colour(rng))
    elif style == "lights":
        for _ in range(rng.integers(8, 20)):
            x, y, r = *rng.uniform(0, 1, 2), rng.uniform(0.02, 0.09)
            glow = np.minimum(any_colour(rng, 0.6, 1) * 1.2, 1)
            canvas.paint(canvas.fill(ellipse(x, y, r, r), blur=0.006), glow, None, rng.uniform(0.2, 0.8))
    elif style == "foliage":
        green = np.array([0.26, 0.40, 0.20]) * rng.uniform(0.4, 1.4) + rng.normal(0, 0.04, 3)
        green = np.clip(green, 0.02, 1).astype(np.float32)
        leaves = 1 / (1 + np.exp(-1.3 * (noise(rng, side, 9) + 0.6 * noise(rng, side, 22))))
        image += (green[:, None, None] - image) * leaves
    elif style == "shelves":
        for x in np.arange(0, 1, rng.uniform(0.03, 0.06)):
            high = rng.uniform(0.55, 0.95)
            for row in range(3):
                low = (row + 1) / 3
                book = [(x, low), (x, low - high / 3), (x + 0.05, low - high / 3), (x + 0.05, low)]
                canvas.paint(canvas.fill(np.array(book), blur=0.006), any_colour(rng, 0.1, 0.7))
    elif style == "stripes":
        step = rng.uniform(0.06, 0.2)
        second = any_colour(rng)
        for x in np.arange(-0.2, 1.2, 2 * step):
            stripe = np.array([(x, -0.1), (x + step, -0.1), (x + step, 1.1), (x, 1.1)])
            canvas.paint(canvas.fill(stripe, blur=blur), second, None, 0.7)
    image *= 1 + 0.03 * noise(rng, side, 40) * np.float32(rng.uniform(0, 1))


def draw_hand(
    canvas: Canvas, skin: np.ndarray, light: np.ndarray, at: np.ndarray, unit: float, angle: float, way: int
) -> None:
    """Draws the back of a hand.

    Args:
        at: position of the knuckles, in shares of the side. unit: length of a head unit, share of the side.
        angle: direction of the fingers in radians, 0 is up. way: 1 or -1; -1 mirrors the hand.
    """
    c, s = np.cos(angle), np.sin(angle)

    def put(points: Corners) -> np.ndarray:
        return np.asarray(points, float) * (way, 1) @ ((c, s), (-s, c)) * unit + at

    fingers = [put(f) for f in _FINGERS]
    palm, thumb = canvas.fill(put(rounded(_PALM, 2))), put(_THUMB)
    shadow = canvas.line(*fingers, thumb, width=0.2 * unit, blur=0.04 * unit)
    canvas.paint(shadow, BLACK, None, 0.3)
    crease, nail = skin * (0.62, 0.48, 0.45), np.minimum(skin * (1.05, 0.95, 0.95) + 0.06, 1)
    canvas.paint(canvas.line(thumb, width=0.15 * unit, blur=0.006 * unit), crease, light)
    canvas.paint(canvas.line(thumb, width=0.125 * unit), skin * 0.96, light)
    canvas.paint(palm, skin, light)
    for line, (root, tip) in zip(fingers, np.asarray(_FINGERS), strict=True):
        canvas.paint(canvas.line(line, width=0.15 * unit, blur=0.006 * unit), crease, light)
        canvas.paint(canvas.line(line, width=0.118 * unit), skin, light)
        canvas.paint(canvas.fill(put(ellipse(tip[0], tip[1] - 0.015, 0.036, 0.045))), nail, light, 0.8)
        joint = root * 0.6 + tip * 0.4
        wrinkle = canvas.line(put([joint - (0.03, 0), joint + (0.03, 0)]), width=0.012 * unit, blur=0.006 * unit)
        canvas.paint(wrinkle, skin * 0.6, light, 0.6)


def plain_light(light: Light, side: int) -> np.ndarray:
    """The light on clothes and distant objects, (3, side, side): a gradient across the picture."""
    at = np.linspace(-1, 1, side, dtype=np.float32)
    slope = at[None] * light.direction[0] + at[:, None] * light.direction[1]
    shade = np.float32(0.58 + 0.4 * light.ambient) + np.float32(0.2) * slope
    return shade * light.tint[:, None, None]


def camera(rng: np.random.Generator, exposure: float, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that gives each picture the same blur, exposure and sensor noise (float in, uint8 out)."""
    blur, grain = rng.uniform(0.0, 0.0045) * size, rng.uniform(0.002, 0.012)
    contrast, fade = rng.normal(1.03, 0.06), rng.uniform(0, 0.03)
    rough = rng.normal(0, grain, (size, size, 3)).astype(np.float32)

    def take(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(np.ascontiguousarray(image.transpose(1, 2, 0)), (size, size), interpolation=cv2.INTER_AREA)
        if blur > 0.25:
            small = cv2.GaussianBlur(small, (0, 0), blur)
        small = (small * exposure - 0.5) * contrast + 0.5
        small = small + fade * (1 - small) + rough
        return np.clip(np.rint(small * 255), 0, 255).astype(np.uint8)

    return take
