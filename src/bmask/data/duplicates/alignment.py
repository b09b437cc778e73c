"""Finds near-duplicates that were turned, cropped or mirrored, by alignment.

A pair must pass three sieves, each finer and more expensive than the one before. Whether it passes depends on the two
photos alone, never on the rest of the set.

1. Every photo gets 32 views (turned, cropped at several places). The low frequencies of each view are correlated with
   those of the unchanged photos that share a bucket with one of the views (hashing.py). Mirroring flips the sign of the
   odd horizontal frequencies and of nothing else, so mirrored near-duplicates need no second pass.
2. If these correlate, more frequencies are compared, exactly at first, then up to a small affine motion: how much of a
   photo lies in the plane that is tangent to the motions of the view (tangent distance, Simard et al. 1993).
3. The remaining pairs are aligned by an affine map (ECC, Evangelidis and Psarakis 2008). The details of the aligned
   thumbnails must correlate: all faces share the coarse brightness, only near-duplicates share the details.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import cv2
import numpy as np

from bmask.data.arrays import blocks
from bmask.data.duplicates.hashing import Tables
from bmask.parallel import ahead, cores, one_thread_each
from bmask.progress import bar

SIDE = 32  # px of a thumbnail; 24 lost one near-duplicate in ten in sieve 3
COARSE = 0.87  # least correlation of a view, sieve 1
CLOSE = 0.5  # least correlation of a view's finer frequencies, sieve 2; 0.6 lost photos cropped by 10 % a side
TANGENT = 0.85  # least correlation with the tangent plane, sieve 2
FINE = 0.94  # least correlation of aligned thumbnails, sieve 3; of 719,400 unrelated drawn pairs 7 pass, 15 at 0.93
OVERLAP = 0.4  # least share of the disc that both thumbnails show
MIN_SCALE = 0.5  # of the aligning map; stronger shrinking produces false matches
PHOTO_BATCH, PAIR_BATCH = 256, 2048  # photos and pairs processed at a time
INDEX_SIZE = 1 << 17  # photos hashed in memory at a time, some 80 MB; each further index costs 0.2 ms a photo

VIEWS = [  # degrees, share of width and height that is seen, shift right and down from the middle
    *((degrees, 1.0, 0.0, 0.0) for degrees in (-14, -7, 0, 7, 14)),
    *((degrees, 0.88, 0.0, 0.0) for degrees in (-8, 8)),
    *((0, 0.9, x, y) for x in (-0.05, 0, 0.05) for y in (-0.05, 0, 0.05)),
    *((0, 0.79, x, y) for x in (-0.09, -0.03, 0.03, 0.09) for y in (-0.09, -0.03, 0.03, 0.09)),
]

_Y, _X = (np.indices((SIDE, SIDE), np.float32) + 0.5) / SIDE - 0.5
_DISC = np.clip(np.cos(np.pi * np.hypot(_X, _Y)), 0, None).astype(np.float32)  # a turned photo still fills the disc
_INSIDE = (_DISC > 0).astype(np.uint8)
_STRAIGHT = np.array([degrees == 0 for degrees, *_ in VIEWS])
_TO_PIXELS = np.array([[SIDE, 0, SIDE / 2 - 0.5], [0, SIDE, SIDE / 2 - 0.5], [0, 0, 1]])


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """uint8 (H, W) -> uint8 (SIDE, SIDE), squashed, without the fine frequencies that turning would change."""
    double = cv2.resize(grey, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(double, (0, 0), 1.2), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def find_near_duplicates(thumbnails: Callable[[np.ndarray], np.ndarray], aspects: np.ndarray) -> np.ndarray:
    """Finds all pairs of near-duplicates.

    Args:
        thumbnails: photo numbers, int (n,) -> results of `thumbnail`, uint8 (n, SIDE, SIDE). Several threads call it.
        aspects: float (N,), width : height of the photos.

    Returns:
        int (P, 2), photo numbers; a pair may come twice, in either order.
    """
    found = [np.empty((0, 2), int)]
    indexed, batches = (blocks(np.arange(len(aspects)), length) for length in (INDEX_SIZE, PHOTO_BATCH))
    with one_thread_each():
        for number, photos in enumerate(indexed, start=1):
            find = _Index(thumbnails, aspects, photos).near_duplicates
            which = f" ({number} of {len(indexed)})" if len(indexed) > 1 else ""
            title = f"ingest: finding near-duplicates, {PHOTO_BATCH} photos a step{which}"
            found += bar(ahead(find, batches, cores()), len(batches), title)
            del find  # frees the index before the next one is built
    return np.concatenate(found)


class _Index:
    """Low frequencies and hashes of some photos, in memory, to find their near-duplicates."""

    def __init__(self, thumbnails: Callable[[np.ndarray], np.ndarray], aspects: np.ndarray, photos: np.ndarray):
        self._thumbnails, self._aspects, self._start = thumbnails, aspects, photos[0]
        self._coarse = np.empty((len(photos), len(_LOW_WAVES)), np.float32)
        for block in blocks(photos, PHOTO_BATCH):
            low = _unit(_spectra(thumbnails(block).astype(np.float32), _LOW_WAVES))
            self._coarse[block - self._start] = low
        # Flat photos correlate with nothing, but would share all their buckets: they are left out.
        self._tables = Tables(self._coarse, _ODD[_LOW], np.flatnonzero(np.linalg.norm(self._coarse, axis=1) > COARSE))

    def near_duplicates(self, block: np.ndarray) -> np.ndarray:
        """Pairs (P, 2) of a photo of the block, int (n,), and one of the index."""
        found = [np.empty((0, 2), int)]
        for i, j, mirrored, maps in self._candidates(block):
            others = self._thumbnails(j)
            others = np.where(mirrored[:, None, None], others[..., ::-1], others)
            each = zip(self._thumbnails(i), others, maps, strict=True)
            alike = np.array([likeness(*pair) > FINE for pair in each], bool)
            found.append(np.stack([i, j], 1)[alike])
        return np.concatenate(found)

    def _candidates(self, block: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """The pairs that pass sieves 1 and 2: photos i, j, whether mirrored, affine maps in pixels."""
        own = self._thumbnails(block)
        maps = _maps(self._aspects[block])
        warps = _in_pixels(maps).astype(np.float32)
        views = _unit(_view_spectra(own, warps))
        for rows, photos in self._tables.neighbours(views):
            others = rows != photos + self._start - block[0]
            i, v, j, mirrored = _correlated(views, self._coarse, rows[others], photos[others])
            j += self._start
            for part in blocks(np.arange(len(i)), PAIR_BATCH):
                chosen, place = np.unique(i[part] * len(VIEWS) + v[part], return_inverse=True)
                pictures = np.empty((len(chosen), SIDE, SIDE), np.float32)
                for picture, number in zip(pictures, chosen, strict=True):
                    picture[:] = _warp(own[number // len(VIEWS)], warps[*divmod(number, len(VIEWS))])
                target = _unit(_spectra(self._thumbnails(j[part]).astype(np.float32)))
                target *= np.where(mirrored[part, None] & _ODD, np.float32(-1), np.float32(1))
                good = (_unit(_spectra(pictures))[place] * target).sum(1) > CLOSE
                part, target = part[good], target[good]
                chosen, place = np.unique(place[good], return_inverse=True)
                basis, triangle = _tangents(pictures[chosen])
                inside = (target[:, None] @ basis[place])[:, 0]
                good = np.linalg.norm(inside, axis=1) > TANGENT
                part, place = part[good], place[good]
                motion = np.linalg.solve(triangle[place], inside[good, :, None])[..., 0]
                step = np.tile(np.eye(3), (len(part), 1, 1))
                step[:, :2] += (motion[:, 1:] / motion[:, :1]).reshape(-1, 2, 3)
                yield block[i[part]], j[part], mirrored[part], _in_pixels(maps[i[part], v[part]] @ step)


def likeness(one: np.ndarray, other: np.ndarray, start: np.ndarray) -> float:
    """Sieve 3: the correlation of two thumbnails' details, -1 to 1, once aligned from `start`, an affine map in px."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
    try:
        _, found = cv2.findTransformECC(
            np.ascontiguousarray(other), one, start.astype(np.float32), cv2.MOTION_AFFINE, stop, _INSIDE, 3
        )
    except cv2.error:  # they cannot be aligned, or one is flat
        return 0.0
    large, small = np.linalg.svd(found[:, :2], compute_uv=False)
    seen = cv2.warpAffine(np.ones_like(_INSIDE), found, (SIDE, SIDE), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    if small < MIN_SCALE or large > 1 / MIN_SCALE or seen[_INSIDE > 0].mean() < OVERLAP:
        return 0.0
    weight = cv2.erode(seen, np.ones((3, 3), np.uint8)) * _DISC
    weight /= weight.sum() + 1e-6
    a, b = (_details(picture.astype(np.float32)) for picture in (_warp(one, found), other))
    a, b = a - (a * weight).sum(), b - (b * weight).sum()
    return float((a * b * weight).sum() / np.sqrt((a * a * weight).sum() * (b * b * weight).sum() + 1e-3))


def _correlated(views: np.ndarray, coarse: np.ndarray, rows: np.ndarray, photos: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sieve 1: row, best view, photo and whether mirrored, of the pairs that correlate, sorted by row."""
    found = [np.empty((4, 0), int)]
    edges = np.searchsorted(rows, np.arange(len(views) + 1))
    for row in np.flatnonzero(np.diff(edges)):
        here = photos[edges[row] : edges[row + 1]]
        own, others = views[row], np.ascontiguousarray(coarse.take(here, axis=0).T)  # three times as fast as [here].T
        turning = own[:, _EVEN:] @ others[_EVEN:]
        score = own[:, :_EVEN] @ others[:_EVEN]
        score += np.abs(turning)
        good = np.flatnonzero(score.max(0) > COARSE)
        best = score[:, good].argmax(0)
        found.append(np.stack([np.full(len(good), row), best, here[good], turning[best, good] < 0]))
    i, v, j, mirrored = np.concatenate(found, axis=1)
    return i, v, j, mirrored > 0


def _view_spectra(pictures: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """Low frequencies (n, views, D) of all views of thumbnails uint8 (n, SIDE, SIDE), whose maps are `warps`."""
    spectra = np.empty((len(pictures), len(VIEWS), len(_LOW_WAVES)), np.float32)
    straight = pictures.reshape(len(pictures), -1).astype(np.float32) @ _straight_waves()
    spectra[:, _STRAIGHT] = straight.reshape(len(pictures), -1, len(_LOW_WAVES))
    turned = [[_warp(picture, warp) for warp in own[~_STRAIGHT]] for picture, own in zip(pictures, warps, strict=True)]
    spectra[:, ~_STRAIGHT] = _spectra(np.array(turned, np.float32), _LOW_WAVES)
    return spectra


@cache
def _straight_waves() -> np.ndarray:
    """float32 (SIDE * SIDE, views * D): maps photos to the spectra of their unturned views without making the views.

    A view is linear in the photo. Without a turn, its map does not depend on the photo's aspect and is one matrix along
    the columns and one along the rows.
    """
    columns = np.eye(SIDE, dtype=np.float32)[:, :, None].repeat(SIDE, 2)  # pictures in which one row is 1
    waves = []
    for warp in _in_pixels(_maps(np.ones(1))).astype(np.float32)[0, _STRAIGHT]:
        down = np.stack([_warp(picture, warp)[:, 0] for picture in columns], 1)
        right = np.stack([_warp(np.ascontiguousarray(picture.T), warp)[0] for picture in columns], 1)
        waves.append(down.T @ _LOW_WAVES.reshape(-1, SIDE, SIDE) @ right)
    return np.ascontiguousarray(np.concatenate(waves).reshape(-1, SIDE * SIDE).T)


def _tangents(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """QR decomposition of each view and its six affine motions: orthonormal basis (n, D, 7), triangle (n, 7, 7)."""
    down, right = np.gradient(views, 1 / SIDE, axis=(1, 2))
    moved = [views, right * _X, right * _Y, right, down * _X, down * _Y, down]
    qr = np.linalg.qr(np.stack([_spectra(picture) for picture in moved], -1))
    return qr.Q, qr.R + 1e-6 * np.eye(7, dtype=np.float32)


def _frequencies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines on the disc, (D, pixels), weighted to level the spectrum of photos; which are low; which are odd. The odd
    ones come last."""
    along = (np.arange(SIDE) + 0.5) / SIDE
    waves, order = [], []
    for v, u in np.ndindex(14, 14):
        if 0 < u * u + v * v < 14 * 13:
            wave = np.outer(np.cos(np.pi * v * along), np.cos(np.pi * u * along)) * _DISC
            wave -= _DISC * wave.sum() / _DISC.sum()  # remove the mean brightness
            waves.append(wave.ravel() / np.linalg.norm(wave) * np.hypot(u, v) ** 1.5)
            order.append((u, v))
    odd, radius = np.array(order)[:, 0] % 2 == 1, np.hypot(*np.array(order).T)
    apart = np.argsort(odd, kind="stable")
    return np.array(waves, np.float32)[apart], radius[apart] < 7.1, odd[apart]


_WAVES, _LOW, _ODD = _frequencies()
_EVEN = np.sum(_LOW & ~_ODD)  # how many of the low ones are even; these come first
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


def _maps(aspects: np.ndarray) -> np.ndarray:
    """Affine maps (n, views, 3, 3) from a view's coordinates (-0.5 to 0.5) to a photo's, squashed by its aspect."""
    degrees, share, right, down = np.array(VIEWS).T
    maps = np.tile(np.eye(3), (len(aspects), len(VIEWS), 1, 1))
    maps[..., 0, 0] = maps[..., 1, 1] = share * np.cos(np.deg2rad(degrees))
    maps[..., 0, 1] = -share * np.sin(np.deg2rad(degrees)) / aspects[:, None]
    maps[..., 1, 0] = share * np.sin(np.deg2rad(degrees)) * aspects[:, None]
    maps[..., 0, 2], maps[..., 1, 2] = right, down
    return maps


def _in_pixels(maps: np.ndarray) -> np.ndarray:
    """Affine maps (..., 3, 3) between coordinates -> the same (..., 2, 3) between pixels."""
    return (_TO_PIXELS @ maps @ np.linalg.inv(_TO_PIXELS))[..., :2, :]
