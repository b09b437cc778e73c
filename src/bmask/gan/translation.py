"""What every generator returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Translation(NamedTuple):
    """One batch translated.

    image: (N, 3, H, W) in [-1, 1].
    attention: (N, 1, H, W) in [0, 1], where the generator changed the photo (scheme 2: 1 - background mask), or None.
    logits: (N, 1, H, W) the attention before its activation, where a loss uses it, or None.
    """

    image: Tensor
    attention: Tensor | None = None
    logits: Tensor | None = None
