"""A generator at work: what serving, evaluation and the samples of a training share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmask.gan.device import autocast, pick_precision
from bmask.gan.translation import Translation


@torch.inference_mode()
def translate(generator: nn.Module, x: Tensor, precision: str = "auto") -> Translation:
    """Translates (N, 3, H, W) in [-1, 1] on the device where both are.

    Args:
        precision: `auto` takes bf16 where the device is faster in it; attention and content masks and what is made of
            them stay fp32. Serving and scoring take the same, so that a score is of what is served.
    """
    with autocast(x.device, pick_precision(precision, x.device)):
        return generator(x)
