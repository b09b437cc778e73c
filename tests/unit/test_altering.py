"""What a discriminator sees is altered: one draw per photo, the same for fake and true."""

from __future__ import annotations

import pytest
import torch

from bmask.gan.altering import alter
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
