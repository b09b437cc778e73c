"""Features of faces for a perceptual distance: the first layers of the face detector's network, kept fixed.

CenterFace's backbone is a MobileNetV2 (Sandler et al. 2018) whose norms are folded into its convolutions. A network
that finds faces behind masks and in any light can tell a mouth from a smear. `faces/` names the source of its weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Rows of MobileNetV2's table: expansion, channels, repeats, stride. Later rows are too coarse for a single face.
LAYOUT = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
STEM_CHANNELS = 32
LAST_CHANNELS = 576  # of the next block's expansion; that block is strided


class Bottleneck(nn.Module):
    """An inverted residual block: expand, filter each channel, project; adds its input where the shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int):
        super().__init__()
        hidden = channels_in * expansion
        self.expand = nn.Conv2d(channels_in, hidden, 1) if expansion > 1 else None
        self.filter = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, channels_out, 1)
        self.stride, self.adds = stride, stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its expansion before the activation."""
        wide = x if self.expand is None else self.expand(x)
        out = self.project(F.relu(self.filter(F.relu(wide))))
        return (x + out if self.adds else out), wide


class FaceFeatures(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> features at strides 2, 4, 8 and 16, each (N, C, H/s, W/s), of unit size per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1)
        blocks, width = [], STEM_CHANNELS
        for expansion, channels, repeats, stride in LAYOUT:
            for number in range(repeats):
                blocks.append(Bottleneck(width, channels, expansion, stride if number == 0 else 1))
                width = channels
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Conv2d(width, LAST_CHANNELS, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        # bf16 was faster here on no CPU, even those with bf16 units: most layers filter each channel by itself.
        fast = x.device.type != "cpu" and torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=fast):
            x, found = self.stem((x + 1) * 127.5), []
            for block in self.blocks:
                x, wide = block(x)
                if block.stride == 2:  # its input is the last feature map at the finer scale
                    found.append(wide)
            return [_unit(features) for features in (*found, self.last(x))]


def perceptual_distance(ours: Sequence[Tensor], true: Sequence[Tensor], region: Tensor) -> Tensor:
    """Mean absolute difference of two pictures' features inside a region (N, 1, H, W), summed over the scales."""
    differences = [(p - q).float().abs().mean(1, keepdim=True) for p, q in zip(ours, true, strict=True)]
    return sum(
        ((d * F.interpolate(region, d.shape[-2:], mode="area")).mean() for d in differences),
        torch.zeros((), device=region.device),
    )


def _unit(features: Tensor) -> Tensor:
    return features / (features.float().square().mean(1, keepdim=True).sqrt() + 1e-3).to(features.dtype)
