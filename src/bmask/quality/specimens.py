"""The judge's training pictures: unmasked photos with and without a trace of a mask, and what was done to them.

Outlines of masks are drawn in the style that trainings may see; the cloth is drawn too, or comes from masked training
photos, and may get any colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from bmask.pasting.drawn import TAUGHT, draw_masks
from bmask.progress import bar
from bmask.quality import alterations as alter
from bmask.quality.judge import KINDS, MAP_STRIDE

Photos = NDArray[np.uint8]
Picture = NDArray[np.float32]
DRAWN_MASKS = 1200
MASKS_SEED = 21
MIN_CHANGE = 5.0  # grey levels; a mask that changes a photo less on average is invisible and not taught
CUT_SHARE = 0.2  # of the masks: cut, as by a network that removes only a part
MIN_ALPHA = 0.3  # above it, a pixel counts as altered


class Bank(NamedTuple):
    """Pairs of specimens, drawn once; the judge sees each several times, because drawing takes as long as learning."""

    pictures: NDArray[np.uint8]  # (P, 2, S, S, 3)
    truths: NDArray[np.uint8]  # (P, 2, s, s, 2): a pixel's number in KINDS, and the mask's opacity

    def batch(self, rng: Generator, pairs: int) -> tuple[Tensor, Tensor]:
        """Pictures (2 * pairs, 3, S, S) in [-1, 1], and each pixel's kind and opacity in [0, 1] (2 * pairs, 2, s, s).

        Each pair is mirrored with a chance of one half.
        """
        chosen = rng.integers(len(self.pictures), size=pairs)
        mirrored = rng.random(pairs) < 0.5
        pictures, truths = (
            torch.from_numpy(np.where(mirrored[:, None, None, None, None], own[chosen, :, :, ::-1], own[chosen]))
            for own in (self.pictures, self.truths)
        )
        # permute keeps the channels last in memory, which is faster.
        photos = pictures.flatten(0, 1).permute(0, 3, 1, 2) / 127.5 - 1
        return photos, truths.flatten(0, 1).permute(0, 3, 1, 2) / torch.tensor((1.0, 255.0))[:, None, None]


class Specimen(NamedTuple):
    """A picture and the truth about each of its pixels."""

    picture: Picture  # (S, S, 3) in [0, 255]
    kind: str  # of KINDS: what was done to it
    alpha: NDArray  # (S, S) where that was done
    opacity: NDArray  # (S, S) of a mask


class Specimens:
    """Draws pairs of specimens at random. masked and unmasked: training photos uint8 (N, S, S, 3)."""

    def __init__(self, masked: Photos, unmasked: Photos, rng: Generator) -> None:
        self.masked, self.unmasked, self.rng = masked, unmasked, rng
        self.side = unmasked.shape[1]
        self.masks = draw_masks(DRAWN_MASKS, self.side, MASKS_SEED, TAUGHT)

    def pair(self) -> Iterator[Specimen]:
        """One photo without and with a trace of a mask, altered alike, so that they differ in nothing else."""
        photo = self._photo()
        marked = self._marked(photo)
        alpha = alter.alpha_of(self._mask()) if marked is None else marked.alpha
        nothing = np.zeros((self.side, self.side), np.float32)
        bare = Specimen(photo, "photo", nothing, nothing)
        clean = bare if self.rng.random() < 0.4 else self._spoiled(photo, alpha)
        return altered([clean, bare if marked is None else marked], self.rng)

    def _marked(self, photo: Picture) -> Specimen | None:
        """The photo with a trace of a mask; None if four tries left none that is visible."""
        rng = self.rng
        for _ in range(4):
            mask = self._mask()
            if rng.random() < CUT_SHARE:
                mask = alter.part(mask, rng.uniform(0.1, 0.8), rng.uniform(0, 2 * np.pi))
            alpha = alter.alpha_of(mask)
            kind = rng.choice(["mask", "smear", "recoloured", "rim"], p=[0.72, 0.11, 0.13, 0.04])
            if kind == "mask":
                opacity = float(np.exp(rng.uniform(np.log(0.1), 0))) if rng.random() < 0.75 else 1.0
                # A network that leaves a ghost of a mask has not painted the true face below it.
                below = self._spoiled(photo, alpha).picture if rng.random() < 0.3 else photo
                picture, shown = alter.lay(below, mask, opacity), opacity * alpha
            elif kind == "smear":
                strength = rng.uniform(0.15, 0.6)
                picture = alter.smeared(photo, mask, strength, self.side * rng.uniform(0.03, 0.1), rng)
                shown = strength * alpha
            elif kind == "recoloured":
                contrast = rng.uniform(0.3, 1.0)
                picture, shown = alter.recoloured(photo, mask, contrast, rng), 0.5 * contrast * alpha
            else:
                opacity = rng.uniform(0.4, 1)
                picture, shown = alter.rimmed(photo, mask, int(rng.integers(1, 4)), opacity), opacity * alpha
            if np.abs(picture - photo)[alpha > 0.5].mean() > MIN_CHANGE:
                return Specimen(picture, "mask" if kind == "mask" else "smeared", alpha, shown)
        return None

    def _spoiled(self, photo: Picture, alpha: Picture) -> Specimen:
        """The photo with its lower face altered without a mask."""
        rng, side = self.rng, self.side
        where = alter.soft(alpha, side * rng.uniform(0.005, 0.04))
        kind = rng.choice(["other", "blurred", "flat", "inpainted", "distorted"], p=[0.34, 0.22, 0.14, 0.14, 0.16])
        if kind == "other":
            picture = alter.other_face(photo, self._photo(), where)
        elif kind == "blurred":
            base = alter.other_face(photo, self._photo(), where) if rng.random() < 0.6 else photo
            picture = alter.blurred(base, where, side * rng.uniform(0.012, 0.035))
        elif kind == "flat":
            faces = [self._photo() for _ in range(rng.integers(6, 24))]
            picture = alter.blend(photo, np.mean(faces, axis=0), where)
        elif kind == "inpainted":
            kind = "flat"
            method = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
            picture = alter.inpainted(photo, where, method, float(rng.integers(2, 6)))
        else:
            picture = alter.distorted(photo, self._photo(), where, rng)
        return Specimen(picture, kind, where, np.zeros_like(where))

    def _photo(self) -> Picture:
        photo = self.unmasked[self.rng.integers(len(self.unmasked))].astype(np.float32)
        return photo[:, ::-1] if self.rng.random() < 0.5 else photo

    def _mask(self) -> NDArray[np.uint8]:
        """RGBA; outline and cloth come from different masks."""
        rng, cloth = self.rng, self._cloth()
        outline = self.masks[rng.integers(len(self.masks)), ..., 3]
        if rng.random() < 0.25:  # two cloths in the pattern of a third
            pattern = self._cloth().mean(axis=2)
            cloth = np.where((pattern > np.median(pattern))[..., None], cloth, self._cloth())
        if rng.random() < 0.5:  # any colour at all
            cloth = cloth + rng.uniform(0, 255, 3) - cloth.mean(axis=(0, 1))
        return np.dstack([np.clip(cloth, 0, 255), outline[:, ::-1] if rng.random() < 0.5 else outline]).astype(np.uint8)

    def _cloth(self) -> Picture:
        lender = self.masked if self.rng.random() < 0.33 else self.masks
        return lender[self.rng.integers(len(lender)), ..., :3].astype(np.float32)


def draw_bank(specimens: Specimens, count: int) -> Bank:
    """Draws `count` specimens, in pairs."""
    pairs, side = max(1, count // 2), specimens.side
    low = side // MAP_STRIDE
    bank = Bank(np.empty((pairs, 2, side, side, 3), np.uint8), np.empty((pairs, 2, low, low, 2), np.uint8))
    for pair in bar(range(pairs), what="judge: training pictures"):
        for one, specimen in enumerate(specimens.pair()):
            bank.pictures[pair, one] = specimen.picture.round()
            alpha, opacity = (cv2.resize(own, (low, low), interpolation=cv2.INTER_AREA) for own in specimen[2:])
            bank.truths[pair, one, ..., 0] = KINDS.index(specimen.kind) * (alpha > MIN_ALPHA)
            bank.truths[pair, one, ..., 1] = (255 * opacity).round()
    return bank


def altered(specimens: list[Specimen], rng: Generator) -> Iterator[Specimen]:
    """Moves, recolours and degrades pictures, all of them alike."""
    side = len(specimens[0].picture)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-12, 12), rng.uniform(0.85, 1.25))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-0.08, 0.08, 2) * side
    saturation, offset = rng.uniform(0.6, 1.2), rng.uniform(-15, 15)
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    blur = side * rng.uniform(0.006, 0.02) if rng.random() < 0.15 else 0
    noise = rng.normal(0, rng.uniform(1, 6), (side, side, 3)) if rng.random() < 0.15 else 0
    for picture, kind, alpha, opacity in specimens:
        planes = np.dstack([picture, alpha, opacity]).astype(np.float32)
        moved = [
            cv2.warpAffine(part, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            for part in (planes[..., :3], planes[..., 3:])
        ]
        grey = moved[0].mean(axis=2, keepdims=True)
        photo = (grey + saturation * (moved[0] - grey)) * gain + offset
        photo = cv2.GaussianBlur(photo, (0, 0), blur) if blur else photo
        truths = np.clip(moved[1], 0, 1)
        yield Specimen(np.clip(photo + noise, 0, 255).astype(np.float32), kind, truths[..., 0], truths[..., 1])
