"""Translation by a generator, as serving, evaluation and the samples of a training use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmask.gan.device import autocast, pick_precision
from bmask.gan.translation import Translation


@torch.inference_mode()
def translate(generator: nn.Module, x: Tensor, precision: str = "auto") -> Translation:
    """Translates (N, 3, H, W) in [-1, 1] on the device where both are.

    Args:
        precision: `auto` takes bf16 where the device is faster in it; attention masks, content masks and the image
            stay fp32. Serving and scoring use the same precision, so that scores describe what is served.
    """
    with autocast(x.device, pick_precision(precision, x.device)):
        return generator(x)
