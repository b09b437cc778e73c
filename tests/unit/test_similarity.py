"""SSIM against a hand-written loop over windows; PSNR and differences against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bmask.quality import similarity

photos = arrays(np.uint8, (16, 14, 3))


def ssim_by_hand(x: np.ndarray, y: np.ndarray, row: int, column: int) -> float:
    """Equation 13 of Wang et al. for one window that lies inside the picture, mean over the channels."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / np.outer(window, window).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        a = x[row - 5 : row + 6, column - 5 : column + 6, channel].astype(float)
        b = y[row - 5 : row + 6, column - 5 : column + 6, channel].astype(float)
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        covariance = (window * (a - mean_a) * (b - mean_b)).sum()
        likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
        values.append(likeness / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return float(np.mean(values))


@settings(deadline=None, max_examples=25)
@given(photos, photos)
def test_ssim_map_equals_a_loop_over_windows(x, y):
    found = similarity.ssim_map(x, y)
    for row, column in ((5, 5), (8, 6), (10, 8)):
        assert found[row, column] == pytest.approx(ssim_by_hand(x, y, row, column), abs=2e-3)


@settings(deadline=None, max_examples=25)
@given(photos, photos)
def test_ssim_is_symmetric_at_most_one_and_one_for_the_same_photo(x, y):
    assert similarity.ssim(x, y) == pytest.approx(similarity.ssim(y, x), abs=1e-4)
    assert similarity.ssim(x, y) <= 1 + 1e-4
    assert similarity.ssim(x, x) == pytest.approx(1, abs=1e-4)


def test_the_upper_face_is_the_first_45_percent_of_the_rows():
    photo = np.arange(64 * 2 * 3).reshape(64, 2, 3)
    assert np.array_equal(similarity.upper(photo), photo[:29])


@settings(deadline=None, max_examples=25)
@given(photos, photos, st.integers(0, 255))
def test_changes_inside_the_region_leave_the_outside_scores_alone(x, y, value):
    region = np.zeros((16, 14), bool)
    region[12:, 10:] = True
    changed = np.where(region[..., None], np.uint8(value), y)
    assert similarity.ssim_outside(x, y, region) == similarity.ssim_outside(x, changed, region)
    assert similarity.mae(x, y, ~region) == similarity.mae(x, changed, ~region)


def test_inside_scores_see_the_region_alone():
    x = np.full((20, 20, 3), 100, np.uint8)
    region = np.zeros((20, 20), bool)
    region[10:14, 3:9] = True
    y = np.where(region[..., None], np.uint8(110), np.uint8(0))
    assert similarity.mae(x, y, region) == 10
    assert similarity.psnr(x, y, region) == pytest.approx(10 * math.log10(255**2 / 100))


def test_psnr_of_equal_photos_is_that_of_rounding_errors():
    x = np.full((4, 4, 3), 7, np.uint8)
    assert similarity.psnr(x, x) == pytest.approx(10 * math.log10(255**2 * 12))


def test_an_empty_region_has_no_score():
    x, nowhere = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), bool)
    assert math.isnan(similarity.psnr(x, x, nowhere)) and math.isnan(similarity.ssim_inside(x, x, nowhere))
    assert math.isnan(similarity.mae(x, x, nowhere)) and math.isnan(similarity.ssim_outside(x, x, ~nowhere))


@settings(deadline=None, max_examples=25)
@given(photos, photos)
def test_mae_does_not_wrap_around_at_eight_bits(x, y):
    assert similarity.mae(x, y) == pytest.approx(np.abs(x.astype(float) - y.astype(float)).mean())
