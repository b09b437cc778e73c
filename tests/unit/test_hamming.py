"""The search for near hashes misses none and invents none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.data.duplicates.hamming import near_pairs


def brute_force(hashes: np.ndarray, threshold: int) -> set[tuple[int, int]]:
    values = [int(value) for value in hashes]
    return {
        (i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if (values[i] ^ values[j]).bit_count() <= threshold
    }


def pairs(hashes: np.ndarray, threshold: int) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in near_pairs(hashes, threshold).T]


FLIPS = st.lists(st.integers(0, 63), max_size=14)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), st.integers(0, 12), st.data())
def test_it_finds_what_comparing_every_pair_finds(bases, threshold, data):
    hashes = []
    for _ in range(data.draw(st.integers(0, 25))):
        value = data.draw(st.sampled_from(bases))
        for bit in data.draw(FLIPS):
            value ^= 1 << bit
        hashes.append(value)
    hashes = np.array(hashes, np.uint64)
    found = pairs(hashes, threshold)
    assert len(found) == len(set(found))
    assert set(found) == brute_force(hashes, threshold)


@pytest.mark.parametrize("threshold", [0, 1, 4, 7, 8, 20, 32, 64])
def test_it_finds_them_among_many(threshold):
    rng = np.random.default_rng(threshold)
    bases = rng.integers(0, 2**64, 150, np.uint64)
    copies = bases ^ np.array([np.bitwise_or.reduce(1 << rng.integers(0, 64, 5, np.uint64)) for _ in bases])
    hashes = np.concatenate([bases, copies, [np.uint64(0), np.uint64(2**64 - 1)]])
    assert set(pairs(hashes, threshold)) == brute_force(hashes, threshold)
