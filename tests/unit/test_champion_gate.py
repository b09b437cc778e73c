"""The gate: thresholds by lower bounds, then one primary score against the current champion."""

from __future__ import annotations

import numpy as np
import pytest

from bmask.params import sections
from bmask.quality.champion_gate import check_thresholds, decide, pick
from bmask.quality.scores import Scores

REGISTER = sections.Register(max_residue_rate=0.5, max_paste_outside=2.0, primary="kid", confidence=0.9)
EVALUATE = sections.Evaluate(bootstrap=200)


def made(
    left: float = 0.1, outside: float = 0.5, shift: float = 0.3, n: int = 100, unsound: tuple = (), grade=0.05
) -> Scores:
    """`left` and `outside` are met exactly; `shift` moves the features away from the real ones."""
    values = (np.arange(n) % 100 < round(100 * left)).astype(float)
    return Scores(
        names=np.array([f"{i}.png" for i in range(n)]),
        groups=np.array([f"g{i}" for i in range(n)]),
        slices=np.array([""] * n),
        photos={"residue_rate": values, "unmask_rate": 1 - values, "grade": np.full(n, grade)},
        features=np.random.default_rng(0).normal(shift, 1, (n, 4)),
        real=np.random.default_rng(1).normal(0, 1, (n, 4)),
        real_groups=np.array([f"r{i}" for i in range(n)]),
        prefix="judge_",
        unmasked={"paste_outside": np.full(n, outside)},
        unsound=unsound,
    )


def test_the_first_champion_needs_the_thresholds_alone():
    decision = decide(made(shift=5), None, REGISTER, EVALUATE)
    assert decision.promote and "no champion yet" in decision.reasons[-1]


@pytest.mark.parametrize(
    ("weak", "field"), [({"left": 0.45}, "max_residue_rate"), ({"outside": 2.5}, "max_paste_outside")]
)
def test_a_challenger_under_a_threshold_is_never_promoted_however_good_its_primary(weak, field):
    decision = decide(made(**weak, shift=0), made(shift=5), REGISTER, EVALUATE)
    assert not decision.promote
    assert any(f"misses register.{field}" in reason for reason in decision.reasons)


def test_thresholds_look_at_the_upper_end_of_the_interval():
    assert made(left=0.45).photos["residue_rate"].mean() < REGISTER.max_residue_rate
    assert not check_thresholds(made(left=0.45), REGISTER, EVALUATE).promote
    assert check_thresholds(made(left=0.45, n=2000), REGISTER, EVALUATE).promote


def test_a_clearly_better_challenger_is_promoted_and_a_worse_one_is_not():
    near, far = made(shift=0.1), made(shift=0.8)
    assert decide(near, far, REGISTER, EVALUATE).promote
    assert not decide(far, near, REGISTER, EVALUATE).promote


def test_a_challenger_that_is_the_champion_again_is_not_promoted():
    decision = decide(made(), made(), REGISTER, EVALUATE)
    assert not decision.promote and "0.0%" in decision.reasons[-1]


def test_a_champion_that_misses_a_threshold_today_gives_way():
    decision = decide(made(shift=0.8), made(left=0.8, shift=0.1), REGISTER, EVALUATE)
    assert decision.promote and "champion itself misses a threshold" in decision.reasons[-1]


def test_reasons_are_sentences_with_the_numbers():
    decision = decide(made(shift=0.1), made(shift=0.8), REGISTER, EVALUATE)
    assert decision.reasons[0].startswith("The share of photos that still show a mask is 0.100")
    assert "judge_kid is" in decision.reasons[-1] and "90%" in decision.reasons[-1]
    assert all(reason.endswith(".") for reason in decision.reasons)


def test_any_score_of_a_photo_can_be_the_primary():
    register = sections.Register(primary="unmask_rate", max_residue_rate=1)
    assert decide(made(left=0.05), made(left=0.4), register, EVALUATE).promote


def test_the_best_of_those_over_the_thresholds_is_picked():
    candidates = {"far": made(shift=0.8), "near": made(shift=0.1), "nearest_but_weak": made(left=0.7, shift=0)}
    assert pick(candidates, REGISTER, EVALUATE) == "near"
    assert pick({"weak": made(left=0.7)}, REGISTER, EVALUATE) is None
    assert pick({}, REGISTER, EVALUATE) is None


def test_the_gate_stays_shut_when_its_measure_failed_the_ladder():
    """Without a sound residue, a system that leaves every mask and harms nothing outside would be promoted."""
    for left in (0.0, 1.0):
        decision = decide(made(left=left, unsound=("residue_rate",)), None, REGISTER, EVALUATE)
        assert not decision.promote and "failed the ladder" in decision.reasons[0]
    assert pick({"only": made(unsound=("residue_rate",))}, REGISTER, EVALUATE) is None


@pytest.mark.parametrize("nothing", [None, np.full(100, np.nan)])
@pytest.mark.parametrize("name", ["residue_rate", "paste_outside", "grade"])
def test_the_gate_stays_shut_when_nothing_was_measured(name, nothing):
    scores = made()
    own = scores.unmasked if name == "paste_outside" else scores.photos
    own.pop(name)
    if nothing is not None:
        own[name] = nothing
    decision = decide(scores, None, REGISTER, EVALUATE)
    assert not decision.promote and any("it was not measured" in reason for reason in decision.reasons)


def test_a_score_that_was_not_measured_does_not_decide_between_systems():
    blank = {"residue": np.full(100, np.nan)}
    first, second = made(shift=0.1), made(shift=0.8)
    for scores in (first, second):
        scores.photos.update(blank)
    register = sections.Register(max_residue_rate=0.5, primary="residue")
    decision = decide(first, second, register, EVALUATE)
    assert decision.promote and any("residue was not measured on these photos" in reason for reason in decision.reasons)


def test_another_score_decides_where_the_primary_one_failed_the_ladder():
    register = sections.Register(primary="unmask_rate", max_residue_rate=1)
    fewer, nearer = (made(*own, unsound=("unmask_rate", "residue")) for own in ((0.05, 0.5, 0.8), (0.6, 0.5, 0.1)))
    decision = decide(nearer, fewer, register, EVALUATE)
    assert decision.promote and any("judge_kid decides instead" in reason for reason in decision.reasons)
    assert not decide(fewer, nearer, register, EVALUATE).promote
    assert pick({"fewer": fewer, "nearer": nearer}, register, EVALUATE) == "nearer"


def test_one_distorted_face_within_every_mask_is_not_promoted():
    """It leaves no mask and touches nothing else; such a face has a grade of 0.13 to 0.28 on drawn photos."""
    decision = decide(made(left=0.0, outside=0.0, shift=0, grade=0.18), None, REGISTER, EVALUATE)
    assert not decision.promote and any("misses register.max_grade" in reason for reason in decision.reasons)


def test_cutouts_that_a_dataset_has_not_are_named_and_not_asked_for():
    found = check_thresholds(made(), REGISTER, EVALUATE)
    named = [reason for reason in found.reasons if "the masks have no cut-outs" in reason]
    assert found.promote and len(named) == 2
    repaints = made()
    repaints.photos["cutout_area"] = np.full(100, 4.0)
    assert not check_thresholds(repaints, REGISTER, EVALUATE).promote
