"""The image pool against a second implementation of the same description."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bmask.gan.draws import generator_for
from bmask.training.pool import ImagePool

pytestmark = pytest.mark.usefixtures("one_thread")


def fakes(count: int, step: int, channels: int = 3) -> Tensor:
    """Numbered images: all pixels of image i of a step are step * 100 + i."""
    return (torch.arange(count).float() + 100 * step)[:, None, None, None].expand(count, channels, 2, 2).clone()


def numbers(images: Tensor | None) -> list[float]:
    if images is None:
        return []
    assert all((image == image.flatten()[0]).all() for image in images)
    return [image.flatten()[0].item() for image in images]


class NaivePool:
    """Shrivastava et al., section 2.3, as CycleGAN has it: a plain list."""

    def __init__(self, size: int, seed: int, domain: str):
        self.size, self.seed, self.domain, self.held = size, seed, domain, []

    def swap(self, images: list[float], step: int) -> list[float]:
        draws = generator_for(self.seed, f"pool {self.domain}", step)
        out = []
        for image in images:
            if len(self.held) < self.size:
                self.held.append(image)
                out.append(image)
            elif torch.rand(1, generator=draws).item() < 0.5:
                slot = int(torch.randint(self.size, (1,), generator=draws))
                out.append(self.held[slot])
                self.held[slot] = image
            else:
                out.append(image)
        return out


@given(size=st.integers(1, 6), counts=st.lists(st.integers(1, 5), min_size=1, max_size=12), seed=st.integers(0, 50))
@settings(max_examples=50)
def test_a_pool_does_what_the_naive_one_does_with_the_same_draws(size, counts, seed):
    pool, naive = ImagePool(size, seed, "a"), NaivePool(size, seed, "a")
    for step, count in enumerate(counts):
        new = fakes(count, step)
        assert numbers(pool.swap(new, step)) == naive.swap(numbers(new), step)
        assert numbers(pool.kept) == naive.held


@given(size=st.integers(0, 6), counts=st.lists(st.integers(1, 5), min_size=1, max_size=12))
@settings(max_examples=50)
def test_no_image_is_lost_or_doubled(size, counts):
    pool, came, left = ImagePool(size, 3, "b"), [], []
    for step, count in enumerate(counts):
        new = fakes(count, step)
        out = pool.swap(new, step)
        assert out.shape == new.shape
        came += numbers(new)
        left += numbers(out)
        # Images that filled the pool were shown and kept; every later image is in exactly one place.
        assert Counter(left) + Counter(numbers(pool.kept)) == Counter(came) + Counter(came[:size])


def test_the_pool_gives_every_image_straight_back_until_it_is_full():
    pool = ImagePool(7, 1, "a")
    for step, count in enumerate((2, 3, 2)):
        assert numbers(pool.swap(fakes(count, step), step)) == numbers(fakes(count, step))
    assert numbers(pool.kept) == [0, 1, 100, 101, 102, 200, 201]


def test_once_full_half_of_the_images_are_swapped_for_older_ones_from_every_slot():
    size, steps, batch = 10, 400, 5
    pool = ImagePool(size, 4, "a")
    pool.swap(fakes(size, 0), 0)
    swapped, slots = 0, Counter()
    for step in range(1, steps + 1):
        before = numbers(pool.kept)
        new = fakes(batch, step)
        swapped += sum(one != other for one, other in zip(numbers(pool.swap(new, step)), numbers(new), strict=True))
        slots.update(i for i, (one, other) in enumerate(zip(before, numbers(pool.kept), strict=True)) if one != other)
    share = swapped / (steps * batch)
    assert share == pytest.approx(0.5, abs=4 * (0.25 / (steps * batch)) ** 0.5 + 0.005)
    assert len(slots) == size
    assert max(slots.values()) < 1.5 * min(slots.values())


def test_a_pool_of_size_0_gives_what_it_is_given_and_keeps_nothing():
    pool = ImagePool(0, 1, "a")
    assert torch.equal(pool.swap(fakes(4, 1), 1), fakes(4, 1))
    assert pool.kept is None


@pytest.mark.parametrize("size", [0, 3, 50])
def test_what_comes_out_carries_no_gradient_and_shares_no_memory(size):
    pool = ImagePool(size, 1, "a")
    for step in range(6):
        weight = torch.ones(1, requires_grad=True)
        new = fakes(3, step) * weight
        out = pool.swap(new, step)
        assert not out.requires_grad
        assert pool.kept is None or not pool.kept.requires_grad
        held = numbers(pool.kept)
        expected = numbers(out)
        new.data.fill_(-1)  # the generator may reuse its memory
        assert numbers(out) == expected
        out.fill_(-2)  # what a discriminator might do
        assert numbers(pool.kept) == held


def test_an_old_image_comes_back_with_its_own_attention():
    """Entries of a guided pool are [attention, image]; here attention i belongs to image 10 * i."""
    pool, pairs_seen = ImagePool(4, 2, "a"), 0
    for step in range(40):
        images = fakes(3, step)
        pairs = torch.cat([images[:, :1] / 10, images], dim=1)
        out = pool.swap(pairs, step)
        assert torch.equal(out[:, :1] * 10, out[:, 1:2])
        pairs_seen += int((out[:, 1, 0, 0] < 100 * step).sum())
    assert pairs_seen > 20  # many came back old


def test_draws_depend_on_the_step_the_seed_and_the_domain_and_on_nothing_else():
    def course(seed: int = 1, domain: str = "a", first: int = 0) -> list[float]:
        pool = ImagePool(3, seed, domain)
        return [n for step in range(30) for n in numbers(pool.swap(fakes(2, step), step + first))]

    torch.manual_seed(1)
    one = course()
    torch.manual_seed(2)
    assert course() == one
    assert course(seed=2) != one
    assert course(domain="b") != one
    assert course(first=7) != one


def test_a_pool_goes_on_from_what_another_one_kept():
    whole, first = ImagePool(3, 1, "a"), ImagePool(3, 1, "a")
    for step in range(10):
        whole.swap(fakes(2, step), step)
        first.swap(fakes(2, step), step)
    second = ImagePool(3, 1, "a")
    second.kept = first.kept.clone()
    for step in range(10, 20):
        assert torch.equal(second.swap(fakes(2, step), step), whole.swap(fakes(2, step), step))
