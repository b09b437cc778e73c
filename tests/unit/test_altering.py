"""Alterations of pictures in training: drawn once a photo, alike for what belongs together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from bmask.faces.alignment import GREY
from bmask.gan.altering import OUTSIDE, alter, recolour
from bmask.gan.draws import Draws

pytestmark = pytest.mark.usefixtures("one_thread")


def photos(seed: int = 1, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def draws(part: int = 0, parts: int = 1) -> Draws:
    return Draws(3, "test", 7, part, parts)


def test_what_a_discriminator_sees_is_altered_alike_and_its_region_is_moved_but_not_coloured():
    region = torch.zeros(4, 1, 32, 32)
    region[..., 14:24, 8:24] = 1
    whole = torch.cat([photos(), region], 1)
    one, two = alter(whole, whole, draws())
    assert torch.equal(one, two)  # fake and true get the same draws
    assert not torch.allclose(one, whole)
    assert one[:, 3:].min() >= 0
    assert one[:, 3:].max() <= 1
    for moved, still in zip(one, whole, strict=True):
        assert float(moved[3].sum()) == pytest.approx(float(still[3].sum()), rel=0.2)
    parts = [alter(whole[i : i + 2], whole[i : i + 2], draws(i // 2, 2))[0] for i in (0, 2)]
    assert torch.allclose(torch.cat(parts), one, atol=1e-6)


@drawn(strength=st.floats(0, 2), seed=st.integers(0, 99))
def test_recoloured_pictures_stay_in_range_and_keep_the_grey_outside_of_the_photo(strength, seed):
    x = photos(seed)
    x[:, :, :, :5] = OUTSIDE
    (changed,) = recolour((x,), strength, Draws(seed, "test", 0))
    assert changed.abs().max() <= 1
    assert torch.equal(changed[..., :5], x[..., :5])


def test_the_grey_outside_is_that_of_the_squares():
    assert pytest.approx(GREY / 127.5 - 1, abs=1e-6) == OUTSIDE


def test_pictures_of_one_photo_are_recoloured_alike_and_those_of_others_otherwise():
    photo = photos(1, 1).expand(4, -1, -1, -1)
    pasted = photo.clone()
    pasted[:, :, 20:] = 0.3
    one, two = recolour((photo, pasted), 0.4, draws())
    assert torch.equal(one[:, :, :20], two[:, :, :20])
    assert all((one[0] - other).abs().max() > 0.01 for other in one[1:])


def test_gains_gamma_and_saturation_reach_as_far_as_the_strength():
    grey = torch.zeros(2000, 3, 2, 2)  # a light of one half, so that gamma g and gain e make 0.5^g * e of it
    (changed,) = recolour((grey,), 0.3, draws())
    light = (changed + 1) / 2
    mean = light.mean(1)
    ratio = light.amax((1, 2, 3)) / light.amin((1, 2, 3))  # of two channels of one photo
    assert float(ratio.max()) > 1.3
    assert float(torch.quantile(ratio, 0.25)) < 1.12  # many stay nearly as they are
    assert 0.5 ** (2.718**0.3) * 2.718**-0.3 < float(mean.min()) < 0.42
    assert 0.58 < float(mean.max()) < 0.5 ** (2.718**-0.3) * 2.718**0.3


def test_no_strength_changes_nothing():
    assert torch.allclose(recolour((photos(),), 0.0, draws())[0], photos().clamp(min=-0.998), atol=1e-5)


def test_a_batch_in_parts_is_recoloured_as_the_whole_is():
    (whole,) = recolour((photos(),), 0.4, draws())
    parts = [recolour((photos()[i : i + 2],), 0.4, draws(i // 2, 2))[0] for i in (0, 2)]
    assert torch.equal(torch.cat(parts), whole)
