"""Locality-sensitive hashing: finds spectra that may correlate, without comparing all pairs.

If two vectors correlate, their products with random directions have the same sign for most directions (Charikar 2002).
A few signs together are a bucket, which both vectors share with some probability; in one of many tables of buckets they
share one almost surely (Indyk and Motwani 1998). Half of a table's directions use only the even horizontal frequencies,
half only the odd ones. Mirroring flips all signs of the odd half. These signs are stored relative to one of them, so
that a picture and its mirror image share a bucket.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TABLES = 48  # of pairs that pass all sieves, 5 of 884 real and none of 591 planted ones share no bucket
BITS = 11  # signs of each half; one more loses 6 and 3 of these pairs and halves the unrelated candidates
BATCH = 1 << 11  # vectors hashed at a time
NEIGHBOURS = 1 << 18  # held in memory at a time: a thousand near-duplicates are neighbours in all tables


class Tables:
    """Hash tables of vectors float32 (N, D); the random directions are the same in every process.

    Args:
        odd: bool (D,), which elements change their sign when the picture is mirrored.
        kept: int (K,), sorted, the vectors that the tables hold.
    """

    def __init__(self, vectors: np.ndarray, odd: np.ndarray, kept: np.ndarray):
        # RandomState gives the same numbers in every version of numpy.
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
        for start in range(0, len(vectors), BATCH):
            batch = vectors[start : start + BATCH]
            signs = np.zeros((len(batch), TABLES, 32), bool)
            even, odd = batch[:, ~self._odd] @ self._even_directions, batch[:, self._odd] @ self._odd_directions
            signs[..., :BITS] = even.reshape(-1, TABLES, BITS) > 0
            turned = odd.reshape(-1, TABLES, BITS + 1) > 0
            signs[..., BITS : 2 * BITS] = turned[..., 1:] ^ turned[..., :1]
            codes[:, start : start + BATCH] = np.packbits(signs, axis=-1).view(np.uint32)[..., 0].T
        return codes

    def neighbours(self, views: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Finds the vectors that share a bucket with a view of a picture.

        Args:
            views: float32 (n, V, D), of n pictures.

        Yields:
            Rows of `views`, numbers of vectors: int (P,) each, sorted, every pair once.
        """
        count = len(views)
        codes = self.codes(views.reshape(-1, views.shape[-1])).astype(np.uint64)
        # Sorted, so that a search finds in the cache what the previous one read. Views in one bucket are searched once.
        asked = codes << np.uint64(32) | np.repeat(np.arange(count, dtype=np.uint64), views.shape[1])
        row, first, many = (np.concatenate(column) for column in zip(*self._buckets(asked), strict=True))
        by_row = np.argsort(row, kind="stable")
        row, first, many = row[by_row], first[by_row], many[by_row]
        whole = np.cumsum(np.bincount(row, many, count)).astype(np.int64)
        for rows in np.split(np.arange(count), np.flatnonzero(np.diff(whole // NEIGHBOURS)) + 1):
            part = slice(*np.searchsorted(row, (rows[0], rows[-1] + 1)))
            ends = np.cumsum(many[part])
            steps = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - many[part], many[part])
            members = self._order.ravel().take(np.repeat(first[part], many[part]) + steps)
            pairs = _distinct(np.repeat(row[part], many[part]) << 32 | members)
            yield pairs >> 32, pairs & 0xFFFFFFFF

    def _buckets(self, asked: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each table: rows that asked for an existing bucket, where it begins in `_order`, how many are in it."""
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
    """As np.unique, but in a tenth of its time: since numpy 2.3 that fills a hash table and then sorts it."""
    keys.sort()
    return keys[np.diff(keys, prepend=~keys[:1]) != 0]
