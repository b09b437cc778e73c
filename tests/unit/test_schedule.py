"""The learning rate through time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.training.schedule import rate

SCHEDULES = st.integers(1, 400).flatmap(lambda epochs: st.tuples(st.just(epochs), st.integers(0, epochs)))


@given(SCHEDULES)
def test_the_rate_is_constant_and_then_falls_in_equal_steps_towards_0_at_the_end(schedule):
    epochs, constant = schedule
    rates = [rate(epoch, epochs, constant) for epoch in range(epochs)]
    assert rates[:constant] == [1.0] * constant
    falling = rates[constant:]
    if falling:
        step = 1 / len(falling)
        for i, value in enumerate(falling):
            assert value == pytest.approx(1 - i * step)
        assert falling[-1] == pytest.approx(step)  # so that the next one would be 0


@given(SCHEDULES)
def test_the_rate_never_rises_and_no_epoch_is_wasted_at_0(schedule):
    epochs, constant = schedule
    rates = [rate(epoch, epochs, constant) for epoch in range(epochs)]
    assert all(0 < value <= 1 for value in rates)
    assert rates == sorted(rates, reverse=True)


@given(SCHEDULES, st.integers(1, 400))
def test_while_it_is_constant_the_rate_does_not_depend_on_the_length(schedule, more):
    epochs, constant = schedule
    for epoch in range(constant):
        assert rate(epoch, epochs, constant) == rate(epoch, epochs + more, constant) == 1.0


def test_the_published_schedule():
    """The report: 200 epochs, decay after 100."""
    assert [rate(epoch, 200, 100) for epoch in (0, 99, 100, 150, 199)] == [1, 1, 1, 0.5, 0.01]
