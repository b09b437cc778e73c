"""A batch in parts: less memory, the same gradients. Instance norm never mixes photos, so only rounding may differ."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmask.gan.lookup import build_system
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.options import LoopOptions
from tiny import SIZE, SYSTEMS

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = LoopOptions(
    batch_size=4, image_size=SIZE, device="cpu", precision="fp32", threads=1, pool=3, ema=0.9, lr=1e-3
)


def engine(system: str, world: World = World(), **changes) -> Engine:
    torch.manual_seed(3)
    options = dataclasses.replace(OPTIONS, **changes)
    return Engine(build_system(SYSTEMS[system]), options, torch.device("cpu"), "fp32", world)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_gives_the_losses_and_gradients_of_the_whole(system, parts):
    """To 1e-5, for one step: Adam then makes full-length steps even where a gradient is only rounding."""
    photos = torch.rand(2, 4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(8)) * 2 - 1
    whole, apart = engine(system), engine(system, accumulate_steps=parts)
    batch = dict(zip("ab", photos, strict=True))
    losses, others = whole.step(batch, 0, 0), apart.step(batch, 0, 0)
    assert set(losses) == set(others)
    for name, value in losses.items():
        torch.testing.assert_close(others[name], value, rtol=1e-5, atol=1e-7, msg=name)
    for name, rows in whole.state()["optimizers"].items():
        first = [row["exp_avg"] for row in rows.values()]  # half the gradient
        largest = max(moment.abs().max().item() for moment in first)
        assert largest > 0
        for one, other in zip(first, apart.state()["optimizers"][name].values(), strict=True):
            torch.testing.assert_close(other["exp_avg"], one, rtol=1e-4, atol=1e-5 * largest)


@settings(max_examples=60)
@given(batch=st.integers(1, 24), processes=st.integers(1, 6), accumulate_steps=st.integers(1, 6))
def test_a_batch_is_shared_equally_or_refused_with_the_fields_named(batch, processes, accumulate_steps):
    worlds = [World(rank, processes) for rank in range(processes)]
    if batch % processes:
        with pytest.raises(ValueError, match=f"schedule.batch_size {batch} .* {processes} processes.*multiple of"):
            worlds[0].share(batch)
        return
    rows = [list(range(batch))[world.share(batch)] for world in worlds]
    assert [row for share in rows for row in share] == list(range(batch))
    assert len({len(share) for share in rows}) == 1
    if len(rows[0]) % accumulate_steps:
        with pytest.raises(
            ValueError,
            match=f"schedule.batch_size {batch} .* schedule.accumulate_steps {accumulate_steps} .*multiple of",
        ):
            engine("cyclegan", worlds[-1], batch_size=batch, accumulate_steps=accumulate_steps)
    else:
        assert (
            engine("cyclegan", worlds[-1], batch_size=batch, accumulate_steps=accumulate_steps).parts
            == accumulate_steps
        )
