"""Distances against scipy's matrix root, hand-written loops, and Gaussians whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from bmask.quality.distances import cubic_kernel, frechet, kernel_distance, kernel_distances

seeds = st.integers(0, 2**32 - 1)


def sets(seed: int, n: int = 30, m: int = 40, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n, d)), rng.normal(0.3, 1.5, (m, d)) @ rng.normal(0, 1, (d, d))


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_frechet_equals_the_formula_with_a_matrix_root(seed):
    x, y = sets(seed)
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(cov_x @ cov_y).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root)
    assert frechet(x, y) == pytest.approx(expected, rel=1e-8)


def test_frechet_of_samples_with_exact_moments_is_the_closed_form_of_their_gaussians():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 3))
    z = (z - z.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T  # mean 0, covariance 1
    scales, shift = np.array([2.0, 0.5, 1.0]), np.array([1.0, -2.0, 0.0])
    assert frechet(z, z * scales + shift) == pytest.approx((shift**2).sum() + ((scales - 1) ** 2).sum())


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(2, 12), st.integers(2, 12))
def test_frechet_holds_for_fewer_photos_than_features(seed, n, m):
    x, y = sets(seed, n, m, 40)
    assert frechet(x, y) == pytest.approx(frechet(y, x))
    assert frechet(x, y) >= -1e-6
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)


@settings(deadline=None, max_examples=15)
@given(seeds)
def test_frechet_with_weights_is_that_of_repeated_rows(seed):
    x, y = sets(seed)
    times = np.random.default_rng(seed).integers(0, 4, len(x))
    assert frechet(x, y, times) == pytest.approx(frechet(np.repeat(x, times, axis=0), y))


def kernel_distance_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@settings(deadline=None, max_examples=15)
@given(seeds)
def test_kernel_distance_equals_a_loop_over_pairs(seed):
    x, y = sets(seed, 7, 9, 4)
    assert kernel_distance(x, y) == pytest.approx(kernel_distance_by_hand(x, y))


def test_kernel_distance_is_unbiased_where_both_sets_are_alike():
    rng = np.random.default_rng(1)
    found = [kernel_distance(rng.normal(size=(20, 6)), rng.normal(size=(20, 6))) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert min(found) < 0


def test_kernel_distance_sees_a_shift():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(100, 6)), rng.normal(size=(100, 6))
    assert kernel_distance(x, y + 1) > 10 * abs(kernel_distance(x, y))


def test_kernel_distances_of_a_resample_leave_out_pairs_of_one_photo():
    x, y = sets(3, 6, 7, 3)
    weights = np.array([[2, 0, 1, 3, 0, 1]])
    rows = np.repeat(np.arange(6), weights[0])
    kernel = cubic_kernel(x[rows], x[rows])
    other = rows[:, None] != rows[None]
    ones = np.ones((1, 7))
    across = cubic_kernel(x[rows], y).mean()
    within_y = (cubic_kernel(y, y).sum() - np.trace(cubic_kernel(y, y))) / (7 * 6)
    assert kernel_distances(x, y, weights, ones)[0] == pytest.approx(kernel[other].mean() + within_y - 2 * across)


def test_kernel_distances_of_resamples_scatter_around_the_value():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(80, 5)), rng.normal(0.5, 1, size=(90, 5))
    weights_x = rng.multinomial(80, np.full(80, 1 / 80), 300)
    weights_y = rng.multinomial(90, np.full(90, 1 / 90), 300)
    found = kernel_distances(x, y, weights_x, weights_y)
    assert found.mean() == pytest.approx(kernel_distance(x, y), abs=3 * found.std() / np.sqrt(300))
