"""Each loss against its formula, summed by hand in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import maximum_filter

from bmask.gan import losses

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = hnp.array_shapes(min_dims=4, max_dims=4, min_side=2, max_side=6)


def arrays(low: float, high: float, shape=SHAPES):
    return hnp.arrays(np.float64, shape, elements=st.floats(low, high, allow_subnormal=False))


def number(loss: torch.Tensor) -> float:
    assert loss.shape == ()
    return loss.item()


@given(arrays(-3, 3))
def test_the_generators_side_is_the_mean_square_distance_to_1(scores):
    expected = 0.0
    for score in scores.flat:
        expected += (score - 1) ** 2
    assert number(losses.gan_generator(torch.from_numpy(scores))) == pytest.approx(expected / scores.size)


@given(arrays(-3, 3), arrays(-3, 3))
def test_the_discriminators_side_asks_1_of_real_and_0_of_fake_and_is_halved(real, fake):
    on_real = sum((score - 1) ** 2 for score in real.flat) / real.size
    on_fake = sum(score**2 for score in fake.flat) / fake.size
    loss = losses.gan_discriminator(torch.from_numpy(real), torch.from_numpy(fake))
    assert number(loss) == pytest.approx((on_real + on_fake) / 2)


def test_the_gan_losses_are_least_where_each_side_has_what_it_wants():
    one, zero = torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    assert losses.gan_generator(one) == 0
    assert losses.gan_discriminator(one, zero) == 0
    assert losses.gan_discriminator(zero, one) == 1


@given(st.data(), SHAPES)
def test_l1_is_the_mean_absolute_difference(data, shape):
    one, other = data.draw(arrays(-1, 1, shape)), data.draw(arrays(-1, 1, shape))
    expected = sum(abs(a - b) for a, b in zip(one.flat, other.flat, strict=True)) / one.size
    assert number(losses.l1(torch.from_numpy(one), torch.from_numpy(other))) == pytest.approx(expected, abs=1e-12)


def neighbours(attention: np.ndarray) -> tuple[float, int, float, int]:
    """Sums and counts of |differences| downwards and sideways, pixel by pixel."""
    down = across = 0.0
    n_down = n_across = 0
    n, c, height, width = attention.shape
    for sample in range(n):
        for channel in range(c):
            plane = attention[sample, channel]
            for i in range(height):
                for j in range(width):
                    if i + 1 < height:
                        down, n_down = down + abs(plane[i + 1, j] - plane[i, j]), n_down + 1
                    if j + 1 < width:
                        across, n_across = across + abs(plane[i, j + 1] - plane[i, j]), n_across + 1
    return down, n_down, across, n_across


@given(arrays(0, 1))
def test_total_variation_is_the_mean_difference_of_neighbours_down_and_across(attention):
    down, n_down, across, n_across = neighbours(attention)
    expected = down / n_down + across / n_across
    assert number(losses.total_variation(torch.from_numpy(attention))) == pytest.approx(expected, abs=1e-12)


def test_the_published_total_variation_is_the_stated_weight_on_this_mean():
    attention = np.random.default_rng(0).random((4, 1, 256, 256))
    published = 1e-6 * (np.abs(np.diff(attention, axis=2)).sum() + np.abs(np.diff(attention, axis=3)).sum())
    weight = 4 * 256 * 255 * 1e-6
    assert weight == pytest.approx(0.26, abs=0.005)  # as the docstring says
    assert weight * number(losses.total_variation(torch.from_numpy(attention))) == pytest.approx(published, rel=1e-12)


@given(st.integers(1, 4), st.integers(2, 9))
def test_total_variation_depends_on_neither_batch_nor_size(batch, side):
    stripes = torch.arange(side).remainder(2).double().expand(batch, 1, side, side)
    assert number(losses.total_variation(stripes)) == 1  # all steps across are 1, all steps down 0
    assert number(losses.total_variation(torch.full((batch, 1, side, side), 0.3))) == 0


@given(arrays(0, 1))
def test_attention_statistics_are_the_mean_and_the_share_at_either_end(attention):
    saturated = sum(1 for a in attention.flat if a < 0.01 or a > 0.99)
    found = losses.attention_statistics(torch.from_numpy(attention))
    assert found["attention"].item() == pytest.approx(attention.sum() / attention.size, abs=1e-12)
    assert found["saturated"].item() == pytest.approx(saturated / attention.size, abs=1e-6)


def test_attention_statistics_are_not_part_of_the_gradient():
    attention = torch.rand(1, 1, 4, 4, requires_grad=True)
    assert not any(value.requires_grad for value in losses.attention_statistics(attention).values())


@given(st.integers(0, 9), st.integers(0, 3))
def test_wider_is_the_maximum_over_a_square(seed, reach):
    region = np.random.default_rng(seed).random((2, 1, 9, 7))
    expected = maximum_filter(region, (1, 1, 2 * reach + 1, 2 * reach + 1), mode="constant")
    assert (losses.wider(torch.from_numpy(region), 2 * reach + 1).numpy() == expected).all()


def test_region_losses_are_their_formulas_pixel_by_pixel():
    rng = np.random.default_rng(3)
    output, target = (torch.from_numpy(rng.random((2, 3, 6, 6)) * 2 - 1) for _ in range(2))
    region = torch.from_numpy((rng.random((2, 1, 6, 6)) > 0.8).astype(np.float64))
    near = maximum_filter(region.numpy(), (1, 1, 5, 5), mode="constant")
    weighed = (np.abs(output.numpy() - target.numpy()) * (1 + 3 * near)).mean()
    assert number(losses.region_l1(output, target, region, 3.0)) == pytest.approx(weighed)
    attention = torch.from_numpy(rng.uniform(0.01, 0.99, (2, 1, 6, 6)))
    entropy = -np.where(region.numpy() > 0, np.log(attention.numpy()), np.log(1 - attention.numpy())).mean()
    assert number(losses.region_entropy(attention, region)) == pytest.approx(entropy, rel=1e-3)
    dead = torch.full((1, 1, 2, 2), 1e-9, requires_grad=True)
    losses.region_entropy(dead, torch.ones(1, 1, 2, 2)).backward()
    assert (dead.grad < 0).all()  # the gradient raises the attention
    assert number(losses.region_entropy(region, region)) < 1e-3  # an attention of 0 and 1 gives no infinity
    assert np.isfinite(number(losses.region_entropy(1 - region, region)))


def test_the_difference_in_colour_is_its_formula_and_sees_no_grey():
    ours, true = np.random.default_rng(4).uniform(-1, 1, (2, 2, 3, 4, 5))
    apart = ours - true
    down, across = np.zeros(0), np.zeros(0)
    for photo in apart:
        colours = [channel - photo.sum(0) / 3 for channel in photo]
        down = np.append(down, [c[i + 1, j] - c[i, j] for c in colours for i in range(3) for j in range(5)])
        across = np.append(across, [c[i, j + 1] - c[i, j] for c in colours for i in range(4) for j in range(4)])
    expected = np.abs(down).mean() + np.abs(across).mean()
    assert number(losses.chroma_difference(torch.from_numpy(ours), torch.from_numpy(true))) == pytest.approx(expected)
    grey = torch.from_numpy(true + np.random.default_rng(5).normal(size=(2, 1, 4, 5)))
    assert number(losses.chroma_difference(grey, torch.from_numpy(true))) == pytest.approx(0, abs=1e-12)
