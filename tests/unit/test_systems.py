"""The three systems: which losses they have and how they are weighed, and what the discriminators see."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bmask.data.split.dataset import to_tensor
from bmask.gan.draws import Draws
from bmask.gan.lookup import build_system
from bmask.gan.system import System, judge_both, translate_both
from bmask.gan.translation import Translation
from tiny import SIZE, SYSTEMS, pictures

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWS = Draws(1, "test", 0)  # none of these three draws
ATTENTIVE = ("scheme1", "scheme2")
# fp32 sums in another order: a few units of 6e-8 per layer, of values near 1.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def built(name: str, **changes) -> System:
    """A system with weights so large that every part of the output varies."""
    torch.manual_seed(1)
    system = build_system(dataclasses.replace(SYSTEMS[name], **changes))
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return system


@pytest.fixture
def a() -> Tensor:
    return to_tensor(pictures(3, SIZE, masked=True, seed=0))


@pytest.fixture
def b() -> Tensor:
    return to_tensor(pictures(3, SIZE, masked=False, seed=1))


def plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def mean_abs(one: Tensor, other: Tensor) -> float:
    return float(np.mean([abs(p - q) for p, q in zip(plain(one).flat, plain(other).flat, strict=True)]))


def least_squares(scores: Tensor, target: float) -> float:
    return float(np.mean([(score - target) ** 2 for score in plain(scores).flat]))


def variation(attention: Tensor) -> float:
    planes = plain(attention)
    return float(
        np.abs(planes[:, :, 1:] - planes[:, :, :-1]).mean() + np.abs(planes[..., 1:] - planes[..., :-1]).mean()
    )


class Seen:
    """Records a network's inputs in order and changes nothing."""

    def __init__(self, network: nn.Module):
        self.inputs: list[Tensor] = []
        network.register_forward_pre_hook(lambda _, given: self.inputs.append(given[0].detach().clone()))


# What the generators' losses are.


def expected_losses(system: System, a: Tensor, b: Tensor) -> dict[str, float]:
    """Every loss of the papers, each from a generator pass of its own."""
    to_b, to_a = system.generators["ab"], system.generators["ba"]
    judge_a, judge_b = system.discriminators["a"], system.discriminators["b"]
    fake_b, fake_a = to_b(a), to_a(b)
    losses = {
        "gan_ab": least_squares(judge_b(fake_b.image), 1),
        "gan_ba": least_squares(judge_a(fake_a.image), 1),
        "cycle_a": mean_abs(to_a(fake_b.image).image, a),
        "cycle_b": mean_abs(to_b(fake_a.image).image, b),
        "identity_a": mean_abs(to_a(a).image, a),
        "identity_b": mean_abs(to_b(b).image, b),
    }
    if fake_b.attention is not None:
        pairs = {
            "a": torch.cat([fake_a.attention, fake_a.image], 1),
            "b": torch.cat([fake_b.attention, fake_b.image], 1),
        }
        losses |= {
            "agan_ab": least_squares(system.discriminators["guided_b"](pairs["b"]), 1),
            "agan_ba": least_squares(system.discriminators["guided_a"](pairs["a"]), 1),
            "pixel_ab": mean_abs(fake_b.image, a),
            "pixel_ba": mean_abs(fake_a.image, b),
            "tv_ab": variation(fake_b.attention),
            "tv_ba": variation(fake_a.attention),
        }
    return losses


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_has_exactly_the_losses_of_its_paper_and_each_has_its_value(name, a, b):
    system = built(name)
    with torch.no_grad():
        step, expected = system.generator_losses({"a": a, "b": b}, DRAWS), expected_losses(system, a, b)
    assert set(step.losses) == set(expected)
    for loss, value in expected.items():
        assert step.losses[loss].item() == pytest.approx(value, rel=2e-4, abs=1e-5), loss


@pytest.mark.parametrize("name", ATTENTIVE)
def test_attention_is_measured_in_both_directions(name, a, b):
    system = built(name)
    with torch.no_grad():
        measured = system.generator_losses({"a": a, "b": b}, DRAWS).statistics
        attentions = {
            "ab": plain(system.generators["ab"](a).attention),
            "ba": plain(system.generators["ba"](b).attention),
        }
    assert set(measured) == {f"{what}_{way}" for what in ("attention", "saturated") for way in attentions}
    for way, attention in attentions.items():
        assert measured[f"attention_{way}"].item() == pytest.approx(attention.mean(), abs=1e-5)
        assert measured[f"saturated_{way}"].item() == pytest.approx(
            ((attention < 0.01) | (attention > 0.99)).mean(), abs=0.01
        )


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_discriminators_are_given_the_fakes_of_their_domain(name, a, b):
    system = built(name)
    with torch.no_grad():
        fakes = system.generator_losses({"a": a, "b": b}, DRAWS).fakes
        out = {"b": system.generators["ab"](a), "a": system.generators["ba"](b)}
    assert set(fakes) == {"a", "b"}
    for domain, translated in out.items():
        wanted = translated.image
        if name in ATTENTIVE:
            wanted = torch.cat([translated.attention, translated.image], 1)
        torch.testing.assert_close(fakes[domain], wanted, **CLOSE)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_generator_weight_is_trained_by_the_total(name, a, b):
    system = built(name)
    system.total(system.generator_losses({"a": a, "b": b}, DRAWS).losses, epoch=0).backward()
    for parameter_name, parameter in system.generators.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        if parameter_name.endswith("weight"):
            assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", ATTENTIVE)
def test_the_guided_loss_reaches_the_attention_itself(name, a, b):
    system = built(name)
    attention = system.generators["ab"](a).attention.detach().requires_grad_()
    pair = torch.cat([attention, a], dim=1)
    (system.discriminators["guided_b"](pair) - 1).square().mean().backward()
    assert attention.grad.abs().max() > 0
    step = system.generator_losses({"a": a, "b": b}, DRAWS)
    step.losses["agan_ab"].backward()
    last = system.generators["ab"].attention[-1] if name == "scheme2" else system.generators["ab"].decoder[-1]
    assert last.weight.grad.abs().max() > 0


# Weights.


@given(epoch=st.integers(0, 500), weights=st.tuples(*[st.floats(0, 50)] * 3))
@settings(max_examples=20)
def test_cyclegan_weighs_the_same_in_every_epoch(epoch, weights):
    options = dataclasses.replace(
        SYSTEMS["cyclegan"], **dict(zip(("w_gan", "w_cycle", "w_identity"), weights, strict=True))
    )
    assert tuple(build_system(options).weights(epoch)[key] for key in ("gan", "cycle", "identity")) == weights


def test_the_published_curriculum_is_1_percent_for_10_epochs_and_then_half():
    """AGGAN: (1-r) * (0.5 * GAN + TV) + r * (10 * cycle + pixel)."""
    published = {"w_gan": 0.5, "w_tv": 1.0, "w_cycle": 10.0, "w_pixel": 1.0, "w_identity": 0.0}
    system = build_system(dataclasses.replace(SYSTEMS["scheme1"], **published))
    values = {"gan_ab": 0.3, "gan_ba": 0.7, "agan_ab": 0.11, "agan_ba": 0.13, "tv_ab": 0.2, "tv_ba": 0.05}
    values |= {"cycle_a": 0.6, "cycle_b": 0.4, "pixel_ab": 0.25, "pixel_ba": 0.35}
    adversarial = 0.5 * (0.3 + 0.7 + 0.11 + 0.13) + 0.2 + 0.05
    reconstruction = 10 * (0.6 + 0.4) + 0.25 + 0.35
    for epoch, r in [(0, 0.01), (9, 0.01), (10, 0.5), (199, 0.5)]:
        total = system.total({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}, epoch)
        assert total.item() == pytest.approx((1 - r) * adversarial + r * reconstruction, rel=1e-12)


@given(
    epoch=st.integers(0, 30),
    start=st.floats(0, 1),
    ratio=st.floats(0, 1),
    epochs=st.integers(0, 20),
    weights=st.fixed_dictionaries(
        {key: st.floats(0, 20) for key in ("w_gan", "w_tv", "w_cycle", "w_pixel", "w_identity")}
    ),
)
@settings(max_examples=30)
def test_the_curriculum_shares_one_unit_between_deceiving_and_preserving(epoch, start, ratio, epochs, weights):
    small = dataclasses.replace(SYSTEMS["scheme1"], **weights)
    named = {"curriculum_start": start, "curriculum_ratio": ratio, "curriculum_epochs": epochs}
    r = start if epoch < epochs else ratio
    got = build_system(dataclasses.replace(small, **named)).weights(epoch)
    for key, share in [("gan", 1 - r), ("agan", 1 - r), ("tv", 1 - r), ("cycle", r), ("pixel", r), ("identity", r)]:
        assert got[key] == pytest.approx(share * weights["w_gan" if key == "agan" else f"w_{key}"])
    off = build_system(dataclasses.replace(small, curriculum=False, **named)).weights(epoch)
    assert off["agan"] == off["gan"]
    assert {f"w_{key}": value for key, value in off.items() if key != "agan"} == weights


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_total_is_the_weighted_sum_by_name(name, a, b):
    system = built(name)
    with torch.no_grad():
        losses = system.generator_losses({"a": a, "b": b}, DRAWS).losses
        total = system.total(losses, epoch=3)
    weights = system.weights(3)
    by_hand = 0.0
    for loss, value in losses.items():
        by_hand += weights[loss[: loss.index("_")]] * value.double().item()
    assert total.item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("weight", ["identity", "pixel", "tv"])
def test_a_weight_of_0_leaves_its_loss_out_and_the_others_as_they_were(name, weight, a, b):
    if name == "cyclegan" and weight != "identity":
        pytest.skip("CycleGAN has no such loss")
    with torch.no_grad():
        whole = built(name).generator_losses({"a": a, "b": b}, DRAWS).losses
        system = built(name, **{f"w_{weight}": 0.0})
        rest = system.generator_losses({"a": a, "b": b}, DRAWS).losses
        system.total(rest, 0)
    assert set(whole) - set(rest) == {loss for loss in whole if loss.startswith(f"{weight}_")}
    for loss, value in rest.items():
        torch.testing.assert_close(value, whole[loss], **CLOSE)


def test_without_identity_a_generator_runs_on_no_photo_of_its_own_domain(a, b):
    system = built("scheme2", w_identity=0.0)
    seen = Seen(system.generators["ab"])
    with torch.no_grad():
        system.generator_losses({"a": a, "b": b}, DRAWS)
    assert [len(given) for given in seen.inputs] == [len(a), len(b)]  # the photos, then the cycle


# Guided discriminators.


@pytest.mark.parametrize("name", ATTENTIVE)
def test_unguided_systems_have_plain_discriminators_alone(name, a, b):
    system = built(name, guided=False)
    assert set(system.discriminators) == {"a", "b"}
    with torch.no_grad():
        step = system.generator_losses({"a": a, "b": b}, DRAWS)
        judged = system.discriminator_losses({"a": a, "b": b}, step.fakes, DRAWS)
    assert not any(loss.startswith("agan") for loss in step.losses)
    assert set(judged) == {"d_a", "d_b"}


@pytest.mark.parametrize("name", ATTENTIVE)
def test_the_guided_discriminator_sees_one_attention_in_the_fake_and_in_the_real_pair(name, a, b):
    system = built(name)
    with torch.no_grad():
        fakes = system.generator_losses({"a": a, "b": b}, DRAWS).fakes
    fakes = {domain: pair.roll(1, 0) for domain, pair in fakes.items()}  # as a pool might return them: in another order
    seen = {domain: Seen(system.discriminators[f"guided_{domain}"]) for domain in "ab"}
    with torch.no_grad():
        system.discriminator_losses({"a": a, "b": b}, fakes, DRAWS)
    for domain, photos in (("a", a), ("b", b)):
        (given,) = seen[domain].inputs
        real, fake = given[: len(photos)], given[len(photos) :]
        assert torch.equal(fake, fakes[domain])
        assert torch.equal(real[:, 1:], photos)
        assert torch.equal(real[:, :1], fake[:, :1])


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_discriminators_losses_are_halved_least_squares_of_separate_passes(name, a, b):
    system = built(name)
    with torch.no_grad():
        fakes = system.generator_losses({"a": a, "b": b}, DRAWS).fakes
        judged = system.discriminator_losses({"a": a, "b": b}, fakes, DRAWS)
        expected = {}
        for domain, real in (("a", a), ("b", b)):
            judge, fake = system.discriminators[domain], fakes[domain]
            image = fake[:, 1:] if name in ATTENTIVE else fake
            expected[f"d_{domain}"] = (least_squares(judge(real), 1) + least_squares(judge(image), 0)) / 2
            if name in ATTENTIVE:
                guided = system.discriminators[f"guided_{domain}"]
                pair = torch.cat([fake[:, :1], real], 1)
                expected[f"dguided_{domain}"] = (least_squares(guided(pair), 1) + least_squares(guided(fake), 0)) / 2
    assert set(judged) == set(expected)
    for loss, value in expected.items():
        assert judged[loss].item() == pytest.approx(value, rel=1e-4), loss


# Joined passes.


def gradient(network: nn.Module, loss: Tensor) -> Tensor:
    network.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def same_gradient(one: Tensor, other: Tensor) -> None:
    """Within 1e-5 of the largest: biases before a norm have no gradient except rounding."""
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def some_loss(out: Translation, weights: Tensor) -> Tensor:
    return sum((part.flatten(1)[:, : weights.shape[1]] * weights).sum() for part in out if part is not None)


@pytest.mark.parametrize("name", SYSTEMS)
def test_two_batches_in_one_generator_pass_equal_two_passes_in_values_and_gradients(name, a, b):
    generator = built(name).generators["ab"]
    first, second = a, b[:2]  # of different length
    joined = translate_both(generator, first, second)
    apart = generator(first), generator(second)
    for one, other in zip(joined, apart, strict=True):
        for part, same in zip(one, other, strict=True):
            assert (part is None) == (same is None)
            if part is not None:
                torch.testing.assert_close(part, same, **CLOSE)
    weights = torch.randn(3, SIZE * SIZE)

    def loss(outs) -> Tensor:
        return some_loss(outs[0], weights) + some_loss(outs[1], weights[:2].flip(1))

    same_gradient(gradient(generator, loss(joined)), gradient(generator, loss(apart)))


def test_without_a_second_batch_a_joined_pass_is_one_pass(a):
    generator = built("scheme2").generators["ab"]
    out, nothing = translate_both(generator, a, None)
    assert nothing is None
    assert torch.equal(out.image, generator(a).image)


def test_real_and_fake_in_one_discriminator_pass_equal_two_passes_in_values_and_gradients(a, b):
    discriminator = built("cyclegan").discriminators["a"]
    joined = judge_both(discriminator, a, b[:1])
    apart = discriminator(a), discriminator(b[:1])
    for one, other in zip(joined, apart, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)

    def loss(scores) -> Tensor:
        return (scores[0] - 1).square().mean() + scores[1].square().mean()

    same_gradient(gradient(discriminator, loss(joined)), gradient(discriminator, loss(apart)))


# The contract.


@pytest.mark.parametrize("name", SYSTEMS)
def test_translate_goes_from_a_to_b(name, a):
    system = built(name)
    with torch.no_grad():
        assert torch.equal(system.translate(a).image, system.generators["ab"](a).image)


@pytest.mark.parametrize("name", SYSTEMS)
def test_generators_and_discriminators_share_no_weight_and_are_all_of_the_system(name):
    system = built(name)
    generators, discriminators = set(system.generators.parameters()), set(system.discriminators.parameters())
    assert not generators & discriminators
    assert generators | discriminators == set(system.parameters())


# The teacher beside AttentionGAN's game.


@pytest.mark.parametrize("name", ATTENTIVE)
def test_pasted_masks_teach_picture_and_attention_beside_the_game(name, a, b):
    system = built(name, pasted=1.0)
    assert system.options.needs == {"unpaired": 1.0, "pasted": 1.0}
    region = torch.zeros(3, 1, SIZE, SIZE)
    region[:, :, SIZE // 2 :] = 1
    batch = {"a": a, "b": b, "photo": b, "pasted": torch.where(region > 0, a, b), "region": region}
    named = system.generator_losses(batch, DRAWS).losses
    plain_game = built(name).generator_losses({"a": a, "b": b}, DRAWS).losses
    assert named.keys() - plain_game.keys() == {"reconstruction_l1", "region_pasted"}
    for loss, value in plain_game.items():
        torch.testing.assert_close(named[loss], value, **CLOSE, msg=loss)
    made = system.generators["ab"](batch["pasted"])
    near = torch.zeros_like(region)
    near[:, :, SIZE // 2 - 2 :] = 1
    factor = system.options.region_factor
    expected = ((made.image - b).abs() * (1 + factor * near)).mean()
    torch.testing.assert_close(named["reconstruction_l1"], expected, **CLOSE)
    entropy = nn.functional.binary_cross_entropy(made.attention * (1 - 2e-4) + 1e-4, region)
    torch.testing.assert_close(named["region_pasted"], entropy, **CLOSE)
    weights = system.weights(0)
    assert (weights["reconstruction"], weights["region"]) == (system.options.w_reconstruction, system.options.w_region)
