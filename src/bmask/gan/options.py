"""What can be chosen about a translation system: plain frozen dataclasses, so that gan/ needs nothing but torch.

Every loss weight multiplies the loss of the same name in `System.generator_losses`; 0 leaves the loss out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CycleGANOptions:
    """CycleGAN, Zhu et al. 2017 (arXiv 1703.10593); the defaults are that paper's networks and the report's weights."""

    system: Literal["cyclegan"] = "cyclegan"
    filters: int = 64  # channels after the generator's first convolution
    blocks: int = 9  # residual blocks; the paper takes 6 below 256 px
    discriminator_filters: int = 64
    discriminator_layers: int = 3  # stride-2 convolutions; 3 gives the 70x70 PatchGAN
    w_gan: float = 1.0
    w_cycle: float = 12.0
    w_identity: float = 5.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class AttentionGANOptions:
    """AttentionGAN: scheme 1 is AGGAN (arXiv 1903.12296), scheme 2 the two-decoder network (arXiv 1911.11897)."""

    system: Literal["attentiongan"] = "attentiongan"
    scheme: Literal[1, 2] = 2
    filters: int = 64
    blocks: int = 9  # scheme 1 as published: 6
    masks: int = 10  # scheme 2: n attention masks, n-1 of them with a content mask, the last is the background
    background_bias: float = 0.0  # scheme 2: added to the background logit at initialisation; above 0 starts near y = x
    discriminator_filters: int = 64
    discriminator_layers: int = 3
    guided: bool = True  # attention-guided discriminators on [attention, image]
    w_gan: float = 0.5  # multiplies the plain and the attention-guided adversarial loss alike
    w_cycle: float = 10.0
    w_pixel: float = 1.0
    w_tv: float = 0.1  # on the mean absolute difference of neighbouring attention values, so free of size and batch
    w_identity: float = 5.0
    curriculum: bool = True  # (1-r)*(GAN + TV) + r*(cycle + pixel + identity), r small first (AGGAN, section 3.3)
    curriculum_epochs: int = 10
    curriculum_start: float = 0.01
    curriculum_ratio: float = 0.5

    def __post_init__(self) -> None:
        _check(self)
        if self.scheme == 1 and self.filters % 2:
            raise ValueError(f"filters {self.filters} must be even in scheme 1, whose pixel shuffle halves them")


def _check(options: CycleGANOptions | AttentionGANOptions) -> None:
    """Raises ValueError where no network or objective is possible."""
    least = {"filters": 1, "blocks": 0, "masks": 2, "discriminator_filters": 1, "discriminator_layers": 1}
    for name, value in vars(options).items():
        if name in least and value < least[name]:
            raise ValueError(f"{name} {value} is below {least[name]}")
        if name.startswith(("w_", "curriculum_")) and not 0 <= value < math.inf:
            raise ValueError(f"{name} {value} must be finite and not negative")
        if name in ("curriculum_start", "curriculum_ratio") and value > 1:
            raise ValueError(f"{name} {value} is a share, so at most 1")


SystemOptions = CycleGANOptions | AttentionGANOptions
