"""Cut-outs: where the mask of each masked photo is, and these masks lifted off, to be pasted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_ATTENTION, SLOPE = 0.25, 2.0  # alpha rises from 0 at this attention, with this slope, to 1
MARGIN = 144  # cut-outs are widened by side // MARGIN px, so that no rim of the mask is left
AREA = (0.08, 0.5)  # share of the picture that a mask on a framed face takes
MIN_LARGEST = 0.8  # share of the found area that the largest piece of a usable mask has
MIN_ALPHA = 1e-2  # below it, a pixel has no colour of its own


def clean(attention: NDArray[np.float32], side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Makes cut-outs of a finder's attention: the largest piece, with soft edges.

    Args:
        attention: float (N, s, s) in [0, 1].
        side: of the pictures that the cut-outs are for, px.

    Returns:
        uint8 (N, side, side), 255 where the mask is, and bool (N,): whether it can be a mask by its size and is one
        piece.
    """
    cutouts = np.zeros((len(attention), side, side), np.uint8)
    usable = np.zeros(len(attention), bool)
    reach, rim = np.ones((side // 20 | 1,) * 2), np.ones((2 * (side // MARGIN) + 1,) * 2)
    for number, found in enumerate(attention):
        large = cv2.resize(found.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        alpha = np.clip((cv2.GaussianBlur(large, (0, 0), side / 144) - MIN_ATTENTION) * SLOPE, 0, 1)
        count, pieces, about, _ = cv2.connectedComponentsWithStats((alpha > 0.5).astype(np.uint8))
        if count < 2:
            continue
        sizes = about[1:, cv2.CC_STAT_AREA]
        alpha *= cv2.dilate((pieces == 1 + sizes.argmax()).astype(np.float32), reach)
        cutouts[number] = np.round(255 * cv2.dilate(alpha, rim))
        usable[number] = AREA[0] < alpha.mean() < AREA[1] and sizes.max() > MIN_LARGEST * sizes.sum()
    return cutouts, usable


def lift(
    photos: NDArray[np.uint8], cutouts: NDArray[np.uint8], count: int, seed: int, first: int = 0
) -> NDArray[np.uint8]:
    """Masks to paste, lifted off photos, each turned, scaled, shifted and lit anew: RGBA uint8 (count, S, S, 4).

    photos (N, S, S, 3) and their cut-outs (N, S, S). They are numbered from `first`. Each photo gives the
    same number of masks, or one more.
    """
    side = photos.shape[1]
    masks = np.empty((count, side, side, 4), np.uint8)
    order = np.random.default_rng((seed, len(photos))).permutation(len(photos))
    for number in range(count):
        rng = np.random.default_rng((seed, first + number))
        chosen = order[(first + number) % len(photos)]
        alpha = cutouts[chosen][..., None].astype(np.float32) / 255
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-7, 7), np.exp(rng.uniform(-0.15, 0.15)))
        turn[:, 2] += side * rng.uniform(-0.05, 0.05, 2)
        # Colours times alpha, so that interpolation mixes no colour from outside the mask into its edge.
        laid = np.concatenate([photos[chosen] * alpha, alpha], axis=2)
        moved = cv2.warpAffine(laid, turn, (side, side), flags=cv2.INTER_LINEAR)
        cloth = moved[..., :3] / np.maximum(moved[..., 3:], MIN_ALPHA)
        lit = cloth * np.exp(rng.uniform(-0.25, 0.25)) + rng.uniform(-12, 12, 3)
        masks[number, ..., :3] = np.clip(np.round(lit), 0, 255)
        masks[number, ..., 3] = np.round(255 * moved[..., 3])
    return masks
