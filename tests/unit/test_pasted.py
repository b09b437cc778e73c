"""Truth under pasted masks: a perfect picture scores perfectly, a wrong one scores worse where it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import write_dataset

from bmask.quality.judge import Judge
from bmask.quality.pasted import measure_cutouts, measure_pasted, paste
from bmask.quality.render import Rendered


@pytest.fixture(scope="module")
def pasted(tmp_path_factory, judge):
    dataset = write_dataset(tmp_path_factory.mktemp("pasted") / "set")
    return paste(judge, np.array(dataset.photos("unmasked", "test")), 7)


@pytest.fixture(scope="module")
def judge():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Judge(4, 32).eval()


def measured(pasted, judge, images, attention=None, bare=None):
    covered = Rendered(pasted.covered, images, attention)
    kept = pasted.photos if bare is None else bare
    return measure_pasted(covered, Rendered(pasted.photos, kept, None), pasted, judge)


def test_the_true_faces_score_perfectly(pasted, judge):
    found = measured(pasted, judge, pasted.photos, pasted.alpha)
    assert (found["paste_distance"] == 0).all() and found["paste_psnr"].min() > 55
    assert found["paste_sharpness"] == pytest.approx(np.ones(14)) and (found["bare_untouched"] == 1).all()
    assert (found["paste_iou"] == 1).all() and found["paste_outside"].max() < 0.1


def test_the_mask_left_on_is_no_change_outside_and_no_truth_inside(pasted, judge):
    found = measured(pasted, judge, pasted.covered)
    assert (found["paste_outside"] == 0).all() and found["paste_psnr"].max() < 25
    assert (found["paste_distance"] > 0).all() and (found["paste_iou"] == 0).all()


def test_a_change_outside_and_of_bare_photos_is_seen(pasted, judge):
    brighter = np.where(pasted.covered < 246, pasted.covered + 10, pasted.covered).astype(np.uint8)
    found = measured(pasted, judge, brighter, bare=255 - pasted.photos)
    assert found["paste_outside"].min() > 5 and found["bare_untouched"].max() < 0.05


def test_blur_is_told_by_sharpness(pasted, judge):
    import cv2

    blurred = np.stack([cv2.GaussianBlur(photo, (0, 0), 1.5) for photo in pasted.photos])
    assert np.median(measured(pasted, judge, blurred)["paste_sharpness"]) < 0.7


def test_masks_of_real_photos_are_pasted_where_cutouts_are_given(tmp_path, judge):
    dataset = write_dataset(tmp_path / "set")
    unmasked, masked = (np.array(dataset.photos(domain, "test")) for domain in ("unmasked", "masked"))
    regions = np.array(dataset.truth("test")[1])
    drawn, mixed = paste(judge, unmasked, 7), paste(judge, unmasked, 7, masked, regions)
    assert np.array_equal(drawn.covered[::2], mixed.covered[::2])
    assert (drawn.covered[1::2] != mixed.covered[1::2]).any(axis=(1, 2, 3)).all()
    assert np.array_equal(drawn.covered, paste(judge, unmasked, 7, masked, np.zeros_like(regions)).covered)


def test_attention_that_widens_on_real_masks_is_found():
    photos = np.full((3, 40, 40, 3), 100, np.uint8)
    cutouts = np.zeros((3, 40, 40), np.uint8)
    cutouts[:2, 20:32, 10:30] = 255  # the third photo has no cut-out
    wide = np.zeros((3, 40, 40), np.float32)
    wide[:, 4:40] = 1
    whole = measure_cutouts(
        Rendered(photos, np.where(wide[..., None] > 0, 140, photos).astype(np.uint8), wide), cutouts
    )
    assert whole["cutout_area"][:2] == pytest.approx(6.0) and whole["cutout_outside"][0] > 25
    exact = (cutouts > 127).astype(np.float32)
    right = measure_cutouts(
        Rendered(photos, np.where(exact[..., None] > 0, 140, photos).astype(np.uint8), exact), cutouts
    )
    assert right["cutout_area"][:2] == pytest.approx(1) and right["cutout_iou"][:2] == pytest.approx(1)
    assert right["cutout_outside"][0] == 0 and np.isnan(right["cutout_area"][2])
    without = Rendered(photos, np.full_like(photos, 101), None)  # no attention: what changed counts as attended
    assert measure_cutouts(without, cutouts)["cutout_area"][0] == pytest.approx(1600 / 240)
