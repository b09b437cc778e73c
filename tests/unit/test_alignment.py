"""Faces are aligned in their square and laid back where they were, without aliasing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from bmask.faces.alignment import align, apply, bounds, extend, invert, lay_back, scale_of, to_square, umeyama
from bmask.faces.template import CENTRE, TEMPLATE

SHIFTS = st.floats(-500, 500)
SIMILARITIES = st.builds(
    lambda scale, angle, x, y: np.array(
        [[scale * np.cos(angle), -scale * np.sin(angle), x], [scale * np.sin(angle), scale * np.cos(angle), y]]
    ),
    st.floats(0.05, 20),
    st.floats(-np.pi, np.pi),
    SHIFTS,
    SHIFTS,
)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, 3) without detail that a turn or a change of scale could lose."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width, 3)), (6, 6, 0))
    return np.uint8(np.clip(128 + 40 * noise / noise.std(), 0, 255))


@given(SIMILARITIES)
def test_a_similarity_is_recovered_from_what_it_does_to_points(similarity):
    found = umeyama(TEMPLATE * 100, apply(similarity, TEMPLATE * 100))
    np.testing.assert_allclose(found, similarity, atol=1e-6)
    np.testing.assert_allclose(apply(invert(found), apply(found, TEMPLATE)), TEMPLATE, atol=1e-6)


@given(SIMILARITIES, st.integers(0, 1000))
def test_no_other_similarity_brings_the_points_nearer(similarity, seed):
    rng = np.random.default_rng(seed)
    source = TEMPLATE * 100
    target = apply(similarity, source) + rng.normal(0, 5, source.shape)
    found = umeyama(source, target)
    far = np.square(apply(found, source) - target).sum()
    a, b = found[0, 0], found[1, 0]
    for change in rng.normal(0, 1e-3, (8, 4)):
        near = np.array([[a + change[0], -b - change[1], 0], [b + change[1], a + change[0], 0]])
        near[:, 2] = found[:, 2] + change[2:]
        assert np.square(apply(near, source) - target).sum() >= far - 1e-9


def test_a_mirrored_face_is_not_mirrored_back():
    mirrored = TEMPLATE * [-1, 1]
    assert np.linalg.det(umeyama(mirrored, TEMPLATE)[:, :2]) > 0


def test_the_generators_picture_is_the_middle_of_the_stored_square():
    landmarks = apply(np.array([[3.0, -1.0, 40.0], [1.0, 3.0, 90.0]]), TEMPLATE * 20)
    stored, shown = to_square(landmarks, 144), to_square(landmarks, 128, centre=1)
    np.testing.assert_allclose(apply(stored, landmarks), TEMPLATE * 128 + 8, atol=1e-9)
    np.testing.assert_allclose(stored - shown, [[0, 0, 8], [0, 0, 8]], atol=1e-9)
    photo = smooth(200, 220)
    margin = round(144 * (1 - CENTRE) / 2)
    middle = align(photo, stored, 144)[margin:-margin, margin:-margin]
    np.testing.assert_array_equal(middle, align(photo, shown, 128))


@settings(max_examples=40)
@given(st.floats(0.5, 2), st.floats(-0.6, 0.6), st.integers(0, 50))
def test_what_is_aligned_and_laid_back_is_the_photo(scale, angle, seed):
    photo = smooth(160, 160, seed)
    turn = 60 / scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (TEMPLATE - 0.5) @ turn.T + 80
    transform = to_square(landmarks, 64, centre=1)
    back = lay_back(align(photo, transform, 64), transform, 160, 160).astype(int)
    inside = lay_back(np.full((64, 64), 255, np.uint8), transform, 160, 160) == 255
    inside &= gaussian_filter(inside.astype(float), 2) > 0.999
    assert inside.sum() > 200
    assert np.abs(back - photo)[inside].mean() < 1.5
    top, bottom, left, right = bounds(transform, 64, 160, 160)
    touched = np.argwhere(inside)
    assert (touched.min(0) >= (top, left)).all() and (touched.max(0) < (bottom, right)).all()


def test_outside_the_photo_is_grey_and_outside_the_square_nothing():
    transform = to_square(TEMPLATE * 50 + [-20, 0], 64, centre=1)  # the left 20 px of the face are not in the photo
    square = align(np.full((60, 60, 3), 255, np.uint8), transform, 64)
    assert (square[:, :24] == 127).all()
    assert (square[2:-2, 28:] == 255).all()
    back = lay_back(np.ones((64, 64), np.float32), transform, 60, 60)
    assert (back[:, 33:] == 0).all()
    np.testing.assert_allclose(back[2:48, :28], 1, atol=1e-3)


@pytest.mark.parametrize("scale", [0.9, 0.6, 0.3, 0.1])
def test_detail_too_fine_for_the_square_becomes_its_mean(scale):
    size = round(100 / scale)
    fine = np.indices((size, size)).sum(0) % 2 * 255  # a chessboard of pixels: the finest detail that there is
    transform = np.array([[scale, 0, 0.3], [0, scale, -0.4]])
    square = align(fine[..., None].repeat(3, 2).astype(np.uint8), transform, 100)[4:-4, 4:-4].astype(float)
    assert abs(square.mean() - 127.5) < 1.5
    assert square.std() < (40 if scale > 0.8 else 8)
    assert scale_of(transform) == pytest.approx(scale)


def test_what_lies_beyond_the_photo_gets_the_colour_of_what_is_nearest_in_it():
    """A photo of 40 x 30 px lies at (8, 5) of a square of 64 px; each pixel of the square holds its own place."""
    down, across = np.mgrid[:64, :64].astype(np.float32)
    square, transform = np.stack([down, across, np.zeros_like(down)], -1), np.array([[1.0, 0, 8], [0, 1.0, 5]])
    made = extend(square, transform, 30, 40, 2.0)
    assert np.allclose(made[..., 0], down.clip(5 + 2 - 0.5, 35 - 2 - 0.5), atol=0.05)
    assert np.allclose(made[..., 1], across.clip(8 + 2 - 0.5, 48 - 2 - 0.5), atol=0.05)
    inside = np.s_[7:33, 10:46]
    assert np.array_equal(made[inside], square[inside])
    assert np.allclose(extend(square[..., 0], transform, 30, 40, 2.0), made[..., 0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 3), st.floats(-0.6, 0.6))
def test_a_square_that_lies_within_its_photo_stays_as_it_is(seed, scale, angle):
    square = smooth(32, 32, seed)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([300.0, 250.0])
    transform = np.hstack([turn, (16 - turn @ middle)[:, None]])
    assert np.array_equal(extend(square, transform, 500, 600, 2.0), square)
