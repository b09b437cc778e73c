"""Finds all pairs of 64-bit hashes that differ in few bits, without comparing all pairs."""

from __future__ import annotations

from itertools import count, pairwise

import numpy as np

BITS = 64
MIN_BAND = 8  # bits; with narrower bands nearly all pairs are candidates
BLOCK = 256  # rows of the distance matrix at a time


def near_pairs(hashes: np.ndarray, threshold: int) -> np.ndarray:
    """Every pair i < j of positions whose hashes differ in at most `threshold` bits, once.

    The result is exact: of threshold + 1 bands, two such hashes share at least one (pigeonhole), so only hashes that
    share a band are compared. Above a threshold of 7 the bands would be too narrow, and all pairs are compared.

    Args:
        hashes: uint64 (N,). Pass distinct ones: equal hashes are pairs too, and many of them give too many pairs.
        threshold: Hamming distance, bits, 0 to 64.

    Returns:
        int (2, P).
    """
    bands = threshold + 1
    find = _banded if BITS // bands >= MIN_BAND else _compared
    pairs = np.sort(np.concatenate([np.empty((2, 0), int), *find(hashes, threshold)], axis=1), axis=0)
    return np.unique(pairs, axis=1)


def _banded(hashes: np.ndarray, threshold: int) -> list[np.ndarray]:
    found = []
    edges = np.linspace(0, BITS, threshold + 2).astype(int)
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        band, values = band[order], hashes[order]
        at = np.arange(len(band))  # where a run of equal bands is still longer than the lag
        for lag in count(1):
            at = at[at + lag < len(band)]
            at = at[band[at] == band[at + lag]]
            if not len(at):
                break
            near = at[np.bitwise_count(values[at] ^ values[at + lag]) <= threshold]
            found.append(np.stack([order[near], order[near + lag]]))
    return found


def _compared(hashes: np.ndarray, threshold: int) -> list[np.ndarray]:
    found = []
    for start in range(0, len(hashes), BLOCK):
        differ = np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes[start:])
        rows, columns = np.nonzero(differ <= threshold)
        found.append(np.stack([rows, columns])[:, rows < columns] + start)
    return found
