"""Groups near-duplicates.

Two detectors find them: a perceptual hash (signatures.py) and, if turned or cropped, alignment (alignment.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bmask.data.duplicates.alignment import find_near_duplicates
from bmask.data.duplicates.hamming import near_pairs
from bmask.data.duplicates.signatures import MIRROR


def find_groups(
    hashes: np.ndarray, aspects: np.ndarray, thumbnails: Callable[[np.ndarray], np.ndarray], threshold: int
) -> np.ndarray:
    """Joins near-duplicates to groups, by single linkage.

    Args:
        hashes: uint64 (N,), of both domains together: a picture in both must not be trained on and tested on.
        aspects: float (N,), width : height.
        thumbnails: photo numbers, int (n,) -> their thumbnails, uint8 (n, SIDE, SIDE); a million would not fit into
            memory. Several threads call it.
        threshold: largest Hamming distance of hashes, bits. On 3432 real photos 4 joined only near-duplicates (484
            pairs, whose thumbnails correlated by 0.945 and more); 6 and 8 joined unrelated photos too. The hash finds
            re-compressed, shrunk, mirrored and brightened photos, alignment finds turned and cropped ones.

    Returns:
        int (N,), a number per photo, equal within a group.
    """
    distinct, first, place = np.unique(np.minimum(hashes, hashes ^ MIRROR), return_index=True, return_inverse=True)
    near = near_pairs(np.concatenate([distinct, distinct ^ MIRROR]), threshold) % np.intp(len(distinct))
    # Only the first photo of each hash is aligned, or a thousand near-duplicates would give a million pairs.
    pairs = find_near_duplicates(lambda numbers: thumbnails(first[numbers]), aspects[first])
    rows, columns = np.concatenate([near, pairs.T], axis=1)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(distinct),) * 2)
    return connected_components(graph, directed=False)[1][place]


def group_names(groups: ArrayLike, contents: ArrayLike) -> np.ndarray:
    """A name for each photo's group, text (N,): the first twelve letters of the smallest sha256 in it."""
    own, short = np.asarray(groups), np.asarray(contents, "S12")
    order = np.lexsort((short, own))
    firsts = order[np.diff(own[order], prepend=own[order[:1]] - 1) != 0]  # of each group, in the groups' order
    return short[firsts].astype(str)[np.searchsorted(own[firsts], own)]
