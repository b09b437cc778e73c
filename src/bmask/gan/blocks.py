"""Building blocks of generators and discriminators, written from the papers' descriptions.

Shapes: images are (N, 3, H, W) in [-1, 1]; H and W are multiples of 4.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

N = TypeVar("N", bound=nn.Module)


class InstanceNorm(nn.Module):
    """Instance normalisation without affine parameters (Ulyanov et al. 2016); statistics in fp32 under autocast.

    Computed as a group norm with one channel per group: the same equation, several times faster on a CPU.
    F.instance_norm rounds its statistics to bf16; group_norm nearly does so on channels_last, hence `contiguous`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.contiguous(), x.shape[1]).to(x.dtype)


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), reflect-padded 3x3 convolutions (Johnson et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(*conv(channels, channels), nn.ReLU(), *conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def conv(channels_in: int, channels_out: int, kernel: int = 3) -> list[nn.Module]:
    pad = kernel // 2
    return [nn.ReflectionPad2d(pad), nn.Conv2d(channels_in, channels_out, kernel), InstanceNorm()]


def down(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), InstanceNorm(), nn.ReLU()]


def up(channels: int) -> list[nn.Module]:
    enlarge = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
    return [enlarge, InstanceNorm(), nn.ReLU()]


def shuffle_up(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Sub-pixel up-sampling by 2 (Shi et al. 2016): `channels_out` counts the channels before the shuffle."""
    deepen = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return [deepen, nn.PixelShuffle(2), InstanceNorm(), nn.ReLU()]


def head(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), nn.Conv2d(channels_in, channels_out, 7)]


def encoder(filters: int, blocks: int) -> nn.Sequential:
    """(N, 3, H, W) -> (N, 4*filters, H/4, W/4)."""
    stem = [*conv(3, filters, kernel=7), nn.ReLU()]
    middle = [ResidualBlock(4 * filters) for _ in range(blocks)]
    return nn.Sequential(*stem, *down(filters), *down(2 * filters), *middle)


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): (N, C, H, W) -> (N, 1, h, w), one raw score per patch.

    Three stride-2 layers give 70x70 patches and 2.76 M parameters at 64 filters. No norm on the first layer.
    """

    def __init__(self, channels: int = 3, filters: int = 64, layers: int = 3):
        super().__init__()
        body: list[nn.Module] = [nn.Conv2d(channels, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = filters
        for layer in range(1, layers + 1):
            wider, stride = min(2 * width, 8 * filters), 2 if layer < layers else 1
            body += [nn.Conv2d(width, wider, 4, stride=stride, padding=1), InstanceNorm(), nn.LeakyReLU(0.2)]
            width = wider
        self.body = nn.Sequential(*body, nn.Conv2d(width, 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).float()


def initialise(network: N) -> N:
    """Weights from N(0, 0.02), biases 0, as in the papers of CycleGAN and AttentionGAN."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
