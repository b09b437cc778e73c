"""The area beyond a photo is told from the photo, and no mask is pasted there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmask.data.split.dataset import to_tensor
from bmask.gan.beyond import beyond
from bmask.training.batches import Feed

SIZE = 32


def square(grey: float, flat: float | None = None) -> np.ndarray:
    """A photo in the left half, noise or one value, and grey in the right half."""
    found = np.full((SIZE, SIZE, 3), grey, np.uint8)
    rng = np.random.default_rng(3)
    found[:, : SIZE // 2] = rng.integers(0, 256, (SIZE, SIZE // 2, 3)) if flat is None else flat
    return found


@given(st.integers(90, 165))
def test_grey_beyond_a_photo_is_found_however_bright_it_became(grey):
    found = beyond(to_tensor(square(grey)[None]))[0, 0].numpy()
    assert (found[:, SIZE // 2 :] == 1).all()
    assert (found[:, : SIZE // 2] == 0).all()


@pytest.mark.parametrize("flat", [255, 0, 200])
def test_flat_white_and_black_of_a_photo_are_none(flat):
    found = beyond(to_tensor(square(128, flat)[None]))[0, 0].numpy()
    assert (found[:, : SIZE // 2] == 0).all()


def test_no_mask_is_pasted_beyond_a_photo():
    photos = torch.from_numpy(square(128))[None, None]
    masks = torch.zeros(1, 1, SIZE, SIZE, 4, dtype=torch.uint8)
    masks[..., 0] = masks[..., 3] = 255
    batch = Feed({"pasted": 1.0}, {"b": photos, "masks": masks}, SIZE, 1, 5).at(0)
    outside = beyond(batch["photo"])
    assert 0.4 < outside.mean() < 0.6
    assert torch.equal(batch["region"], 1 - outside)
    assert torch.equal(batch["pasted"] * outside, batch["photo"] * outside)
    assert not torch.equal(batch["pasted"], batch["photo"])
