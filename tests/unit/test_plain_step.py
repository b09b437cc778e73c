"""Each optimisation computes what the papers' step computes: one pass for two, fused Adam, group norm, bf16."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from bmask.gan.lookup import build_system
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.options import LoopOptions

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from plain import PlainStep, Switches

SMALL = {"filters": 8, "blocks": 2, "discriminator_filters": 8}
OPTIONS = {
    "cyclegan": CycleGANOptions(**SMALL),
    "cyclegan without identity": CycleGANOptions(**SMALL, w_identity=0.0),
    "scheme 1": AttentionGANOptions(**SMALL, scheme=1, guided=False),
    "scheme 2": AttentionGANOptions(**SMALL, scheme=2, masks=4, guided=False),
}
LR = 1e-3
STEPS = 3


def pictures(seed: int) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 32, 32, generator=draws) * 2 - 1 for _ in "ab"]


def paired(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip("ab", batch, strict=True))


def engine(options, precision: str = "fp32", **changes) -> Engine:
    torch.manual_seed(1)
    chosen = LoopOptions(batch_size=2, lr=LR, pool=0, **changes)
    return Engine(build_system(options), chosen, torch.device("cpu"), precision, World())


# Without AVX-512 the two arrangements sum convolutions by different algorithms, and ReLUs at 0 flip: differences of 9 %
# of the largest gradient and 4 % of a later loss were measured.
NOISE = 1 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 200


@pytest.mark.parametrize("name", OPTIONS)
def test_our_step_gives_the_losses_and_the_weights_of_the_plain_step(name):
    """In fp32 only the order of sums differs, but Adam divides small gradients by themselves."""
    ours, plain = engine(OPTIONS[name]), PlainStep(OPTIONS[name], 1, LR)
    for step in range(STEPS):
        batch = pictures(step)
        losses, expected = ours.step(paired(batch), 0, step), plain.step(*batch)
        for key, value in expected.items():
            torch.testing.assert_close(
                losses[key], value, rtol=1e-3 * NOISE, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
            )
    weights = dict(ours.system.named_parameters())
    for key, value in plain.system.named_parameters():
        difference = (weights[key] - value).abs()
        # Adam can move weights this far apart if their gradient is only noise.
        assert difference.max() <= 2.05 * STEPS * LR, key
        # A bias before a norm has only noise as its gradient.
        assert difference.mean() < 0.1 * LR * min(NOISE, 8) or ".bias" in key, key


@pytest.mark.parametrize("name", OPTIONS)
def test_our_first_step_has_the_plain_gradients(name):
    ours, plain = engine(OPTIONS[name]), PlainStep(OPTIONS[name], 1, LR)
    batch = pictures(0)
    ours.step(paired(batch), 0, 0)
    plain.step(*batch)
    first = dict(zip(ours.system.generators.parameters(), _moments(ours), strict=True))
    named = {key: first[value] for key, value in ours.system.generators.named_parameters()}
    for key, value in plain.generators.named_parameters():
        _assert_close(named[key], plain.optimizer_g.state[value]["exp_avg"])


def _moments(ours: Engine) -> list[torch.Tensor]:
    optimizer = ours.optimizers["generators"]
    return [optimizer.state[p]["exp_avg"] for p in ours.system.generators.parameters()]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("switch", ["group_norm", "joined", "fused"])
def test_each_optimisation_alone_computes_the_plain_step(name, switch):
    other, plain = PlainStep(OPTIONS[name], 1, LR, switches=Switches(**{switch: True})), PlainStep(OPTIONS[name], 1, LR)
    for step in range(2):
        batch = pictures(step)
        losses, expected = other.step(*batch), plain.step(*batch)
        assert losses.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(losses[key], value, rtol=1e-3 * NOISE, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_bf16_gives_the_losses_to_its_three_digits(name):
    ours, plain = engine(OPTIONS[name], "bf16"), PlainStep(OPTIONS[name], 1, LR)
    batch = pictures(0)
    losses, expected = ours.step(paired(batch), 0, 0), plain.step(*batch)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=2e-2, atol=2e-3)


def test_a_batch_in_parts_has_the_gradients_of_the_whole():
    options = dataclasses.replace(OPTIONS["scheme 2"], guided=True)
    whole, split = engine(options), engine(options, accumulate_steps=2)
    batch = pictures(0)
    losses, expected = split.step(paired(batch), 0, 0), whole.step(paired(batch), 0, 0)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-4, atol=1e-6)
    for one, other in zip(_moments(split), _moments(whole), strict=True):
        _assert_close(one, other)


def _assert_close(gradient: torch.Tensor, expected: torch.Tensor) -> None:
    """To a thousandth of the largest; the gradient of a bias before a norm is 0, and only rounding shows."""
    largest = expected.abs().max().item()
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=NOISE * max(1e-3 * largest, 2e-6))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cyclegan", "scheme 2"])
def test_compiled_networks_compute_the_plain_step(name):
    ours, plain = engine(OPTIONS[name], compile=True), PlainStep(OPTIONS[name], 1, LR)
    for step in range(2):
        batch = pictures(step)
        losses, expected = ours.step(paired(batch), 0, step), plain.step(*batch)
        for key, value in expected.items():
            rtol = 1e-3 if step == 0 else 2e-2  # Adam's first step uses only signs, even of tiny gradients
            torch.testing.assert_close(losses[key], value, rtol=rtol, atol=1e-5)
