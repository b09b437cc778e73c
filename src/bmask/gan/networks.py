"""The generators and discriminators, written from the papers' descriptions.

Shapes: images are (N, 3, H, W) in [-1, 1]; H and W are multiples of 4. Parameter counts at the published sizes stand
beside each network and are held by tests.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bmask.gan.options import AttentionGANOptions, CycleGANOptions, SystemOptions
from bmask.gan.translation import Translation


class InstanceNorm(nn.Module):
    """Instance normalisation without affine parameters (Ulyanov et al. 2016); statistics in fp32 under autocast.

    Computed as a group norm of one channel a group: the same equation, several times faster on a CPU, and
    F.instance_norm rounds its statistics to bf16 (as group_norm nearly does on channels_last).
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.contiguous(), x.shape[1]).to(x.dtype)


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), reflect-padded 3x3 convolutions (Johnson et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(*_conv(channels, channels), nn.ReLU(), *_conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _conv(channels_in: int, channels_out: int, kernel: int = 3) -> list[nn.Module]:
    pad = kernel // 2
    return [nn.ReflectionPad2d(pad), nn.Conv2d(channels_in, channels_out, kernel), InstanceNorm()]


def _down(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), InstanceNorm(), nn.ReLU()]


def _up(channels: int) -> list[nn.Module]:
    conv = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
    return [conv, InstanceNorm(), nn.ReLU()]


def _shuffle_up(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Sub-pixel up-sampling by 2 (Shi et al. 2016): `channels_out` counts the channels before the shuffle."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return [conv, nn.PixelShuffle(2), InstanceNorm(), nn.ReLU()]


def _head(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), nn.Conv2d(channels_in, channels_out, 7)]


def _encoder(filters: int, blocks: int) -> nn.Sequential:
    """(N, 3, H, W) -> (N, 4*filters, H/4, W/4)."""
    stem = [*_conv(3, filters, kernel=7), nn.ReLU()]
    middle = [ResidualBlock(4 * filters) for _ in range(blocks)]
    return nn.Sequential(*stem, *_down(filters), *_down(2 * filters), *middle)


class ResnetGenerator(nn.Module):
    """CycleGAN's generator (11.38 M parameters at 64 filters, 9 blocks): the whole image is made anew."""

    def __init__(self, filters: int = 64, blocks: int = 9):
        super().__init__()
        self.encoder = _encoder(filters, blocks)
        self.decoder = nn.Sequential(*_up(4 * filters), *_up(2 * filters), *_head(filters, 3))

    def forward(self, x: Tensor) -> Translation:
        return Translation(torch.tanh(self.decoder(self.encoder(x)).float()))


class AttentionGenerator1(nn.Module):
    """AGGAN's generator, scheme I (7.93 M parameters at 64 filters, 6 blocks): y = C*A + x*(1 - A).

    One network ends in four channels: A = sigmoid of the first, C = tanh of the others (arXiv 1903.12296, eq. 1).
    """

    def __init__(self, filters: int = 64, blocks: int = 6):
        super().__init__()
        self.encoder = _encoder(filters, blocks)
        ups = [*_shuffle_up(4 * filters, 2 * filters), *_shuffle_up(filters // 2, 8 * filters)]
        self.decoder = nn.Sequential(*ups, *_head(2 * filters, 4))

    def forward(self, x: Tensor) -> Translation:
        out = self.decoder(self.encoder(x)).float()
        attention, content = torch.sigmoid(out[:, :1]), torch.tanh(out[:, 1:])
        return Translation(content * attention + x * (1 - attention), attention, content[:, None])


class AttentionGenerator2(nn.Module):
    """AttentionGAN's generator, scheme II (11.82 M parameters at 64 filters, 9 blocks, 10 masks).

    A shared encoder, one decoder for n-1 content masks C_i (tanh) and one for n attention masks A_i (softmax over i);
    y = sum_{i<n} C_i*A_i + x*A_n, where A_n is the background mask (arXiv 1911.11897, eq. 6).
    """

    def __init__(self, filters: int = 64, blocks: int = 9, masks: int = 10, background_bias: float = 0.0):
        super().__init__()
        self.masks, self.background_bias = masks, background_bias
        self.encoder = _encoder(filters, blocks)
        self.content = nn.Sequential(*_up(4 * filters), *_up(2 * filters), *_head(filters, 3 * (masks - 1)))
        self.attention = nn.Sequential(*_up(4 * filters), *_up(2 * filters), nn.Conv2d(filters, masks, 1))

    def forward(self, x: Tensor) -> Translation:
        features = self.encoder(x)
        contents = torch.tanh(self.content(features).float()).unflatten(1, (self.masks - 1, 3))
        attentions = torch.softmax(self.attention(features).float(), dim=1)[:, :, None]
        background = attentions[:, -1]
        image = (contents * attentions[:, :-1]).sum(dim=1) + x * background
        return Translation(image, 1 - background, contents, attentions)


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


def build_generator(options: SystemOptions) -> nn.Module:
    """The generator that the options describe, initialised with N(0, 0.02) from torch's global seed."""
    if isinstance(options, CycleGANOptions):
        generator: nn.Module = ResnetGenerator(options.filters, options.blocks)
    elif options.scheme == 1:
        generator = AttentionGenerator1(options.filters, options.blocks)
    else:
        generator = AttentionGenerator2(options.filters, options.blocks, options.masks, options.background_bias)
    generator = initialise(generator)
    if isinstance(generator, AttentionGenerator2):
        with torch.no_grad():
            generator.attention[-1].bias[-1] = generator.background_bias
    return generator


def build_discriminator(options: SystemOptions, channels: int = 3) -> PatchDiscriminator:
    return initialise(PatchDiscriminator(channels, options.discriminator_filters, options.discriminator_layers))


def initialise(network: nn.Module) -> nn.Module:
    """Weights from N(0, 0.02), biases 0, as all three papers do."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            nn.init.zeros_(module.bias)
    return network


def options_to_dict(options: SystemOptions) -> dict:
    return asdict(options)


def options_from_dict(tree: dict) -> SystemOptions:
    """The inverse of `options_to_dict`. Raises TypeError on unknown keys, ValueError on an unknown system."""
    kinds = {"cyclegan": CycleGANOptions, "attentiongan": AttentionGANOptions}
    if tree.get("system") not in kinds:
        raise ValueError(f"unknown system {tree.get('system')!r}; known are {', '.join(kinds)}")
    return kinds[tree["system"]](**tree)
