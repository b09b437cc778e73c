"""The moving average of the generators against its recurrence, number by number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bmask.training.ema import EMA

pytestmark = pytest.mark.usefixtures("one_thread")


def one_number(value: float) -> nn.Module:
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(network.weight, value)
    return network


@given(
    decay=st.sampled_from([0.0, 0.5, 0.9, 0.999]),
    values=st.lists(st.floats(-10, 10), min_size=1, max_size=40),
    start=st.floats(-10, 10),
)
@settings(max_examples=50)
def test_the_average_follows_its_recurrence(decay, values, start):
    network = one_number(start)
    average, by_hand = EMA(network, decay), start
    for t, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        average.update(network, t)
        d = min(decay, (1 + t) / (10 + t))
        by_hand = d * by_hand + (1 - d) * value
    assert average.network.weight.item() == pytest.approx(by_hand, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("decay", [0.999, 0.9999])
def test_the_ramp_forgets_the_random_start(decay):
    """A constant decay of 0.999 would still hold 82 % of the start after 200 updates."""
    network = one_number(1e6)
    average = EMA(network, decay)
    nn.init.constant_(network.weight, 1.0)
    for t in range(200):
        average.update(network, t)
    left = math.prod((1 + t) / (10 + t) for t in range(200))
    assert average.network.weight.item() - 1 == pytest.approx((1e6 - 1) * left, rel=1e-6)
    assert average.network.weight.item() == pytest.approx(1.0, abs=1e-6)


def test_after_the_ramp_the_decay_is_the_stated_one():
    network = one_number(0.0)
    average = EMA(network, 0.9)
    nn.init.constant_(network.weight, 1.0)
    average.update(network, 1000)
    assert average.network.weight.item() == pytest.approx(0.1)


def test_a_decay_of_0_keeps_the_weights_themselves():
    network = nn.Conv2d(3, 4, 3)
    average = EMA(network, 0.0)
    for t in range(3):
        nn.init.normal_(network.weight)
        average.update(network, t)
        assert torch.equal(average.network.weight, network.weight)


def test_buffers_are_copied_not_averaged():
    network = nn.BatchNorm2d(2)
    average = EMA(network, 0.999)
    network(torch.randn(4, 2, 3, 3) + 5)
    average.update(network, 0)
    assert torch.equal(average.network.running_mean, network.running_mean)
    assert average.network.num_batches_tracked.item() == 1


def test_the_average_is_a_network_of_its_own_that_is_never_trained():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(0.5))
    average = EMA(network, 0.5)
    before = average.network[0].weight.clone()
    nn.init.zeros_(network[0].weight)
    assert torch.equal(average.network[0].weight, before)
    assert network.training
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    average.update(network, 0)
    assert average.network[0].weight.grad_fn is None
    assert all(parameter.requires_grad for parameter in network.parameters())
