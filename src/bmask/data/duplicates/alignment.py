"""Which photos are copies of one picture though one of them was turned, cropped or mirrored: found by alignment.

Three sieves, each finer and dearer than the one before. A pair must pass all three, and whether it does follows from
the two photos alone, never from what else is in the set.

1. Every photo is looked at in 32 ways (turned, cropped here and there), and the low frequencies of each view are
   correlated with those other photos, as they are, that share a bucket with one of the views (hashing.py). Mirroring
   turns the sign of the odd horizontal frequencies and of nothing else, so mirrored copies cost no second pass.
2. Where that correlates, more frequencies are compared; and where those are not far off, they are again, up to a small
   affine motion: how much of a photo lies in the plane that is tangent to what moving the view gives (tangent distance,
   Simard et al. 1993).
3. What is left is aligned by an affine map (ECC, Evangelidis and Psarakis 2008), and what the aligned thumbnails show
   beyond their coarse light and dark must correlate. Faces share the coarse; only copies share the rest.
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

SIDE = 32  # px of a thumbnail; at 24 the third sieve lost one copy in ten
COARSE = 0.87  # least correlation of a view, sieve 1
CLOSE = 0.5  # least correlation of a view's finer frequencies, sieve 2; at 0.6 copies cropped by 10 % a side were lost
TANGENT = 0.85  # least correlation with the tangent plane, sieve 2
FINE = 0.94  # least correlation of aligned thumbnails, sieve 3; of 719,400 pairs of drawn strangers 7 pass, at 0.93 15
OVERLAP = 0.4  # least share of the disc that both thumbnails show
SQUEEZE = 0.5  # a map that shrinks by more finds anything in anything
ROWS, PAIRS = 256, 2048  # photos and pairs that are looked at at a time
SHELF = 1 << 17  # photos whose hashes are in memory at a time, some 80 MB; another shelf costs 0.2 ms a photo

VIEWS = [  # degrees, share of the width and height that is seen, right and down of the middle
    *((degrees, 1.0, 0.0, 0.0) for degrees in (-14, -7, 0, 7, 14)),
    *((degrees, 0.88, 0.0, 0.0) for degrees in (-8, 8)),
    *((0, 0.9, x, y) for x in (-0.05, 0, 0.05) for y in (-0.05, 0, 0.05)),
    *((0, 0.79, x, y) for x in (-0.09, -0.03, 0.03, 0.09) for y in (-0.09, -0.03, 0.03, 0.09)),
]

_Y, _X = (np.indices((SIDE, SIDE), np.float32) + 0.5) / SIDE - 0.5
_DISC = np.clip(np.cos(np.pi * np.hypot(_X, _Y)), 0, None).astype(np.float32)  # turning leaves the disc full
_INSIDE = (_DISC > 0).astype(np.uint8)
_STRAIGHT = np.array([degrees == 0 for degrees, *_ in VIEWS])
_TO_PIXELS = np.array([[SIDE, 0, SIDE / 2 - 0.5], [0, SIDE, SIDE / 2 - 0.5], [0, 0, 1]])


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """uint8 (H, W) -> uint8 (SIDE, SIDE), squashed, without the fine frequencies that would flicker when turned."""
    double = cv2.resize(grey, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(double, (0, 0), 1.2), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def find_copies(thumbnails: Callable[[np.ndarray], np.ndarray], aspects: np.ndarray) -> np.ndarray:
    """All pairs of photos of which one is a copy of the other.

    Args:
        thumbnails: gives those of the photos int (n,), as of `thumbnail`: uint8 (n, SIDE, SIDE). Several threads ask.
        aspects: float (N,), width : height of the photos.

    Returns:
        int (P, 2), numbers of photos; a pair may come twice, either way round.
    """
    found = [np.empty((0, 2), int)]
    shelves, rows = (blocks(np.arange(len(aspects)), length) for length in (SHELF, ROWS))
    with one_thread_each():
        for number, shelf in enumerate(shelves, start=1):
            find = _Shelf(thumbnails, aspects, shelf).copies
            which = f" ({number} of {len(shelves)})" if len(shelves) > 1 else ""
            found += bar(ahead(find, rows, cores()), len(rows), f"ingest: near-duplicates, by {ROWS} photos{which}")
            del find  # and the shelf with it, before the next one is filled
    return np.concatenate(found)


class _Shelf:
    """Photos whose low frequencies and hashes are in memory, so that copies of them can be found."""

    def __init__(self, thumbnails: Callable[[np.ndarray], np.ndarray], aspects: np.ndarray, photos: np.ndarray):
        self._thumbnails, self._aspects, self._start = thumbnails, aspects, photos[0]
        self._coarse = np.empty((len(photos), len(_LOW_WAVES)), np.float32)
        for block in blocks(photos, ROWS):
            low = _unit(_spectra(thumbnails(block).astype(np.float32), _LOW_WAVES))
            self._coarse[block - self._start] = low
        # What is flat correlates with nothing, but would share all its buckets with all that is flat.
        self._tables = Tables(self._coarse, _ODD[_LOW], np.flatnonzero(np.linalg.norm(self._coarse, axis=1) > COARSE))

    def copies(self, block: np.ndarray) -> np.ndarray:
        """Pairs (P, 2) of a photo of the block, int (n,), and one of the shelf."""
        found = [np.empty((0, 2), int)]
        for i, j, mirrored, maps in self._candidates(block):
            others = self._thumbnails(j)
            others = np.where(mirrored[:, None, None], others[..., ::-1], others)
            each = zip(self._thumbnails(i), others, maps, strict=True)
            alike = np.array([likeness(*pair) > FINE for pair in each], bool)
            found.append(np.stack([i, j], 1)[alike])
        return np.concatenate(found)

    def _candidates(self, block: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """What passes sieves 1 and 2: photos i, j, whether mirrored, affine maps in pixels."""
        own = self._thumbnails(block)
        maps = _maps(self._aspects[block])
        warps = _in_pixels(maps).astype(np.float32)
        views = _unit(_view_spectra(own, warps))
        for rows, photos in self._tables.neighbours(views):
            others = rows != photos + self._start - block[0]
            i, v, j, mirrored = _correlated(views, self._coarse, rows[others], photos[others])
            j += self._start
            for part in blocks(np.arange(len(i)), PAIRS):
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
    """Sieve 3: the correlation of two thumbnails' details, -1 to 1, after alignment from an affine map in pixels."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
    try:
        _, found = cv2.findTransformECC(
            np.ascontiguousarray(other), one, start.astype(np.float32), cv2.MOTION_AFFINE, stop, _INSIDE, 3
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


def _correlated(views: np.ndarray, coarse: np.ndarray, rows: np.ndarray, photos: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sieve 1: row, best view, photo and whether mirrored, of those pairs, sorted by row, whose view correlates."""
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
    """float32 (SIDE * SIDE, views * D): gives the spectra of the views that do not turn, without making the views.

    A view is linear in the photo, the same for all photos where its map does not depend on their aspect, and without a
    turn it is one matrix along the columns and one along the rows.
    """
    columns = np.eye(SIDE, dtype=np.float32)[:, :, None].repeat(SIDE, 2)  # a picture for each row that is lit
    waves = []
    for warp in _in_pixels(_maps(np.ones(1))).astype(np.float32)[0, _STRAIGHT]:
        down = np.stack([_warp(picture, warp)[:, 0] for picture in columns], 1)
        right = np.stack([_warp(np.ascontiguousarray(picture.T), warp)[0] for picture in columns], 1)
        waves.append(down.T @ _LOW_WAVES.reshape(-1, SIDE, SIDE) @ right)
    return np.ascontiguousarray(np.concatenate(waves).reshape(-1, SIDE * SIDE).T)


def _tangents(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis (n, D, 7) of each view and its six affine motions, and the triangle (n, 7, 7) behind it."""
    down, right = np.gradient(views, 1 / SIDE, axis=(1, 2))
    moved = [views, right * _X, right * _Y, right, down * _X, down * _Y, down]
    triangle_of = np.linalg.qr(np.stack([_spectra(picture) for picture in moved], -1))
    return triangle_of.Q, triangle_of.R + 1e-6 * np.eye(7, dtype=np.float32)


def _frequencies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines under the disc, (D, pixels), weighted against the spectrum of photos; which are low, which are odd.
    The odd ones come last."""
    along = (np.arange(SIDE) + 0.5) / SIDE
    waves, order = [], []
    for v, u in np.ndindex(14, 14):
        if 0 < u * u + v * v < 14 * 13:
            wave = np.outer(np.cos(np.pi * v * along), np.cos(np.pi * u * along)) * _DISC
            wave -= _DISC * wave.sum() / _DISC.sum()  # light is no likeness
            waves.append(wave.ravel() / np.linalg.norm(wave) * np.hypot(u, v) ** 1.5)
            order.append((u, v))
    odd, radius = np.array(order)[:, 0] % 2 == 1, np.hypot(*np.array(order).T)
    apart = np.argsort(odd, kind="stable")
    return np.array(waves, np.float32)[apart], radius[apart] < 7.1, odd[apart]


_WAVES, _LOW, _ODD = _frequencies()
_EVEN = np.sum(_LOW & ~_ODD)  # of the low ones, which come first
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
