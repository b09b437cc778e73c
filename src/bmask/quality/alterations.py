"""Alterations of the lower face: another person's face, a blur, a smear, a translucent mask.

All of them are made from an unmasked photo, so that its true face is known. Pictures are float32 (S, S, 3) in [0, 255];
`alpha` is float32 (S, S) in [0, 1], 1 where the face is altered; a mask is RGBA uint8 (S, S, 4). Outside alpha the
photo stays as it is; `lay` uses the mask's own alpha.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = np.ndarray  # OpenCV's results have no more precise type
Mask = NDArray[np.uint8]


def alpha_of(mask: Mask) -> Picture:
    return mask[..., 3].astype(np.float32) / 255


def part(mask: Mask, share: float, angle: float) -> Mask:
    """A mask after a straight cut: `share` of its area stays; the rest, towards `angle` (radians), is removed."""
    rows, columns = np.mgrid[: len(mask), : len(mask)]
    along = columns * np.cos(angle) + rows * np.sin(angle)
    covered = mask[..., 3] > 127
    left = mask.copy()
    if covered.any():
        left[along > np.quantile(along[covered], share), 3] = 0
    return left


def blend(photo: Picture, other: Picture, alpha: Picture) -> Picture:
    return photo + alpha[..., None] * (other - photo)


def lay(photo: Picture, mask: Mask, opacity: float = 1.0) -> Picture:
    """The mask over the photo; at an opacity below 1 the face shines through."""
    return blend(photo, mask[..., :3].astype(np.float32), opacity * alpha_of(mask))


def soft(alpha: Picture, sigma: float) -> Picture:
    """A wider alpha with soft edges; sigma in px."""
    size = 2 * int(np.ceil(sigma)) + 1
    return cv2.GaussianBlur(cv2.dilate(alpha, np.ones((size, size))), (0, 0), sigma)


def other_face(photo: Picture, other: Picture, alpha: Picture) -> Picture:
    """Another person's lower face, shifted to the photo's mean colour there."""
    weight = alpha[..., None] / max(float(alpha.sum()), 1e-6)
    shift = ((photo - other) * weight).sum(axis=(0, 1))
    return blend(photo, np.clip(other + shift, 0, 255), alpha)


def blurred(photo: Picture, alpha: Picture, sigma: float) -> Picture:
    return blend(photo, cv2.GaussianBlur(photo, (0, 0), sigma), alpha)


def inpainted(photo: Picture, alpha: Picture, method: int = cv2.INPAINT_TELEA, radius: float = 3) -> Picture:
    """Classical inpainting of everything that alpha touches."""
    hole = (alpha > 0.02).astype(np.uint8)
    return cv2.inpaint(photo.round().astype(np.uint8), hole, radius, method).astype(np.float32)


def skin(photo: Picture, alpha: Picture) -> Picture:
    """The median colour of the ring around alpha, (3,)."""
    wide = cv2.dilate(alpha, np.ones((9, 9))) > 0.05
    ring = wide & (alpha < 0.05)
    return np.median(photo[ring] if ring.any() else photo.reshape(-1, 3), axis=0)


def smeared(photo: Picture, mask: Mask, strength: float, sigma: float, rng: Generator) -> Picture:
    """The mask's low frequencies tinted towards the skin, with a dark line for a mouth. `strength` is the mask's share
    of the colour."""
    alpha = alpha_of(mask)
    low = cv2.GaussianBlur(lay(photo, mask), (0, 0), sigma)
    tinted = strength * low + (1 - strength) * skin(photo, alpha)
    return blend(photo, _with_a_line(tinted, alpha, rng), alpha)


def recoloured(photo: Picture, mask: Mask, contrast: float, rng: Generator) -> Picture:
    """The mask's brightness pattern in the skin's colour, with a dark line for a mouth, as from a network that has
    learned to recolour masks. `contrast` is the share of the mask's contrast that stays."""
    alpha = alpha_of(mask)
    light = mask[..., :3].astype(np.float32).mean(axis=2, keepdims=True)
    light = light - (light[..., 0] * alpha).sum() / max(float(alpha.sum()), 1e-6)
    return blend(photo, _with_a_line(skin(photo, alpha) + contrast * light, alpha, rng), alpha)


def _with_a_line(picture: Picture, alpha: Picture, rng: Generator) -> Picture:
    rows, columns = np.nonzero(alpha > 0.5)
    if not len(rows):
        return picture
    side = len(alpha)
    y, x = rows.mean() + rng.uniform(-0.03, 0.05) * side, columns.mean() + rng.uniform(-0.04, 0.04) * side
    axes = round(side * rng.uniform(0.06, 0.14)), round(side * rng.uniform(0.005, 0.025))
    line = np.zeros((side, side), np.float32)
    cv2.ellipse(line, (round(x), round(y)), axes, rng.uniform(-10, 10), 0, 360, 1.0, -1)
    dark = rng.uniform(0.1, 0.5) * cv2.GaussianBlur(line, (0, 0), side / 64)
    return np.clip(picture * (1 - dark[..., None]), 0, 255)


def rimmed(photo: Picture, mask: Mask, width: int, opacity: float) -> Picture:
    """Inpaints the mask except for its rim of `width` px, whose colours spread inwards."""
    alpha = alpha_of(mask)
    inner = cv2.erode(alpha, np.ones((2 * width + 1, 2 * width + 1)))
    covered = lay(photo, mask, opacity)
    return inpainted(covered, inner)


def distorted(photo: Picture, other: Picture, alpha: Picture, rng: Generator) -> Picture:
    """A twisted face with too much contrast and coloured noise. Generators paint it, the same face `other` in all
    photos, if their discriminator has learned to separate real masked photos from pasted ones."""
    side = len(photo)
    rows, columns = np.mgrid[:side, :side].astype(np.float32) / side
    bends = rng.uniform(6, 14, 4), rng.uniform(0, 6.3, 4), rng.uniform(0.03, 0.08, 2)
    twist_x = bends[2][0] * np.sin(bends[0][0] * rows + bends[0][1] * columns + bends[1][0])
    twist_y = bends[2][1] * np.sin(bends[0][2] * columns + bends[0][3] * rows + bends[1][1])
    x, y = ((side * place).astype(np.float32) for place in (columns + twist_x, rows + twist_y))
    twisted = cv2.remap(np.ascontiguousarray(other), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    noise = cv2.GaussianBlur(rng.normal(0, 1, photo.shape).astype(np.float32), (0, 0), rng.uniform(0.4, 1.2))
    harsh = 128 + rng.uniform(1.1, 1.7) * (twisted - 128) + rng.uniform(10, 35) / noise.std() * noise
    return blend(photo, np.clip(harsh, 0, 255), alpha)
