"""Pictures that must not fool the judge: faces with pasted masks, and masks that were blurred or painted over.

A judge trained on the two folders alone learns the photographers, and calls any smeared mask a face. So it also sees,
as "masked": unmasked photos with masks pasted on, and photos whose lower face shows no mouth; and, as "unmasked":
unmasked photos with another one's lower face blended in, so that a seam by itself says nothing. The checks draw theirs
in another style (`CHECKS`: other outlines, colours, patterns, blurs and edges than `TRAINING`), on validation photos.

The lower face is taken to lie below the middle of the picture: no stage has landmarks, and real photos vary. Pictures
are float32 (S, S, 3) in [0, 255].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = np.ndarray  # what OpenCV returns is not typed by more

PASTED = ("plain", "patterned", "cut_out")
SPOILED = ("blurred", "grey", "skin", "averaged", "inpainted", "paled", "faint")
MOUTHLESS = ("blurred", "grey", "skin", "averaged", "inpainted")  # those that hide an unmasked mouth as well


@dataclass(frozen=True)
class Style:
    """How counterfeits are drawn. The two styles differ in every field."""

    outline: Literal["polygon", "ellipse"]  # of drawn masks
    region: Literal["ellipse", "box"]  # of spoiled lower faces
    feather: tuple[float, float]  # width of soft edges, share of the side
    hues: tuple[int, int]  # of drawn masks, OpenCV's 0 to 179
    pattern: Literal["stripes", "checks"]
    blur: Literal["gaussian", "box"]
    grey: tuple[int, int]
    inpainting: int
    lightness: float  # of the colour that pales a mask: 1 white, 0 the skin's own
    averaged: tuple[int, int]  # faces that are averaged into a smear


TRAINING = Style(
    outline="polygon",
    region="ellipse",
    feather=(0.01, 0.06),
    hues=(0, 130),
    pattern="stripes",
    blur="gaussian",
    grey=(70, 190),
    inpainting=cv2.INPAINT_TELEA,
    lightness=0.5,
    averaged=(6, 15),
)
CHECKS = Style(
    outline="ellipse",
    region="box",
    feather=(0.0, 0.01),
    hues=(130, 179),
    pattern="checks",
    blur="box",
    grey=(40, 220),
    inpainting=cv2.INPAINT_NS,
    lightness=0.0,
    averaged=(16, 40),
)


class Counterfeiter:
    """Draws counterfeits at random. `masked` and `unmasked`, uint8 (N, S, S, 3), lend cut-out masks and lower faces."""

    def __init__(self, masked: NDArray[np.uint8], unmasked: NDArray[np.uint8], style: Style, rng: Generator) -> None:
        self.masked, self.unmasked, self.style, self.rng = masked, unmasked, style, rng

    def paste(self, photo: Picture, kind: str) -> Picture:
        """A mask over the lower face of an unmasked photo; kind is one of PASTED."""
        side = len(photo)
        x, y, w, h = self._place(side)
        shape = _polygon(side, x, y, w, h, self.rng) if self.style.outline == "polygon" else _ellipse(side, x, y, w, h)
        mask = self._donor(self.masked) if kind == "cut_out" else self._fabric(side, kind == "patterned")
        return _blend(photo, mask, self._soft(shape, 0.5))

    def spoil(self, photo: Picture, kind: str) -> Picture:
        """The lower face without a mouth to be seen; kind is one of SPOILED."""
        x, y, w, h = self._place(len(photo), 1.35)
        draw = _ellipse if self.style.region == "ellipse" else _box
        region = draw(len(photo), x, y, w, h)
        return _blend(photo, getattr(self, f"_{kind}")(photo, region), self._soft(region))

    def swap(self, photo: Picture) -> Picture:
        """An unmasked photo whose lower face is another unmasked one's, in the colours of the place: still unmasked."""
        x, y, w, h = self._place(len(photo))
        region = _ellipse(len(photo), x, y, w, h)
        other = self._donor(self.unmasked)
        shift = photo[region > 0].mean(axis=0) - other[region > 0].mean(axis=0)
        return _blend(photo, np.clip(other + shift, 0, 255), self._soft(region, 2))

    def _place(self, side: int, size: float = 1.0) -> tuple[float, float, float, float]:
        """Centre and half axes of a lower face, px."""
        x, y = self.rng.uniform(0.43, 0.57), self.rng.uniform(0.66, 0.78)
        return x * side, y * side, *(size * side * self.rng.uniform((0.22, 0.17), (0.38, 0.26)))

    def _donor(self, photos: NDArray[np.uint8]) -> Picture:
        photo = photos[self.rng.integers(len(photos))].astype(np.float32)
        return photo[:, ::-1] if self.rng.random() < 0.5 else photo

    def _soft(self, region: Picture, wider: float = 1.0) -> Picture:
        sigma = wider * len(region) * self.rng.uniform(*self.style.feather)
        return cv2.GaussianBlur(region, (0, 0), sigma) if sigma > 0.2 else region

    def _fabric(self, side: int, patterned: bool) -> Picture:
        """Cloth of a random colour, shaded from top to bottom, with a pattern where asked."""
        hsv = [self.rng.uniform(*self.style.hues), 255 * self.rng.beta(1, 1.5), 255 * self.rng.beta(2, 1)]
        colour = cv2.cvtColor(np.array([[hsv]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
        shade = np.linspace(self.rng.uniform(0.8, 1.1), self.rng.uniform(0.6, 1.0), side, dtype=np.float32)
        cloth = np.broadcast_to(colour, (side, side, 3)) * shade[:, None, None]
        if patterned:
            bright = _stripes(side, self.rng) if self.style.pattern == "stripes" else _checks(side, self.rng)
            cloth = cloth + bright[..., None] * self.rng.uniform(-120, 120, 3).astype(np.float32)
        return np.clip(cloth, 0, 255).astype(np.float32)

    def _blurred(self, photo: Picture, region: Picture) -> Picture:
        width = len(photo) * self.rng.uniform(0.06, 0.14)
        if self.style.blur == "gaussian":
            return cv2.GaussianBlur(photo, (0, 0), width)
        return cv2.blur(photo, (int(4 * width) | 1, int(4 * width) | 1))

    def _grey(self, photo: Picture, region: Picture) -> Picture:
        return np.full_like(photo, self.rng.uniform(*self.style.grey))

    def _skin(self, photo: Picture, region: Picture) -> Picture:
        """The colour between the eyes and the mask, alike all over."""
        side = len(photo)
        strip = photo[int(0.35 * side) : int(0.5 * side), int(0.35 * side) : int(0.65 * side)]
        return np.broadcast_to(np.median(strip, axis=(0, 1)) * self.rng.uniform(0.9, 1.1), photo.shape).clip(0, 255)

    def _averaged(self, photo: Picture, region: Picture) -> Picture:
        """The mean of several unmasked photos: the colours of a face, but no face."""
        return np.mean([self._donor(self.unmasked) for _ in range(self.rng.integers(*self.style.averaged))], axis=0)

    def _inpainted(self, photo: Picture, region: Picture) -> Picture:
        hole = (region > 0).astype(np.uint8)
        return cv2.inpaint(photo.astype(np.uint8), hole, 3, self.style.inpainting).astype(np.float32)

    def _paled(self, photo: Picture, region: Picture) -> Picture:
        """The mask shines through: what CycleGAN does when it pales a mask's colour instead of removing it."""
        light = self.rng.uniform(0, self.style.lightness)
        veil = (1 - light) * self._skin(photo, region) + light * 255
        return photo + self.rng.uniform(0.3, 0.75) * (veil - photo)

    def _faint(self, photo: Picture, region: Picture) -> Picture:
        """A face that shines through the mask, too faint to count."""
        return photo + self.rng.uniform(0.1, 0.35) * (self._donor(self.unmasked) - photo)


def _blend(photo: Picture, other: Picture, alpha: Picture) -> Picture:
    return photo + alpha[..., None] * (other - photo)


def _ellipse(side: int, x: float, y: float, w: float, h: float) -> Picture:
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    return (((columns - x) / w) ** 2 + ((rows - y) / h) ** 2 <= 1).astype(np.float32)


def _box(side: int, x: float, y: float, w: float, h: float) -> Picture:
    rows, columns = np.mgrid[:side, :side]
    return ((abs(columns - x) <= w) & (abs(rows - y) <= h)).astype(np.float32)


def _stripes(side: int, rng: Generator) -> Picture:
    """Bands of any direction, straight or wavy."""
    rows, columns = np.mgrid[:side, :side] / side
    angle, bands, waves = rng.uniform(0, np.pi), rng.uniform(5, 16), rng.uniform(0, 0.08)
    across = rows * np.sin(angle) + columns * np.cos(angle) + waves * np.sin(12 * (rows - columns))
    return (across * bands % 1 < rng.uniform(0.3, 0.7)).astype(np.float32)


def _checks(side: int, rng: Generator) -> Picture:
    rows, columns = np.mgrid[:side, :side] // max(1, round(side * rng.uniform(0.03, 0.08)))
    return ((rows + columns) % 2).astype(np.float32)


def _polygon(side: int, x: float, y: float, w: float, h: float, rng: Generator) -> Picture:
    """A mask's outline: cheek, bridge of the nose, cheek, jaw, chin, jaw, each corner a little off."""
    corners = np.array([(-1, -0.6), (-0.35, -0.8), (0, -1), (0.35, -0.8), (1, -0.6), (0.8, 0.5), (0, 1), (-0.8, 0.5)])
    corners = corners + rng.uniform(-0.2, 0.2, corners.shape)
    points = np.round(corners * (w, h) + (x, y)).astype(np.int32)
    return cv2.fillPoly(np.zeros((side, side), np.float32), [points], 1.0)


def augment(photo: Picture, rng: Generator) -> Picture:
    """Moves, mirrors, recolours and degrades a picture, alike for both labels, so that none of it tells them apart."""
    side = len(photo)
    zoom, angle = rng.uniform(0.85, 1.25), rng.uniform(-12, 12)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, zoom)
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-0.08, 0.08, 2) * side
    photo = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    grey = photo.mean(axis=2, keepdims=True)
    photo = grey + rng.uniform(0.5, 1.3) * (photo - grey)
    photo = photo.mean() + rng.uniform(0.7, 1.3) * (photo - photo.mean())
    photo = photo * rng.uniform(0.9, 1.1, 3) + rng.uniform(-25, 25)
    if rng.random() < 0.4:
        photo = cv2.GaussianBlur(photo, (0, 0), side * rng.uniform(0.006, 0.02))
    if rng.random() < 0.4:
        photo = photo + rng.normal(0, rng.uniform(2, 14), photo.shape)
    return np.clip(photo, 0, 255).astype(np.float32)
