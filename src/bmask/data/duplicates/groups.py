"""Which photos show the same picture.

Two detectors find the same picture: a perceptual hash (fingerprints.py), and for what was turned or cropped the
alignment of alignment.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bmask.data.duplicates.alignment import find_copies
from bmask.data.duplicates.fingerprints import MIRROR
from bmask.data.duplicates.hamming import near_pairs


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


def group_names(groups: ArrayLike, contents: ArrayLike) -> np.ndarray:
    """A name for each photo's group, text (N,): the first twelve letters of the smallest sha256 in it."""
    own, short = np.asarray(groups), np.asarray(contents, "S12")
    order = np.lexsort((short, own))
    firsts = order[np.diff(own[order], prepend=own[order[:1]] - 1) != 0]  # of each group, in the groups' order
    return short[firsts].astype(str)[np.searchsorted(own[firsts], own)]
