"""Which photos are copies of one picture though one of them was turned, cropped or mirrored: found by alignment.

Three sieves, each finer and dearer than the one before. A pair must pass all three, and whether it does follows from
the two photos alone, never from what else is in the set.

1. Every photo is looked at in 32 ways (turned, cropped here and there), and the low frequencies of each view are
   correlated with every other photo as it is. Mirroring turns the sign of the odd horizontal frequencies and of nothing
   else, so mirrored copies cost no second pass.
2. Where that correlates, more frequencies are compared, up to a small affine motion: how much of a photo lies in the
   plane that is tangent to what moving the view gives (tangent distance, Simard et al. 1993).
3. What is left is aligned by an affine map (ECC, Evangelidis and Psarakis 2008), and what the aligned thumbnails show
   beyond their coarse light and dark must correlate. Faces share the coarse; only copies share the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

SIDE = 32  # px of a thumbnail; at 24 the third sieve lost one copy in ten
COARSE = 0.87  # least correlation of a view, sieve 1
TANGENT = 0.85  # least correlation with the tangent plane, sieve 2
FINE = 0.94  # least correlation of aligned thumbnails, sieve 3; of 719,400 pairs of drawn strangers 7 pass, at 0.93 15
OVERLAP = 0.4  # least share of the disc that both thumbnails show
SQUEEZE = 0.5  # a map that shrinks by more finds anything in anything
ROWS, COLUMNS = 256, 2048  # photos that are compared at a time: what the processor's cache holds

VIEWS = [  # degrees, share of the width and height that is seen, right and down of the middle
    *((degrees, 1.0, 0.0, 0.0) for degrees in (-14, -7, 0, 7, 14)),
    *((degrees, 0.88, 0.0, 0.0) for degrees in (-8, 8)),
    *((0, 0.9, x, y) for x in (-0.05, 0, 0.05) for y in (-0.05, 0, 0.05)),
    *((0, 0.79, x, y) for x in (-0.09, -0.03, 0.03, 0.09) for y in (-0.09, -0.03, 0.03, 0.09)),
]

_Y, _X = (np.indices((SIDE, SIDE), np.float32) + 0.5) / SIDE - 0.5
_DISC = np.float32(np.clip(np.cos(np.pi * np.hypot(_X, _Y)), 0, None))  # turning leaves the disc full
_INSIDE = np.uint8(_DISC > 0)
_TO_PIXELS = np.array([[SIDE, 0, SIDE / 2 - 0.5], [0, SIDE, SIDE / 2 - 0.5], [0, 0, 1]])


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """uint8 (H, W) -> uint8 (SIDE, SIDE), squashed, without the fine frequencies that would flicker when turned."""
    double = cv2.resize(grey, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(double, (0, 0), 1.2), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def find_copies(thumbnails: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    """All pairs of photos of which one is a copy of the other.

    Args:
        thumbnails: uint8 (N, SIDE, SIDE), of `thumbnail`.
        aspects: float (N,), width : height of the photos.

    Returns:
        int (P, 2), rows of `thumbnails`; a pair may come twice, either way round.
    """
    some = [slice(start, start + COLUMNS) for start in range(0, len(thumbnails), COLUMNS)]  # floats are four times more
    coarse, fine = (
        np.concatenate([_unit(_spectra(thumbnails[here].astype(np.float32), waves)) for here in some])
        for waves in (_LOW_WAVES, _WAVES)
    )

    def pairs(start: int) -> np.ndarray:
        found = [np.empty((0, 2), int)]
        for i, j, mirrored, maps in _candidates(thumbnails, aspects, coarse, fine, start):
            others = np.where(mirrored[:, None, None], thumbnails[j, :, ::-1], thumbnails[j])
            alike = np.array([likeness(*each) > FINE for each in zip(thumbnails[i], others, maps, strict=True)], bool)
            found.append(np.stack([i, j], 1)[alike])
        return np.concatenate(found)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
        return np.concatenate([np.empty((0, 2), int), *pool.map(pairs, range(0, len(thumbnails), ROWS))])


def likeness(one: np.ndarray, other: np.ndarray, start: np.ndarray) -> float:
    """Sieve 3: the correlation of two thumbnails' details, -1 to 1, after alignment from an affine map in pixels."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
    try:
        _, found = cv2.findTransformECC(
            np.ascontiguousarray(other), one, np.float32(start), cv2.MOTION_AFFINE, stop, _INSIDE, 3
        )
    except cv2.error:  # they do not meet, or one is flat
        return 0.0
    large, small = np.linalg.svd(found[:, :2], compute_uv=False)
    seen = cv2.warpAffine(np.ones_like(_INSIDE), found, (SIDE, SIDE), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    if small < SQUEEZE or large > 1 / SQUEEZE or seen[_INSIDE > 0].mean() < OVERLAP:
        return 0.0
    weight = cv2.erode(seen, np.ones((3, 3), np.uint8)) * _DISC
    weight /= weight.sum() + 1e-6
    a, b = (_details(picture.astype(np.float32)) for picture in (_warp(one, found), other))
    a, b = a - (a * weight).sum(), b - (b * weight).sum()
    return float((a * b * weight).sum() / np.sqrt((a * a * weight).sum() * (b * b * weight).sum() + 1e-3))


def _candidates(
    thumbnails: np.ndarray, aspects: np.ndarray, coarse: np.ndarray, fine: np.ndarray, start: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """What passes sieves 1 and 2 of ROWS photos from `start`: photos i, j, whether mirrored, affine maps in pixels."""
    photos = range(start, min(start + ROWS, len(thumbnails)))
    maps = np.array([[_map(view, aspects[i]) for view in VIEWS] for i in photos])
    warps = np.float32(_in_pixels(maps))
    views = np.float32([[_warp(thumbnails[i], warp) for warp in warps[i - start]] for i in photos])
    i, v, j, mirrored = _correlated(_unit(_spectra(views, _LOW_WAVES)), coarse, start)
    for part in np.split(np.arange(len(i)), range(COLUMNS, len(i), COLUMNS)):
        chosen, place = np.unique(i[part] * len(VIEWS) + v[part], return_inverse=True)
        basis, triangle = _tangents(views.reshape(-1, SIDE, SIDE)[chosen])
        target = fine[j[part]] * np.where(mirrored[part, None] & _ODD, np.float32(-1), np.float32(1))
        inside = (target[:, None] @ basis[place])[:, 0]
        good = np.linalg.norm(inside, axis=1) > TANGENT
        part, place = part[good], place[good]
        motion = np.linalg.solve(triangle[place], inside[good, :, None])[..., 0]
        step = np.tile(np.eye(3), (len(part), 1, 1))
        step[:, :2] += (motion[:, 1:] / motion[:, :1]).reshape(-1, 2, 3)
        yield i[part] + start, j[part], mirrored[part], _in_pixels(maps[i[part], v[part]] @ step)


def _correlated(own: np.ndarray, coarse: np.ndarray, start: int) -> tuple[np.ndarray, ...]:
    """Sieve 1: row, best view, photo and whether mirrored, of all pairs in which a view of a row correlates."""
    odd, even = _ODD[_LOW], ~_ODD[_LOW]
    own_odd, own_even = (np.ascontiguousarray(own.swapaxes(0, 1)[..., half]) for half in (odd, even))
    buffers = np.empty((3, len(own), COLUMNS), np.float32)  # new memory for every product would cost more than it
    found = []
    for first in range(0, len(coarse), COLUMNS):
        here = coarse[first : first + COLUMNS]
        all_odd, all_even = np.ascontiguousarray(here[:, odd].T), np.ascontiguousarray(here[:, even].T)
        turning, size, score = buffers[..., : len(here)]
        for v in range(len(VIEWS)):
            np.matmul(own_odd[v], all_odd, out=turning)
            np.matmul(own_even[v], all_even, out=score)
            np.add(score, np.abs(turning, out=size), out=score)
            i, j = np.divmod(np.flatnonzero(score > COARSE), len(here))
            found.append((score[i, j], i, np.full(len(i), v), j + first, turning[i, j] < 0))
    score, i, v, j, mirrored = (np.concatenate(column) for column in zip(*found, strict=True))
    best = np.argsort(-score, kind="stable")
    best = best[i[best] + start != j[best]]
    best = best[np.unique(i[best] * len(coarse) + j[best], return_index=True)[1]]
    return i[best], v[best], j[best], mirrored[best]


def _tangents(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis (n, D, 7) of each view and its six affine motions, and the triangle (n, 7, 7) behind it."""
    down, right = np.gradient(views, 1 / SIDE, axis=(1, 2))
    moved = [views, right * _X, right * _Y, right, down * _X, down * _Y, down]
    triangle_of = np.linalg.qr(np.stack([_spectra(picture) for picture in moved], -1))
    return triangle_of.Q, triangle_of.R + 1e-6 * np.eye(7, dtype=np.float32)


def _frequencies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines under the disc, (D, pixels), weighted against the spectrum of photos; which are low, which are odd."""
    along = (np.arange(SIDE) + 0.5) / SIDE
    waves, order = [], []
    for v, u in np.ndindex(14, 14):
        if 0 < u * u + v * v < 14 * 13:
            wave = np.outer(np.cos(np.pi * v * along), np.cos(np.pi * u * along)) * _DISC
            wave -= _DISC * wave.sum() / _DISC.sum()  # light is no likeness
            waves.append(wave.ravel() / np.linalg.norm(wave) * np.hypot(u, v) ** 1.5)
            order.append((u, v))
    across, radius = np.array(order)[:, 0], np.hypot(*np.array(order).T)
    return np.float32(waves), radius < 7.1, across % 2 == 1


_WAVES, _LOW, _ODD = _frequencies()
_LOW_WAVES = _WAVES[_LOW] / np.linalg.norm(_WAVES[_LOW], axis=1, keepdims=True) ** (1 / 3)


def _spectra(pictures: np.ndarray, waves: np.ndarray = _WAVES) -> np.ndarray:
    """float32 (..., SIDE, SIDE) -> (..., D)."""
    flat = np.ascontiguousarray(pictures).reshape(-1, SIDE * SIDE) @ waves.T
    return flat.reshape(*pictures.shape[:-2], len(waves))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-3)


def _details(picture: np.ndarray) -> np.ndarray:
    return picture - cv2.GaussianBlur(picture, (0, 0), SIDE / 12)


def _warp(picture: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, pixels, (SIDE, SIDE), flags=how, borderMode=cv2.BORDER_REPLICATE)


def _map(view: tuple[float, float, float, float], aspect: float) -> np.ndarray:
    """The affine map (3, 3) from a view's coordinates (-0.5 to 0.5) to the photo's, which is squashed by its aspect."""
    degrees, share, right, down = view
    cos, sin = share * np.cos(np.deg2rad(degrees)), share * np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin / aspect, right], [sin * aspect, cos, down], [0, 0, 1]])


def _in_pixels(maps: np.ndarray) -> np.ndarray:
    """Affine maps (..., 3, 3) between coordinates -> the same (..., 2, 3) between pixels."""
    return (_TO_PIXELS @ maps @ np.linalg.inv(_TO_PIXELS))[..., :2, :]
