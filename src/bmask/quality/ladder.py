"""The ladder: pictures whose order is obvious, which a measure must rank correctly before it may decide anything.

From the best rung to the worst: the photo; another person's lower face blended in; the same, blurred; the mean face and
classical inpainting; smears of the mask, the mask in the skin's colour, and one distorted face for all photos; the mask
over the face at 25, 50, 75 and 100 % opacity. All are made from unmasked photos and masks of a style that no training
sees, so their truth is known.

Few measures can rank every step: a network that detects masks cannot say whose mouth it sees. So each measure states
which kinds of pictures it claims to rank, and is checked on these only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import cv2
import numpy as np
from numpy.typing import NDArray

from bmask.pasting.drawn import UNSEEN, draw_masks
from bmask.quality import alterations as alter

Photos = NDArray[np.uint8]
RUNGS = (
    ("photo",),
    ("other face",),
    ("blurred",),
    ("mean face", "inpainted"),
    ("smeared", "recoloured", "distorted"),
    ("mask at 25 %",),
    ("mask at 50 %",),
    ("mask at 75 %",),
    ("mask at 100 %",),
)
Rungs = tuple[tuple[str, ...], ...]
KINDS = tuple(kind for rung in RUNGS for kind in rung)
MAX_PHOTOS = 200
MIN_CONTRAST = 40  # grey levels; a mask closer to the face's colours is invisible at a low opacity
MEAN_FACE_PHOTOS = 64


@dataclass(frozen=True)
class Ladder:
    """Pictures of N photos on every rung."""

    photos: Photos  # (N, S, S, 3) the truth
    regions: NDArray[np.bool_]  # (N, S, S) where they were altered
    pictures: dict[str, Photos]  # by kind, each (N, S, S, 3)
    contrast: NDArray[np.float64]  # (N,) between the masks and the faces below them, grey levels


@dataclass(frozen=True)
class Climb:
    """A measure's result: it passes if its means invert no two rungs and it ranks neighbours right often enough."""

    measure: str
    claims: Rungs  # that it claims to rank, best first; kinds that it does not rank share a rung
    means: dict[str, float]  # by kind; lower is better
    worst: tuple[str, str]  # the neighbouring kinds that it ranks right least often
    share: float  # of photos in which it ranks those right
    inverted: tuple[tuple[str, str], ...]
    photos: int

    def passed(self, told: float) -> bool:
        """`told`: the share of photos in which neighbours must be ranked right; 0 requires nothing."""
        return told == 0 or (not self.inverted and self.share >= told)


def visible_masks(photos: Photos, seed: int) -> NDArray[np.uint8]:
    """A mask of the unseen style for each photo: RGBA uint8 (N, S, S, 4).

    Three are drawn for a photo; the first with enough contrast to the face is taken, else the one with the most.
    """
    tries, side = 3, photos.shape[1]
    drawn = draw_masks(tries * len(photos), side, seed, UNSEEN).reshape(len(photos), tries, side, side, 4)
    chosen = np.empty((len(photos), side, side, 4), np.uint8)
    for i, photo in enumerate(photos):
        contrasts = [contrast(photo, mask) for mask in drawn[i]]
        chosen[i] = drawn[i][next((k for k, c in enumerate(contrasts) if c > MIN_CONTRAST), int(np.argmax(contrasts)))]
    return chosen


def contrast(photo: Photos, mask: NDArray[np.uint8]) -> float:
    """How much the mask (S, S, 4) changes the photo, mean over its pixels, grey levels."""
    return float(np.abs(mask[..., :3].astype(np.float32) - photo)[mask[..., 3] > 127].mean())


def build(photos: Photos, seed: int, most: int = MAX_PHOTOS) -> Ladder:
    """The ladder of up to `most` unmasked photos uint8 (N, S, S, 3), N at least 2; each lends its lower face to the
    previous one."""
    rng, photos = np.random.default_rng(seed), np.asarray(photos[:most])
    masks = visible_masks(photos, seed)
    mean = photos[:MEAN_FACE_PHOTOS].mean(axis=0, dtype=np.float32)
    drawn: dict[str, list[NDArray]] = {kind: [] for kind in KINDS}
    regions = []
    for i, (photo, mask) in enumerate(zip(photos.astype(np.float32), masks, strict=True)):
        alpha, side = alter.alpha_of(mask), len(photo)
        wide = alter.soft(alpha, side / 64)
        other = alter.other_face(photo, photos[(i + 1) % len(photos)].astype(np.float32), wide)
        hole = cv2.dilate(alpha, np.ones((3, 3)))
        made = {
            "photo": photo,
            "other face": other,
            "blurred": alter.blurred(other, wide, side / 45),
            "mean face": alter.blend(photo, mean, wide),
            "inpainted": alter.inpainted(photo, hole),
            "smeared": alter.smeared(photo, mask, 0.3, side / 16, rng),
            "recoloured": alter.recoloured(photo, mask, 0.6, rng),
            "distorted": alter.distorted(photo, photos[0].astype(np.float32), wide, np.random.default_rng(seed)),
        }
        made |= {f"mask at {share} %": alter.lay(photo, mask, share / 100) for share in (25, 50, 75, 100)}
        for kind, picture in made.items():
            drawn[kind].append(picture.round().clip(0, 255).astype(np.uint8))
        regions.append(alpha > 0.5)
    contrasts = np.array([contrast(photo, mask) for photo, mask in zip(photos, masks, strict=True)])
    return Ladder(photos, np.stack(regions), {kind: np.stack(own) for kind, own in drawn.items()}, contrasts)


def left_part(ladder: Ladder, share: float) -> Photos:
    """Opaque masks of which only the left `share` of the area remains, (N, S, S, 3)."""
    parts = []
    for full, photo, region in zip(ladder.pictures["mask at 100 %"], ladder.photos, ladder.regions, strict=True):
        stays = np.arange(region.shape[1]) <= np.quantile(np.nonzero(region)[1], share)
        parts.append(np.where(stays[None, :, None], full, photo))
    return np.stack(parts)


def climb(measure: str, values: dict[str, NDArray[np.float64]], claims: Rungs = RUNGS) -> Climb:
    """Checks a measure's values, {kind: (N,)}, lower is better, against the order of the rungs that it claims."""
    means = {kind: float(np.mean(values[kind])) for rung in claims for kind in rung}
    pairs = [
        (better, worse)
        for i, rung in enumerate(claims)
        for below in claims[i + 1 :]
        for better, worse in product(rung, below)
    ]
    inverted = tuple((better, worse) for better, worse in pairs if means[better] >= means[worse])
    told = {
        (better, worse): float(np.mean(values[better] < values[worse]))
        for rung, below in pairwise(claims)
        for better, worse in product(rung, below)
    }
    worst = min(told, key=lambda pair: told[pair])
    return Climb(measure, claims, means, worst, told[worst], inverted, len(values[worst[0]]))
