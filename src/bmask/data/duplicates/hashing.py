"""Locality-sensitive hashing: which spectra may correlate, without comparing every one with every other.

The signs of a vector's products with random directions agree for most directions when two vectors correlate (Charikar
2002), so a few signs together are a bucket in which both lie with some chance; of many tables of such buckets one holds
both nearly surely (Indyk and Motwani 1998). Half of a table's directions see the even horizontal frequencies alone and
half the odd ones. Mirroring turns all signs of the odd half; they are stored relative to one of them, and mirrored
pictures lie in one bucket.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TABLES = 48  # of pairs that pass all sieves 5 of 884 real ones and none of 591 planted ones share no bucket
BITS = 11  # signs of each half; with one more, 6 and 3 are lost, and half as many strangers met
SOME = 1 << 11  # vectors that are hashed at a time
AT_ONCE = 1 << 18  # neighbours that are held at a time: a thousand copies of a picture are neighbours in all tables


class Tables:
    """Tables of vectors float32 (N, D), by the signs of `directions`, which are the same ones for the same D.

    Args:
        odd: bool (D,), which elements change their sign when the picture is mirrored.
        kept: int (K,), sorted, the vectors that can be met.
    """

    def __init__(self, vectors: np.ndarray, odd: np.ndarray, kept: np.ndarray):
        # RandomState, for its numbers are those of every numpy version.
        draw = np.random.RandomState(0)
        self._odd = odd
        self._even_directions = np.float32(draw.standard_normal((np.sum(~odd), TABLES * BITS)))
        self._odd_directions = np.float32(draw.standard_normal((np.sum(odd), TABLES * (BITS + 1))))
        self._codes = self.codes(vectors[kept])
        self._order = np.empty(self._codes.shape, np.int32)
        for codes, order in zip(self._codes, self._order, strict=True):
            by_code = np.argsort(codes, kind="stable")
            codes[:], order[:] = codes[by_code], kept[by_code]

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """float32 (n, D) -> uint32 (TABLES, n): the bucket in each table; the same for the mirrored vector."""
        codes = np.empty((TABLES, len(vectors)), np.uint32)
        for start in range(0, len(vectors), SOME):
            some = vectors[start : start + SOME]
            signs = np.zeros((len(some), TABLES, 32), bool)
            even, odd = some[:, ~self._odd] @ self._even_directions, some[:, self._odd] @ self._odd_directions
            signs[..., :BITS] = even.reshape(-1, TABLES, BITS) > 0
            turned = odd.reshape(-1, TABLES, BITS + 1) > 0
            signs[..., BITS : 2 * BITS] = turned[..., 1:] ^ turned[..., :1]
            codes[:, start : start + SOME] = np.packbits(signs, axis=-1).view(np.uint32)[..., 0].T
        return codes

    def neighbours(self, views: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Which vectors share a bucket with a view of a picture.

        Args:
            views: float32 (n, V, D), of n pictures.

        Yields:
            Rows of `views`, numbers of vectors: int (P,) each, sorted, every pair once.
        """
        count = len(views)
        codes = self.codes(views.reshape(-1, views.shape[-1])).astype(np.uint64)
        # Sorted, a search finds in the cache what the one before it read. Of views in one bucket one asks for all.
        asked = codes << np.uint64(32) | np.repeat(np.arange(count, dtype=np.uint64), views.shape[1])
        row, first, many = (np.concatenate(column) for column in zip(*self._met(asked), strict=True))
        by_row = np.argsort(row, kind="stable")
        row, first, many = row[by_row], first[by_row], many[by_row]
        whole = np.cumsum(np.bincount(row, many, count)).astype(np.int64)
        for rows in np.split(np.arange(count), np.flatnonzero(np.diff(whole // AT_ONCE)) + 1):
            part = slice(*np.searchsorted(row, (rows[0], rows[-1] + 1)))
            ends = np.cumsum(many[part])
            steps = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - many[part], many[part])
            met = self._order.ravel().take(np.repeat(first[part], many[part]) + steps)
            pairs = _distinct(np.repeat(row[part], many[part]) << 32 | met)
            yield pairs >> 32, pairs & 0xFFFFFFFF

    def _met(self, asked: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each table: who asked for a bucket that is there, where it begins in `_order`, how many are in it."""
        size = self._codes.shape[1]
        for number, (stored, mine) in enumerate(zip(self._codes, asked, strict=True)):
            mine = _distinct(mine)
            wanted, of = (mine >> np.uint64(32)).astype(np.uint32), mine.astype(np.uint32)
            low = np.searchsorted(stored, wanted)
            there = np.flatnonzero(low < size)
            there = there[stored[low[there]] == wanted[there]]
            many = np.searchsorted(stored, wanted[there], "right") - low[there]
            yield of[there].astype(np.intp), low[there] + number * size, many


def _distinct(keys: np.ndarray) -> np.ndarray:
    """What np.unique gives, in a tenth of its time: since numpy 2.3 that fills a table of hashes and sorts it then."""
    keys.sort()
    return keys[np.diff(keys, prepend=~keys[:1]) != 0]
