"""Scores on unmasked test photos, with a pasted mask and without one: their true faces are known.

The masks are drawn in a style that no training sees, or are cut-outs of masked test photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bmask.data.split.dataset import to_tensor
from bmask.gan.beyond import beyond
from bmask.pasting.cutouts import lift
from bmask.quality import alterations as alter
from bmask.quality import similarity
from bmask.quality.judge import Judge, Seen
from bmask.quality.ladder import visible_masks
from bmask.quality.perceptual import perceptual_distance, sharpness
from bmask.quality.render import Rendered

Photos = NDArray[np.uint8]
MAX_OUTSIDE = 0.02  # alpha up to which a pixel lies outside the mask


@dataclass(frozen=True)
class Pasted:
    """N unmasked photos with and without a mask."""

    photos: Photos  # (N, S, S, 3) the truth
    covered: Photos  # (N, S, S, 3)
    alpha: NDArray  # (N, S, S) of the masks, 0 to 1
    seen: Seen  # what the judge sees in the photos


def paste(
    judge: Judge, unmasked: Photos, seed: int, masked: Photos | None = None, cutouts: NDArray[np.uint8] | None = None
) -> Pasted:
    """Pastes drawn masks on unmasked photos (N, S, S, 3); if cut-outs (M, S, S) of masked photos are given, every other
    photo gets one of those instead. Masks end where the photo ends in its square."""
    masks = visible_masks(unmasked, seed)
    if masked is not None and cutouts is not None and cutouts.any():
        there = np.flatnonzero(cutouts.any(axis=(1, 2)))
        masks[1::2] = lift(masked[there], cutouts[there], len(unmasked[1::2]), seed)
    masks[..., 3] *= beyond(to_tensor(unmasked)).numpy()[:, 0] == 0
    covered = np.stack([alter.lay(p.astype(np.float32), m) for p, m in zip(unmasked, masks, strict=True)])
    return Pasted(
        unmasked,
        covered.round().clip(0, 255).astype(np.uint8),
        masks[..., 3].astype(np.float32) / 255,
        judge.see(unmasked),
    )


def measure_pasted(covered: Rendered, bare: Rendered, pasted: Pasted, judge: Judge) -> dict[str, NDArray[np.float64]]:
    """Scores (N,) of a system's results for the covered and the bare photos; NaN where a mask has no pixel."""
    images, inside = covered.images, pasted.alpha > 0.5
    outside = pasted.alpha <= MAX_OUTSIDE
    rows = list(zip(images, pasted.photos, inside, strict=True))
    scores = {
        "paste_psnr": np.array([similarity.psnr(*row) for row in rows]),
        "paste_ssim": np.array([similarity.ssim_inside(*row) for row in rows]),
        "paste_distance": perceptual_distance(judge.see(images), pasted.seen, inside),
        "paste_sharpness": sharpness(images, inside) / sharpness(pasted.photos, inside),
        "paste_outside": np.array(
            [similarity.mae(y, x, where) for y, x, where in zip(images, pasted.covered, outside, strict=True)]
        ),
        "paste_iou": overlap(changed(covered), inside),
        "bare_untouched": (bare.images == bare.photos).all(axis=3).mean(axis=(1, 2)),
    }
    return {name: np.asarray(values, np.float64) for name, values in scores.items()}


def changed(rendered: Rendered) -> NDArray[np.float32]:
    """Where a system changed the photo, (N, S, S) in [0, 1]: its opacity, or, without one, each pixel that differs."""
    if rendered.attention is not None:
        return rendered.attention
    return (rendered.images != rendered.photos).any(axis=3).astype(np.float32)


def overlap(attention: NDArray[np.float32], region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union with the region (N, S, S); NaN where both are empty."""
    found = attention > 0.5
    with np.errstate(invalid="ignore"):
        return (found & region).sum(axis=(1, 2)) / (found | region).sum(axis=(1, 2))


def measure_cutouts(rendered: Rendered, cutouts: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Scores (N,) of a system's results for real masked photos, whose cut-outs are (N, S, S) in [0, 255].

    They detect a system whose attention widens on real masked photos only. NaN without a cut-out.
    """
    region, side = cutouts > 127, cutouts.shape[1]
    reach = np.ones((2 * (side // 20) + 1,) * 2, np.uint8)
    beyond = np.stack([cv2.dilate(own.astype(np.uint8), reach) == 0 for own in region])
    attention = changed(rendered)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = attention.sum(axis=(1, 2), dtype=np.float64) / region.sum(axis=(1, 2))
    pairs = zip(rendered.images, rendered.photos, beyond, strict=True)
    scores = {
        "cutout_outside": np.array([similarity.mae(*row) for row in pairs]),
        "cutout_area": area,
        "cutout_iou": overlap(attention, region),
    }
    empty = ~region.any(axis=(1, 2))
    return {name: np.where(empty, np.nan, values) for name, values in scores.items()}
