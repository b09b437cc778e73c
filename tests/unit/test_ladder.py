"""The ladder checks measures against an order that anyone sees."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import write_dataset

from bmask.quality.ladder import KINDS, RUNGS, build, climb
from bmask.quality.soundness import MEASURES


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    dataset = write_dataset(tmp_path_factory.mktemp("ladder") / "set")
    return build(dataset.photos("unmasked", "validation"), 5)


def test_every_rung_changes_the_mask_s_area_and_little_else(ladder):
    assert set(ladder.pictures) == set(KINDS) and np.array_equal(ladder.pictures["photo"], ladder.photos)
    for kind in KINDS[1:]:
        change = np.abs(ladder.pictures[kind].astype(int) - ladder.photos).mean(axis=3)
        assert change[ladder.regions].mean() > 3, kind
        assert change[:, :4].max() == 0 and change[ladder.regions].mean() > 5 * change[~ladder.regions].mean(), kind


def test_masks_of_rising_opacity_lie_on_a_straight_way_from_the_photo(ladder):
    photo, full = ladder.photos.astype(float), ladder.pictures["mask at 100 %"]
    half = ladder.pictures["mask at 50 %"]
    assert np.abs(half - (photo + full) / 2).max() <= 1


def test_one_and_the_same_distorted_face_is_put_on_everybody(ladder):
    shared = ladder.regions[0] & ladder.regions[1]
    first, second = ladder.pictures["distorted"][:2].astype(int)
    assert shared.sum() > 50 and np.abs(first - second)[shared].mean() < 5


def values(order=KINDS, noise=0.0, n=200):
    """A measure that ranks the kinds as `order` does, with noise."""
    rng = np.random.default_rng(0)
    return {kind: order.index(kind) + rng.normal(0, noise + 1e-9, n) for kind in KINDS}


def test_a_measure_that_ranks_all_rungs_climbs():
    found = climb("right", values(), tuple((kind,) for kind in KINDS))
    assert found.passed(0.8) and found.share == 1 and not found.inverted


def test_a_measure_that_turns_two_rungs_round_falls_and_says_which():
    order = list(KINDS)
    order[-1], order[-2] = order[-2], order[-1]
    found = climb("wrong", values(order), RUNGS)
    assert not found.passed(0.8) and ("mask at 75 %", "mask at 100 %") in found.inverted
    assert found.worst == ("mask at 75 %", "mask at 100 %") and found.share == 0
    assert found.passed(0)  # 0 asks for nothing


def test_a_measure_that_is_right_on_average_alone_falls_too():
    found = climb("noisy", values(noise=3.0))
    assert not found.passed(0.8) and found.share < 0.8


def test_a_measure_answers_for_the_rungs_that_it_claims_alone():
    order = ["mask at 25 %", *(kind for kind in KINDS if kind != "mask at 25 %")]
    assert not climb("blind", values(order)).passed(0.8)
    assert climb("blind", values(order), (("photo", "other face"), ("mask at 100 %",))).passed(0.8)


def test_no_measure_claims_an_order_against_the_ladder():
    height = {kind: i for i, rung in enumerate(RUNGS) for kind in rung}
    for measure in MEASURES:
        for above, below in zip(measure.claims, measure.claims[1:], strict=False):
            assert max(height[kind] for kind in above) < min(height[kind] for kind in below), measure.name
