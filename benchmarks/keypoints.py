"""A second detector of near-duplicates, only for benchmarks; it shares nothing with bmask.data.duplicates.groups.

It finds SIFT keypoints of photos and mirrored photos, then the nearest neighbours of each photo by VLAD (Jegou et al.
2010). A pair counts if many keypoints, spread over the picture, agree on one similarity transform.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

SIDE = 192  # px of the shorter side
POINTS = 250
WORDS = 64
NEIGHBOURS = 12
MIN_INLIERS = 20  # keypoints that agree
MIN_SPREAD = 0.2  # share of the picture that their bounding box covers, so that a shared logo does not count


def find_pairs(photos: list[np.ndarray]) -> set[tuple[int, int]]:
    """Pairs (i, j), i < j, of uint8 (H, W, 3) photos that show the same picture."""
    with ThreadPoolExecutor() as pool:
        plain = list(pool.map(_features, photos))
        mirrored = list(pool.map(lambda photo: _features(photo[:, ::-1]), photos))
        cv2.setRNGSeed(1)
        sample = np.concatenate([descriptors[::10] for _, descriptors, _ in plain])
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-4)
        words = cv2.kmeans(  # type: ignore[call-overload]  # the type stubs require initial labels
            sample, WORDS, None, stop, 1, cv2.KMEANS_PP_CENTERS
        )[2]
        whole = np.stack([_vlad(descriptors, words) for _, descriptors, _ in plain])
        tasks = []
        for others in (plain, mirrored):
            near = whole @ np.stack([_vlad(descriptors, words) for _, descriptors, _ in others]).T
            np.fill_diagonal(near, -1)
            columns = np.argpartition(-near, min(NEIGHBOURS, len(near) - 1), axis=1)[:, :NEIGHBOURS]
            pairs = {(min(i, j), max(i, j)) for i, row in enumerate(columns.tolist()) for j in row if i != j}
            tasks += [(i, j, plain[i], others[j]) for i, j in sorted(pairs)]
        return {task[:2] for task, same in zip(tasks, pool.map(lambda t: _agree(*t[2:]), tasks), strict=True) if same}


def _features(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Positions (n, 2) px, RootSIFT descriptors (n, 128), and the size of the resized photo."""
    scale = SIDE / min(photo.shape[:2])
    size = round(photo.shape[1] * scale), round(photo.shape[0] * scale)
    grey = cv2.cvtColor(np.ascontiguousarray(photo), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    points, descriptors = cv2.SIFT.create(POINTS, contrastThreshold=0.02).detectAndCompute(grey, None)
    if not points:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32), size
    shares = descriptors / (descriptors.sum(1, keepdims=True) + 1e-6)
    return np.array([point.pt for point in points], np.float32), np.sqrt(shares), size


def _vlad(descriptors: np.ndarray, words: np.ndarray) -> np.ndarray:
    nearest = (descriptors @ words.T - (words**2).sum(1) / 2).argmax(1) if len(descriptors) else np.empty(0, int)
    total = np.zeros_like(words)
    np.add.at(total, nearest, descriptors - words[nearest])
    total = np.sign(total) * np.sqrt(np.abs(total))
    return (total / (np.linalg.norm(total) + 1e-6)).ravel()


def _agree(one: tuple, other: tuple) -> bool:
    if min(len(one[0]), len(other[0])) < MIN_INLIERS:
        return False
    near = one[1] @ other[1].T
    forth, back = near.argmax(1), near.argmax(0)
    mutual = np.flatnonzero(back[forth] == np.arange(len(forth)))
    if len(mutual) < MIN_INLIERS:
        return False
    a, b = one[0][mutual], other[0][forth[mutual]]
    found, inliers = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=4, maxIters=1000)
    if found is None or not 0.5 < np.hypot(*found[:, 0]) < 2:
        return False
    chosen = inliers.ravel() > 0
    spread = min(np.prod(np.ptp(p[chosen], axis=0)) / np.prod(side[2]) for p, side in ((a, one), (b, other)))
    return chosen.sum() >= MIN_INLIERS and spread >= MIN_SPREAD
