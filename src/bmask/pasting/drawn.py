"""Masks drawn from a seed, to be pasted on photos of faces: a style for training, and one that no training sees.

The two styles share no outline and no pattern, so that scores on one show how well learning from the other generalises.
The drawn faces of the embedded set wear other masks (`synthetic`), which are not used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Plane = Any  # float32 (S, S); OpenCV's results have no more precise type
OVERSAMPLING = 4  # outlines are drawn this many times larger


@dataclass(frozen=True)
class Style:
    """How masks are drawn. `outline` and `pattern` name functions below."""

    outline: str  # cornered, rounded
    patterns: tuple[str, ...]  # stripes, lattice, dots, checks, blotches
    straps: float  # share of masks that have some
    patterned: float  # share


TAUGHT = Style(outline="cornered", patterns=("stripes", "lattice"), straps=0.6, patterned=0.35)
UNSEEN = Style(outline="rounded", patterns=("dots", "checks", "blotches"), straps=0.5, patterned=0.5)

# Corners of a mask from one side over the nose to the other and around the chin, in half axes; each moves at random.
CORNERS = np.array(
    [(-1, -0.6), (-0.5, -0.8), (0, -1), (0.5, -0.8), (1, -0.6)]
    + [(0.97, 0.2), (0.6, 0.8), (0, 1), (-0.6, 0.8), (-0.97, 0.2)]
)


def draw_masks(count: int, side: int, seed: int, style: Style = TAUGHT, first: int = 0) -> NDArray[np.uint8]:
    """Masks as they lie on a face in the middle of a square: RGBA, uint8 (count, side, side, 4).

    Alpha is soft at the edge. They are numbered from `first`; each depends on seed, style and its number only.
    """
    masks = np.empty((count, side, side, 4), np.uint8)
    for number in range(count):
        rng = np.random.default_rng((seed, first + number))
        place = _Place.drawn(side, rng)
        masks[number, ..., 3] = np.round(255 * _shape(place, style, rng))
        masks[number, ..., :3] = _cloth(side, style, rng)
    return masks


@dataclass(frozen=True)
class _Place:
    """Where a mask lies, px and radians: centre, half axes, turn."""

    side: int
    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    turn: float

    @staticmethod
    def drawn(side: int, rng: Generator) -> _Place:
        centre = side * rng.uniform((0.4, 0.6), (0.6, 0.78))
        return _Place(side, centre, side * rng.uniform((0.23, 0.18), (0.41, 0.31)), rng.uniform(-0.2, 0.2))

    def points(self, unit: NDArray[np.float64]) -> NDArray[np.int32]:
        """Points (n, 2) in units of the half axes -> pixels of the enlarged picture."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        turned = (unit * self.axes) @ np.array([[c, s], [-s, c]]) + self.centre
        return np.round(turned * OVERSAMPLING).astype(np.int32)


def _shape(place: _Place, style: Style, rng: Generator) -> Plane:
    fine = np.zeros((place.side * OVERSAMPLING, place.side * OVERSAMPLING), np.float32)
    outline = _cornered(rng) if style.outline == "cornered" else _rounded(rng)
    cv2.fillPoly(fine, [place.points(outline)], 1.0)
    if rng.random() < style.straps:
        width = max(1, round(OVERSAMPLING * place.side * rng.uniform(0.009, 0.03)))
        for across in (-1, 1):
            for down in (-0.45, 0.4):
                if rng.random() < 0.7:
                    start = np.array([across * 0.92, down])
                    end = start + np.array([across * rng.uniform(0.3, 1.1), rng.uniform(-1.1, 0.2)])
                    ends = place.points(np.stack([start, end]))
                    cv2.line(fine, ends[0].tolist(), ends[1].tolist(), 1.0, width)
    shape = cv2.resize(fine, (place.side, place.side), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(shape, (0, 0), place.side * rng.uniform(0.003, 0.008))


def _cornered(rng: Generator) -> NDArray[np.float64]:
    return CORNERS + rng.uniform(-0.12, 0.12, CORNERS.shape)


def _rounded(rng: Generator) -> NDArray[np.float64]:
    """A superellipse of random roundness, flattened at the top."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = rng.uniform(0.55, 1.1)
    x, y = (np.sign(f(angle)) * np.abs(f(angle)) ** power for f in (np.cos, np.sin))
    return np.stack([x, np.where(y < 0, y * rng.uniform(0.6, 1.0), y)], 1)


def _cloth(side: int, style: Style, rng: Generator) -> NDArray[np.uint8]:
    """Colour, pattern, folds, shade and weave, uint8 (side, side, 3)."""
    down, across = np.mgrid[:side, :side] / side
    cloth = np.broadcast_to(_colour(rng), (side, side, 3))
    if rng.random() < style.patterned:
        draw = {"stripes": _stripes, "lattice": _lattice, "dots": _dots, "checks": _checks, "blotches": _blotches}
        where = draw[style.patterns[rng.integers(len(style.patterns))]](across, down, rng)
        cloth = cloth + where[..., None] * rng.uniform(-120, 120, 3)
    if rng.random() < 0.6:  # folds run across
        folds = down * rng.uniform(1, 12) + rng.random() + across * rng.uniform(-1, 1)
        cloth = cloth * (1 + rng.uniform(0.03, 0.25) * np.sin(2 * np.pi * folds))[..., None]
    bent = 1 - rng.uniform(0, 0.4) * ((across - rng.uniform(0.3, 0.7)) * 2) ** 2
    cloth = cloth * bent[..., None] * np.linspace(rng.uniform(0.8, 1.1), rng.uniform(0.55, 1), side)[:, None, None]
    if rng.random() < 0.5:
        weave = rng.normal(0, rng.uniform(2, 30), (side, side)).astype(np.float32)
        cloth = cloth + cv2.GaussianBlur(weave, (0, 0), rng.uniform(0.3, 3))[..., None]
    return np.clip(cloth, 0, 255).astype(np.uint8)


def _colour(rng: Generator) -> NDArray[np.float64]:
    """White, grey or black in 45 %, else any colour, skin's included."""
    if rng.random() < 0.45:
        grey = (rng.uniform(5, 60), rng.uniform(190, 255), rng.uniform(60, 190))[rng.integers(3)]
        return grey + rng.uniform(-8, 8, 3)
    hsv = (rng.uniform(0, 179), 255 * rng.beta(1, 1.5), 255 * rng.beta(2, 1))
    return cv2.cvtColor(np.array([[hsv]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(float)


def _wave(across: Plane, down: Plane, rng: Generator, frequency: float) -> Plane:
    angle = rng.uniform(0, np.pi)
    return 2 * np.pi * frequency * (across * np.cos(angle) + down * np.sin(angle))


def _stripes(across: Plane, down: Plane, rng: Generator) -> Plane:
    return (np.sin(_wave(across, down, rng, rng.uniform(4, 30))) > 0).astype(float)


def _lattice(across: Plane, down: Plane, rng: Generator) -> Plane:
    first, second = (np.sin(_wave(across, down, rng, rng.uniform(4, 30))) for _ in range(2))
    return (first * second > 0).astype(float)


def _dots(across: Plane, down: Plane, rng: Generator) -> Plane:
    cells, size = rng.uniform(5, 14), rng.uniform(0.15, 0.4)
    shifted = across + (np.floor(down * cells) % 2) * 0.5 / cells
    return (np.hypot(shifted * cells % 1 - 0.5, down * cells % 1 - 0.5) < size).astype(float)


def _checks(across: Plane, down: Plane, rng: Generator) -> Plane:
    cells = rng.uniform(4, 14)
    return (np.floor(across * cells) + np.floor(down * cells)) % 2


def _blotches(across: Plane, down: Plane, rng: Generator) -> Plane:
    """Large spots, as in camouflage and flower patterns."""
    noise = cv2.GaussianBlur(
        rng.normal(size=across.shape).astype(np.float32), (0, 0), len(across) * rng.uniform(0.02, 0.06)
    )
    return (noise > noise.std() * rng.uniform(-0.3, 0.6)).astype(float)
