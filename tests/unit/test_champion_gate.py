"""The gate: thresholds by lower bounds, then one primary score against the champion of today."""

from __future__ import annotations

import numpy as np
import pytest

from bmask.params import sections
from bmask.quality.champion_gate import check_thresholds, decide, pick
from bmask.quality.scores import Scores

REGISTER = sections.Register(min_unmask_rate=0.5, min_upper_ssim=0.8, primary="kid", confidence=0.9)
EVALUATE = sections.Evaluate(bootstrap=200)


def made(rate: float = 0.9, ssim: float = 0.95, shift: float = 0.3, n: int = 100) -> Scores:
    """The rate and SSIM are exact; the shift moves the features away from the real ones."""
    values = (np.arange(n) % 100 < round(100 * rate)).astype(float)
    return Scores(
        names=np.array([f"{i}.png" for i in range(n)]),
        groups=np.array([f"g{i}" for i in range(n)]),
        slices=np.array([""] * n),
        photos={"unmask_rate": values, "upper_ssim": np.full(n, ssim)},
        features=np.random.default_rng(0).normal(shift, 1, (n, 4)),
        real=np.random.default_rng(1).normal(0, 1, (n, 4)),
        real_groups=np.array([f"r{i}" for i in range(n)]),
        prefix="judge_",
    )


def test_the_first_champion_needs_the_thresholds_alone():
    decision = decide(made(shift=5), None, REGISTER, EVALUATE)
    assert decision.promote and "no champion yet" in decision.reasons[-1]


@pytest.mark.parametrize(("weak", "field"), [({"rate": 0.55}, "min_unmask_rate"), ({"ssim": 0.7}, "min_upper_ssim")])
def test_a_challenger_under_a_threshold_is_never_promoted_however_good_its_primary(weak, field):
    decision = decide(made(**weak, shift=0), made(shift=5), REGISTER, EVALUATE)
    assert not decision.promote
    assert any(f"misses register.{field}" in reason for reason in decision.reasons)


def test_thresholds_look_at_the_lower_end_of_the_interval():
    assert made(rate=0.55).photos["unmask_rate"].mean() > REGISTER.min_unmask_rate
    assert not check_thresholds(made(rate=0.55), REGISTER, EVALUATE).promote
    assert check_thresholds(made(rate=0.55, n=2000), REGISTER, EVALUATE).promote


def test_a_clearly_better_challenger_is_promoted_and_a_worse_one_is_not():
    near, far = made(shift=0.1), made(shift=0.8)
    assert decide(near, far, REGISTER, EVALUATE).promote
    assert not decide(far, near, REGISTER, EVALUATE).promote


def test_a_challenger_that_is_the_champion_again_is_not_promoted():
    decision = decide(made(), made(), REGISTER, EVALUATE)
    assert not decision.promote and "0.0%" in decision.reasons[-1]


def test_a_champion_that_misses_a_threshold_today_gives_way():
    decision = decide(made(shift=0.8), made(rate=0.2, shift=0.1), REGISTER, EVALUATE)
    assert decision.promote and "champion itself misses a threshold" in decision.reasons[-1]


def test_reasons_are_sentences_with_the_numbers():
    decision = decide(made(shift=0.1), made(shift=0.8), REGISTER, EVALUATE)
    assert decision.reasons[0].startswith("The unmask rate is 0.900")
    assert "judge_kid is" in decision.reasons[-1] and "90%" in decision.reasons[-1]
    assert all(reason.endswith(".") for reason in decision.reasons)


def test_any_score_of_a_photo_can_be_the_primary():
    register = sections.Register(primary="unmask_rate", min_unmask_rate=0)
    assert decide(made(rate=0.95), made(rate=0.6), register, EVALUATE).promote


def test_the_best_of_those_over_the_thresholds_is_picked():
    candidates = {"far": made(shift=0.8), "near": made(shift=0.1), "nearest_but_weak": made(rate=0.3, shift=0)}
    assert pick(candidates, REGISTER, EVALUATE) == "near"
    assert pick({"weak": made(rate=0.3)}, REGISTER, EVALUATE) is None
    assert pick({}, REGISTER, EVALUATE) is None
