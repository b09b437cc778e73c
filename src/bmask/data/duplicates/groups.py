"""Which photos show the same picture, and which part of the split each one belongs to.

Two detectors find the same picture: a perceptual hash (fingerprints.py), and for what was turned or cropped the
alignment of copies.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bmask.data.duplicates.alignment import find_copies
from bmask.data.duplicates.fingerprints import COARSE, MIRROR
from bmask.data.duplicates.neighbours import near_pairs


def find_groups(
    hashes: np.ndarray, aspects: np.ndarray, thumbnails: Callable[[np.ndarray], np.ndarray], threshold: int
) -> np.ndarray:
    """Joins photos that show the same picture, and what they are joined to (single linkage).

    Args:
        hashes: uint64 (N,), of both domains together: the same picture in both must not be trained on and tested on.
        aspects: float (N,), width : height.
        thumbnails: gives those of the photos int (n,), uint8 (n, SIDE, SIDE), whenever they are asked for: a million
            would not fit into memory. Several threads ask.
        threshold: largest Hamming distance of hashes, bits. On 3432 real photos 4 joined nothing but copies (484 pairs,
            their thumbnails correlated by 0.945 and more), 6 and 8 joined strangers too. It finds re-compressed,
            shrunk, mirrored, brightened copies; alignment finds those that were turned or cropped.

    Returns:
        int (N,), a number per photo, equal within a group.
    """
    distinct, first, place = np.unique(np.minimum(hashes, hashes ^ MIRROR), return_index=True, return_inverse=True)
    near = near_pairs(np.concatenate([distinct, distinct ^ MIRROR]), threshold) % np.intp(len(distinct))
    # Of photos with one hash the first is aligned for all: a thousand copies of a picture are not a million pairs.
    copies = find_copies(lambda numbers: thumbnails(first[numbers]), aspects[first])
    rows, columns = np.concatenate([near, copies.T], axis=1)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(distinct),) * 2)
    return connected_components(graph, directed=False)[1][place]


def part_of(hash_: np.uint64, test: float, validation: float) -> str:
    """The part that a photo belongs to by itself: a draw that is seeded by its coarse hash and by nothing else.

    Args:
        test: share of all photos.
        validation: share of what is not test. Changing it leaves the test photos alone.
    """
    coarse = min(int(hash_ & COARSE), int((hash_ ^ MIRROR) & COARSE))
    draws = hashlib.sha256(f"bmask part {coarse:016x}".encode()).digest()
    if int.from_bytes(draws[:8], "big") < test * 2**64:
        return "test"
    return "validation" if int.from_bytes(draws[8:16], "big") < validation * 2**64 else "train"


def settle(groups: ArrayLike, parts: Sequence[str]) -> np.ndarray:
    """Gives every group one part; returns a part per photo, text (N,), "" where the photo is set aside.

    No photo ever moves from one part to another when photos are added, and no group lies in two parts. Without a
    memory of earlier splits these two force a third: the part must be a function of the photo alone (each photo could
    have been the only one), so where near-duplicates draw different parts, some of them must be left out. The majority
    of the group stays; at a tie test goes before validation before train, for test is the yardstick. So what adding a
    near-duplicate can do is to put an old photo aside or bring it back, never to carry it across. Of 3432
    real photos that costs 66; most are turned or cropped copies, whose coarse hash differs (without them it is 10).
    """
    names = np.array(["test", "validation", "train"])
    numbers = {name: number for number, name in enumerate(names.tolist())}
    own = np.array([numbers[part] for part in parts], np.uint8)
    distinct, place = np.unique(np.asarray(groups), return_inverse=True)
    votes = np.zeros((len(distinct), len(names)), np.int32)
    np.add.at(votes, (place, own), 1)
    chosen = votes.argmax(axis=1)  # takes the first at a tie
    return np.where(own == chosen[place], names[own], "")


def group_names(groups: ArrayLike, contents: ArrayLike) -> np.ndarray:
    """A name for each photo's group, text (N,): the first twelve letters of the smallest sha256 in it."""
    own, short = np.asarray(groups), np.asarray(contents, "S12")
    order = np.lexsort((short, own))
    firsts = order[np.diff(own[order], prepend=own[order[:1]] - 1) != 0]  # of each group, in the groups' order
    return short[firsts].astype(str)[np.searchsorted(own[firsts], own)]
