"""Distances between two sets of feature vectors, plain or with a weight per vector, so that a bootstrap is one call.

Frechet distance between Gaussians: Heusel et al. 2017 (eq. 6). Kernel distance: unbiased squared MMD with the cubic
kernel of Binkowski et al. 2018, which stays unbiased for small sets, where the Frechet distance is too high.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]  # (N, D), one row a photo


def frechet(x: Features, y: Features, weights_x: NDArray | None = None, weights_y: NDArray | None = None) -> float:
    """|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)) of the sets' means and covariances (divisor: weight - 1).

    With centred rows A = sqrt(w / (sum w - 1)) * (x - m_x), and B alike, C_x = A'A, and the trace of the root is the
    sum of the singular values of A B'. That needs no matrix root, and no regularisation where there are fewer photos
    than features and both covariances are singular.
    """
    mean_x, a = _centred(x, weights_x)
    mean_y, b = _centred(y, weights_y)
    shared = np.linalg.svd(_short(a) @ _short(b).T, compute_uv=False).sum()
    return float(np.sum((mean_x - mean_y) ** 2) + np.sum(a * a) + np.sum(b * b) - 2 * shared)


def _centred(x: Features, weights: NDArray | None) -> tuple[NDArray, NDArray]:
    x = np.asarray(x, np.float64)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    kept = weights > 0
    x, weights = x[kept], weights[kept]
    mean = weights @ x / weights.sum()
    return mean, np.sqrt(weights / max(weights.sum() - 1, 1))[:, None] * (x - mean)


def _short(a: NDArray) -> NDArray:
    """R of a = QR where there are more rows than columns: the same A'A, and the same singular values of A B'."""
    if a.shape[0] <= a.shape[1]:
        return a
    return np.linalg.qr(a, mode="r")  # type: ignore[return-value]  # the stubs know only the default mode


def cubic_kernel(x: Features, y: Features) -> NDArray[np.float64]:
    """k(x, y) = (x.y / D + 1)^3 for every pair: (N, D), (M, D) -> (N, M)."""
    return (np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1) ** 3


def kernel_distance(x: Features, y: Features) -> float:
    """Unbiased squared MMD of two sets of at least two vectors; around 0, possibly negative, for similar sets."""
    ones_x, ones_y = np.ones((1, len(x))), np.ones((1, len(y)))
    return float(kernel_distances(x, y, ones_x, ones_y)[0])


def kernel_distances(x: Features, y: Features, weights_x: NDArray, weights_y: NDArray) -> NDArray[np.float64]:
    """The kernel distance (R,) for each row of weights, (R, N) and (R, M), which say how often a vector is repeated.

    Pairs of a vector and its own repetition are left out, because k(x, x) would raise the distance of every resample.
    """
    weights_x, weights_y = np.asarray(weights_x, np.float64), np.asarray(weights_y, np.float64)
    across = _bilinear(weights_x, cubic_kernel(x, y), weights_y) / (weights_x.sum(1) * weights_y.sum(1))
    return _within(x, weights_x) + _within(y, weights_y) - 2 * across


def _within(x: Features, weights: NDArray) -> NDArray:
    kernel = cubic_kernel(x, x)
    np.fill_diagonal(kernel, 0)
    return _bilinear(weights, kernel, weights) / (weights.sum(1) ** 2 - (weights**2).sum(1))


def _bilinear(left: NDArray, kernel: NDArray, right: NDArray) -> NDArray:
    return np.einsum("rj,rj->r", left @ kernel, right)
