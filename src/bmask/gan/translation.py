"""What every generator returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Translation(NamedTuple):
    """One batch translated.

    image: (N, 3, H, W) in [-1, 1].
    attention: (N, 1, H, W) in [0, 1], where the generator changed the photo (scheme 2: 1 - background mask), or None.
    contents: (N, n-1, 3, H, W) content masks in [-1, 1], or None.
    attentions: (N, n, 1, H, W) all attention masks of scheme 2, the background last, or None.
    logits: (N, 1, H, W) what the attention was made of, where a loss is of them, or None.
    """

    image: Tensor
    attention: Tensor | None = None
    contents: Tensor | None = None
    attentions: Tensor | None = None
    logits: Tensor | None = None
