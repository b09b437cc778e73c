"""Masks to paste: drawn from a seed, cut out of photos, found by the small network."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from bmask.params.sections import Masks
from bmask.pasting import drawn
from bmask.pasting.cutouts import AREA, clean, lift
from bmask.pasting.drawn import TAUGHT, UNSEEN, draw_masks
from bmask.pasting.train_finder import find, train_finder
from tiny import pictures

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 64


@pytest.mark.parametrize("style", [TAUGHT, UNSEEN], ids=["taught", "unseen"])
def test_a_drawn_mask_depends_on_seed_style_and_number_alone(style):
    masks = draw_masks(6, SIDE, 5, style)
    assert masks.shape == (6, SIDE, SIDE, 4)
    assert masks.dtype == np.uint8
    assert np.array_equal(masks, draw_masks(6, SIDE, 5, style))
    assert np.array_equal(masks[:2], draw_masks(2, SIDE, 5, style))
    assert not any(np.array_equal(one, other) for one, other in zip(masks, draw_masks(6, SIDE, 6, style), strict=True))
    assert not any(np.array_equal(masks[0], other) for other in masks[1:])


@pytest.mark.parametrize("style", [TAUGHT, UNSEEN], ids=["taught", "unseen"])
def test_a_drawn_mask_lies_on_the_lower_face_with_soft_edges(style):
    alpha = draw_masks(40, SIDE, 1, style)[..., 3] / 255
    share = alpha.mean((1, 2))
    assert share.min() > 0.05
    assert share.max() < 0.5
    down = (alpha * np.arange(SIDE)[:, None]).sum((1, 2)) / alpha.sum((1, 2)) / SIDE
    assert down.min() > 0.5
    assert down.max() < 0.85
    assert all((a == 1).any() and (a == 0).any() for a in alpha)
    assert all(((a > 0.05) & (a < 0.95)).mean() > 0.01 for a in alpha)


def test_the_unseen_style_shares_no_outline_and_no_pattern_with_the_taught_one(monkeypatch):
    """It compares the functions that each style calls: else a measure on unseen masks would say nothing."""
    assert TAUGHT.outline != UNSEEN.outline
    assert not set(TAUGHT.patterns) & set(UNSEEN.patterns)
    called: dict[str, set[str]] = {}
    shapes = ("_cornered", "_rounded", "_stripes", "_lattice", "_dots", "_checks", "_blotches")

    def noted(name: str, function):
        def call(*arguments):
            seen.add(name)
            return function(*arguments)

        return call

    for name in shapes:
        monkeypatch.setattr(drawn, name, noted(name, getattr(drawn, name)))
    for style in (TAUGHT, UNSEEN):
        seen = called.setdefault(style.outline, set())
        draw_masks(60, 24, 3, dataclasses.replace(style, patterned=1.0))
    assert set.union(*called.values()) == set(shapes)
    assert not set.intersection(*called.values())


# Cut-outs.


def blob(side: int, x: float, y: float, radius: float) -> np.ndarray:
    """float32 (side, side), a disc of ones; centre and radius as shares of the side."""
    down, across = (np.mgrid[:side, :side] + 0.5) / side
    return (np.hypot(across - x, down - y) < radius).astype(np.float32)


def test_a_cutout_is_the_largest_piece_and_covers_it_with_a_margin():
    found = np.maximum(blob(SIDE, 0.5, 0.6, 0.3), blob(SIDE, 0.1, 0.1, 0.05))
    (cutout,), (usable,) = clean(found[None], SIDE)
    assert usable
    assert cutout.shape == (SIDE, SIDE)
    assert (cutout[blob(SIDE, 0.5, 0.6, 0.3) > 0] == 255).all()
    assert not cutout[: SIDE // 4, : SIDE // 4].any()  # the small piece is dropped
    assert (cutout > 0).mean() < 1.5 * np.pi * 0.3**2


@pytest.mark.parametrize(
    "found",
    [
        np.zeros((SIDE, SIDE), np.float32),
        np.full((SIDE, SIDE), 0.2, np.float32),
        blob(SIDE, 0.5, 0.5, 0.05),
        np.ones((SIDE, SIDE), np.float32),
        np.maximum(blob(SIDE, 0.25, 0.5, 0.2), blob(SIDE, 0.75, 0.5, 0.2)),
    ],
    ids=["nothing", "doubt", "a speck", "everything", "two pieces"],
)
def test_what_cannot_be_a_mask_is_not_used(found):
    assert clean(found[None], SIDE)[1].tolist() == [False]


def test_a_cutout_at_another_size_is_the_same_shape():
    small, large = (clean(blob(side, 0.5, 0.6, 0.25)[None], 96)[0][0] / 255 for side in (48, 96))
    assert np.abs(small - large).mean() < 0.01
    assert AREA[0] < small.mean() < AREA[1]


def test_a_lifted_mask_has_no_colour_from_beyond_the_mask():
    """Green cloth on a red ground: no pixel that is laid on a face contains red, not even a half covered one."""
    cutouts = np.round(255 * cv2.GaussianBlur(blob(SIDE, 0.5, 0.6, 0.25), (0, 0), 2)).astype(np.uint8)[None]
    photo = np.where(cutouts[0][..., None] > 0, np.uint8((0, 200, 0)), np.uint8((255, 0, 0)))
    masks = lift(photo[None], cutouts, 20, 3)
    assert masks.shape == (20, SIDE, SIDE, 4)
    assert masks.dtype == np.uint8
    shown = masks[..., 3] > 8
    assert shown.mean() > 0.1
    assert masks[..., 0][shown].max() <= 12  # not 0: the light is changed
    assert masks[..., 1][shown].min() >= 200 * np.exp(-0.25) - 14


def test_every_photo_lends_as_many_masks_as_any_other():
    """Each photo's cloth has its own hue, which shows in any light."""
    count = 5
    photos = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    for number, photo in enumerate(photos):
        hsv = np.uint8([[[number * 36, 255, 150]]])
        photo[:] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    cutouts = np.repeat(np.uint8(255 * blob(SIDE, 0.5, 0.6, 0.3))[None], count, 0)
    masks = lift(photos, cutouts, 13, 1)
    hues = [
        cv2.cvtColor(m[m[..., 3] == 255][:, :3].mean(0).astype(np.uint8)[None, None], cv2.COLOR_RGB2HSV)[0, 0, 0]
        for m in masks
    ]
    lent = np.bincount([round(int(hue) / 36) % count for hue in hues], minlength=count)
    assert sorted(lent) == [2, 2, 3, 3, 3]
    assert np.array_equal(masks, lift(photos, cutouts, 13, 1))
    assert not np.array_equal(masks, lift(photos, cutouts, 13, 2))


# The finder.


@pytest.fixture(scope="module")
def settings() -> Masks:
    return Masks(count=40, filters=8, steps=80, batch_size=8, lr=0.01, seed=2)


@pytest.fixture(scope="module")
def finder(settings):
    torch.set_num_threads(1)
    photos = np.stack([pictures(30, 36, masked=False, seed=seed) for seed in (0, 1)])
    state = torch.random.get_rng_state()
    made = train_finder(photos, draw_masks(60, 36, 4), 32, settings, torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random state is unchanged
    return made


def test_it_learns_on_drawn_masks_to_find_masks_that_it_has_not_seen(finder):
    """It finds masks of another style on other photos, and little on photos without a mask."""
    bare, masks = pictures(20, 32, masked=False, seed=7), draw_masks(20, 32, 9, UNSEEN)
    alpha = masks[..., 3:] / 255
    masked = np.round(bare * (1 - alpha) + masks[..., :3] * alpha).astype(np.uint8)
    on, off = (find(finder, photos, 32, torch.device("cpu")) for photos in (masked, bare))
    assert on.shape == (20, 32, 32)
    assert on.dtype == np.float32
    assert (on >= 0).all() and (on <= 1).all()
    shared = ((on > 0.5) & (alpha[..., 0] > 0.5)).sum() / ((on > 0.5) | (alpha[..., 0] > 0.5)).sum()
    assert shared > 0.6
    assert (off > 0.5).mean() < 0.15
    assert clean(on, 36)[1].mean() > 0.7


def test_a_photo_and_its_mirror_image_get_mirrored_answers(finder):
    photos = pictures(2, 32, masked=True, seed=8)
    straight, mirrored = (find(finder, p, 32, torch.device("cpu")) for p in (photos, photos[:, :, ::-1].copy()))
    assert np.abs(straight - mirrored[:, :, ::-1]).max() < 1e-5


def test_no_photos_are_no_answers(finder):
    assert find(finder, np.zeros((0, 32, 32, 3), np.uint8), 32, torch.device("cpu")).shape == (0, 32, 32)
