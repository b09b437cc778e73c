"""Only what is painted gets the grain of its photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bmask.serving.grain import MAX_GRAIN, match_grain

HEIGHT, WIDTH = 240, 200


def scene(deviation: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A shaded photo with grey grain, the same with a smooth patch painted on it, and how much of it is painted."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.stack([90 + 0.3 * down, 120 + 0.2 * across, np.full(down.shape, 110.0)], -1)
    noise = np.random.default_rng(seed).normal(0, 1, (HEIGHT, WIDTH, 1)) * deviation
    photo = np.clip(np.round(smooth + noise), 0, 255).astype(np.uint8)
    weight = np.zeros((HEIGHT, WIDTH), np.float32)
    weight[100:200, 40:160] = 1
    weight[100:200, 30:40] = 0.5
    painted = np.where(weight[..., None] > 0, smooth + 12, photo)
    return photo, np.clip(np.round(painted), 0, 255).astype(np.uint8), weight


def rough(picture: np.ndarray) -> float:
    """Deviation of second differences along rows, which shading leaves at 0; our code measures grain otherwise."""
    return float(np.diff(picture.mean(-1), 2, axis=1).std())


@pytest.mark.parametrize("deviation", [2.0, 5.0, 9.0])
def test_what_is_painted_is_as_rough_as_its_photo(deviation):
    photo, painted, weight = scene(deviation)
    before = painted.copy()
    match_grain(photo, painted, weight)
    inside, beside = painted[105:195, 45:155], photo[5:95, 45:155]
    assert rough(before[105:195, 45:155]) < 0.3 * rough(beside)
    assert 0.8 * rough(beside) < rough(inside) < 1.15 * rough(beside)
    assert abs(inside.mean() - before[105:195, 45:155].mean()) < 0.3
    assert np.array_equal(painted[weight == 0], photo[weight == 0])


def test_a_photo_without_grain_gets_none():
    photo, painted, weight = scene(0)
    before = painted.copy()
    match_grain(photo, painted, weight)
    assert np.array_equal(painted, before)


def test_what_has_grain_already_gets_no_more():
    photo, painted, weight = scene(4)
    own = scene(4, seed=8)[0]
    painted = np.where(weight[..., None] > 0, own, painted)
    match_grain(photo, painted, weight)
    assert rough(painted[105:195, 45:155]) < 1.1 * rough(photo[5:95, 45:155])


@pytest.mark.parametrize("wide", [1.0, 2.0])
def test_detail_of_the_photo_is_no_grain(wide):
    """Fine texture like hair or leaves fills seven tenths of the unpainted area."""
    photo, painted, weight = scene(1.5)
    texture = np.random.default_rng(1).normal(0, 1, (HEIGHT, WIDTH))
    texture = cv2.GaussianBlur(texture, (0, 0), wide)
    rough_part = weight == 0
    rough_part[:60] = False
    assert 0.6 < rough_part.sum() / (weight == 0).sum() < 0.75
    photo[rough_part] = np.clip(110 + 45 * texture[rough_part] / texture.std(), 0, 255)[:, None]
    match_grain(photo, painted, weight)
    assert rough(painted[105:195, 45:155]) < 1.5 * rough(scene(1.5)[0][105:195, 45:155])


@pytest.mark.parametrize("deviation", [20.0, 40.0])
def test_what_is_rougher_than_any_grain_adds_no_more_than_grain(deviation):
    photo, painted, weight = scene(deviation)
    match_grain(photo, painted, weight)
    assert rough(painted[105:195, 45:155]) < 1.2 * rough(scene(MAX_GRAIN)[0][105:195, 45:155])


def test_it_is_the_same_every_time_and_grey():
    photo, painted, weight = scene(5)
    photo[:] = photo.mean(-1, keepdims=True).astype(np.uint8)
    painted[:] = painted.mean(-1, keepdims=True).astype(np.uint8)
    again = painted.copy()
    match_grain(photo, painted, weight)
    match_grain(photo, again, weight)
    assert np.array_equal(painted, again)
    assert (np.ptp(painted, axis=-1) == 0).all()


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_without_a_place_to_look_at_nothing_is_done(share):
    """Everything is painted, or nothing is painted fully."""
    photo, painted, weight = scene(5)
    before = painted.copy()
    match_grain(photo, painted, np.ones_like(weight) if share == 1 else share * weight)
    assert np.array_equal(painted, before)
