"""What compositing promises, for any photo, any generator output and any threshold."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmask.serving.compositing import composite, frame, middle_square, opacity

sides = st.integers(16, 70)
sizes = st.sampled_from([16, 32, 48])
thresholds = st.sampled_from([0.0, 0.05, 0.1, 0.5])
seeds = st.integers(0, 2**31)


def scene(height, width, size, seed, soft=True):
    """A noisy photo, its frame, and a generator's output that obeys y = C a + x (1 - a)."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    low = frame(photo, size)
    attention = rng.random((size, size)).astype(np.float32)
    if soft:
        attention = cv2.GaussianBlur(attention, (0, 0), size / 8)
        attention = (attention - attention.min()) / np.ptp(attention)
    content = rng.uniform(-1, 1, (size, size, 3)).astype(np.float32)
    x = low.astype(np.float32) / 127.5 - 1
    return photo, low, content * attention[..., None] + x * (1 - attention[..., None]), attention


@settings(max_examples=40, deadline=None)
@given(sides, sides, sizes, thresholds, seeds)
def test_pixels_outside_the_attention_are_the_photos_own(height, width, size, threshold, seed):
    photo, low, image, attention = scene(height, width, size, seed)
    result = composite(photo, low, image, attention, threshold)
    kept = opacity(photo.shape, attention, threshold) == 0
    assert result.shape == photo.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[kept], photo[kept])


@settings(max_examples=30, deadline=None)
@given(sides, sides, sizes, thresholds, seeds)
def test_attention_nowhere_above_the_threshold_gives_the_photo_whatever_was_painted(
    height, width, size, threshold, seed
):
    photo, low, image, _ = scene(height, width, size, seed)
    assert np.array_equal(composite(photo, low, image, np.full((size, size), threshold, np.float32), threshold), photo)


@settings(max_examples=30, deadline=None)
@given(sides, sides, sizes, thresholds, seeds, st.booleans())
def test_outside_the_middle_square_nothing_changes(height, width, size, threshold, seed, attended):
    photo, low, image, attention = scene(height, width, size, seed)
    result = composite(photo, low, image, attention if attended else None, threshold)
    top, left, side = middle_square(height, width)
    outside = np.ones((height, width), bool)
    outside[top : top + side, left : left + side] = False
    assert side == min(height, width)
    np.testing.assert_array_equal(result[outside], photo[outside])


@settings(max_examples=30, deadline=None)
@given(sizes, seeds)
def test_at_equal_size_without_a_threshold_it_is_the_generators_own_image(size, seed):
    photo, low, image, attention = scene(size, size, size, seed, soft=False)
    assert np.array_equal(low, photo)
    expected = (image + 1) * 127.5
    assert np.abs(composite(photo, low, image, attention, 0.0) - expected).max() <= 0.5 + 1e-3
    assert np.abs(composite(photo, low, image, None, 0.0) - expected).max() <= 0.5 + 1e-3


def test_at_equal_size_it_follows_the_formula_pixel_by_pixel():
    threshold = 0.2
    photo, low, image, attention = scene(16, 16, 16, 3, soft=False)
    other = np.random.default_rng(1).integers(0, 256, photo.shape, dtype=np.uint8)  # so that photo and frame differ
    result = composite(other, low, image, attention, threshold)
    for row in range(16):
        for column in range(16):
            a = float(attention[row, column])
            above = min(max((a - threshold) / (1 - threshold), 0.0), 1.0)
            for channel in range(3):
                y, x = (float(image[row, column, channel]) + 1) * 127.5, float(low[row, column, channel])
                content = (y - x * (1 - a)) / a
                expected = above * content + (1 - above) * float(other[row, column, channel])
                assert abs(int(result[row, column, channel]) - min(max(expected, 0), 255)) <= 0.5 + 1e-2


def test_it_is_continuous_at_the_threshold():
    threshold, step = 0.1, 1e-3
    photo = np.full((32, 32, 3), 200, np.uint8)
    low = frame(photo, 32)
    x = low / 127.5 - 1
    results = []
    for a in (threshold - step, threshold + step):
        image = (-1.0) * a + x * (1 - a)  # paints black
        results.append(composite(photo, low, image, np.full((32, 32), a, np.float32), threshold).astype(int))
    assert np.array_equal(results[0], photo)
    assert np.abs(results[1] - results[0]).max() <= 1


def test_half_attention_keeps_half_of_the_photos_fine_detail():
    """A checkerboard finer than the generator can see survives in proportion to 1 - attention."""
    tiles = (np.indices((128, 128)).sum(0) % 2 * 80 + 80).astype(np.uint8)
    photo = np.repeat(tiles[..., None], 3, 2)
    low = frame(photo, 32)
    assert np.ptp(low) <= 1
    x = low / 127.5 - 1
    for a in (0.25, 0.5, 0.75):
        result = composite(photo, low, 0.3 * a + x * (1 - a), np.full((32, 32), a, np.float32), 0.0)
        assert np.ptp(result) == pytest.approx(80 * (1 - a), abs=1.5)


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (301, 40), (64, 64), (200, 300)])
def test_full_attention_replaces_the_square_and_colours_bleed_no_background(shape):
    """Where attention is full, a painted colour arrives unchanged, whatever the photo behind it."""
    rng = np.random.default_rng(5)
    photo = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    low = frame(photo, 64)
    attention = np.zeros((64, 64), np.float32)
    attention[16:48, 16:48] = 1
    colour = np.array([0.5, -0.25, 0.0], np.float32)
    x = low.astype(np.float32) / 127.5 - 1
    image = colour * attention[..., None] + x * (1 - attention[..., None])
    result = composite(photo, low, image, attention, 0.1)
    full = opacity(shape, attention, 0.1) == 1
    assert full.any()
    assert np.abs(result[full] - (colour + 1) * 127.5).max() <= 1


def test_bytes_and_floats_of_the_same_image_agree_to_a_grey_level():
    photo, low, image, attention = scene(50, 80, 32, 9)
    as_bytes = np.round((image + 1) * 127.5).astype(np.uint8)
    pair = [composite(photo, low, version, attention, 0.1).astype(int) for version in (image, as_bytes)]
    assert np.abs(pair[0] - pair[1]).max() <= 1


def test_the_photo_itself_is_never_written_to():
    photo, low, image, attention = scene(40, 40, 32, 2)
    before = photo.copy()
    composite(photo, low, image, attention, 0.1)
    composite(photo, low, image, None, 0.1)
    assert np.array_equal(photo, before)


def test_pictures_of_different_calls_are_refused():
    photo, low, image, attention = scene(40, 40, 32, 2)
    with pytest.raises(ValueError, match="one generator call"):
        composite(photo, low[:16, :16], image, attention, 0.1)
    with pytest.raises(ValueError, match="one generator call"):
        composite(photo, low, image, attention[:16], 0.1)
