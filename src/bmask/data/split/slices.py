"""Labels masked photos by simple rules, if the source has no labels, to show on which photos a system does worse.

The rules look at the stored square and expect a face in its middle; colours are CIE L*a*b*, boxes are shares of the
side. They are guesses, good enough to compare rates; tests measure how often they are right on drawn faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from bmask.data.catalog import USED, Catalog

SIZE = 72  # px; squares are resized to it, so that the rules mean the same at every load_size
Box = tuple[float, float, float, float]  # left, right, top, bottom
FACE: Box = (0.35, 0.65, 0.25, 0.50)  # forehead, eyes and the bridge of the nose: mostly skin
MASK: Box = (0.36, 0.64, 0.57, 0.75)  # nose and mouth
CROWN: Box = (0.36, 0.64, 0.08, 0.20)  # hair, or what covers it
GREY = np.array([0, 128, 128], np.float32)
UNIT = np.array([100 / 255, 1, 1], np.float32)  # L*, a*, b* = (bytes - GREY) * UNIT


@dataclass(frozen=True)
class Look:
    """What the rules see of a photo."""

    lab: np.ndarray  # uint8 (SIZE, SIZE, 3), L*a*b* as OpenCV packs it; converted only where a rule needs it
    side: float  # the file's own resolution, px
    load_size: int

    def cut(self, box: Box) -> np.ndarray:
        """float32 (H, W, 3), a part of the picture: L* 0..100, a*, b*."""
        return (self.lab[_place(box)] - GREY) * UNIT

    def light(self) -> np.ndarray:
        """float32 (SIZE // 2, SIZE): L* of the upper half."""
        return self.lab[: SIZE // 2, :, 0] * UNIT[0]

    def colour(self, box: Box) -> np.ndarray:
        """The median colour of a box."""
        pixels = self.lab[_place(box)].reshape(-1, 3).astype(np.float32)  # sorting bytes takes six times as long
        middle = np.sort(pixels, axis=0)[len(pixels) // 2]  # np.median takes several times as long
        return (middle - GREY) * UNIT


@cache
def _place(box: Box) -> tuple[slice, slice]:
    left, right, top, bottom = (round(share * SIZE) for share in box)
    return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class Rule:
    label: str
    says: str  # the rule in words, for the report
    holds: Callable[[Look], bool]
    truth: tuple[str, ...] = ()  # labels of the drawn faces that it should find


def _skin_coloured(look: Look) -> bool:
    light, *chroma = np.abs(look.colour(MASK) - look.colour(FACE))
    return bool(np.hypot(*chroma) + 0.3 * light <= 9)


def _patterned(look: Look) -> bool:
    cloth = look.cut(MASK)
    return bool(np.abs(cloth - cv2.GaussianBlur(cloth, (0, 0), 0.03 * SIZE)).sum(axis=2).mean() >= 15)


def _headwear(look: Look) -> bool:
    _, red, yellow = look.colour(CROWN)
    hue = np.degrees(np.arctan2(yellow, red)) % 360
    return bool(np.hypot(red, yellow) >= 2 and 110 <= hue <= 315)


RULES = (
    Rule(
        "skin_coloured_mask",
        "nose and mouth have nearly the colour of forehead and eyes (difference in a*b* + 0.3 in L* at most 9)",
        _skin_coloured,
        ("skin_coloured_mask",),
    ),
    Rule(
        "patterned_mask",
        "much fine structure over nose and mouth (a blur of 3 % of the side removes at least 15)",
        _patterned,
        ("printed",),
    ),
    Rule(
        "headwear",
        "the colour above the forehead is green or blue, unlike hair (a*b* at 110 to 315 degrees, 2 or more from grey)",
        _headwear,
        ("cap",),
    ),
    Rule(
        "dark",
        "the upper half is dark (mean L* below 30)",
        lambda look: bool(look.light().mean() < 30),
    ),
    Rule(
        "small",
        "the file has fewer pixels than the stored square, so it was enlarged",
        lambda look: look.side < look.load_size,
    ),
)


def assign_slices(catalog: Catalog) -> None:
    """Gives the masked photos the labels of RULES, if the source has labels for none of them."""
    masked = f"domain = 'masked' AND {USED}"
    if not catalog.count(f"{masked} AND labels != ''"):
        catalog.copy("guessed", "slices", masked)


def labels(square: np.ndarray, side: float) -> tuple[str, ...]:
    """The labels of RULES that hold for a masked photo, uint8 (S, S, 3), whose own resolution is `side` px; sorted."""
    method = cv2.INTER_AREA if len(square) > SIZE else cv2.INTER_CUBIC
    shrunk = cv2.resize(np.ascontiguousarray(square), (SIZE, SIZE), interpolation=method)
    look = Look(cv2.cvtColor(shrunk, cv2.COLOR_RGB2LAB), side, len(square))  # ten times as fast on bytes
    return tuple(sorted(rule.label for rule in RULES if rule.holds(look)))
