"""CycleGAN: two generators held together by cycle consistency (Zhu et al. 2017, arXiv 1703.10593)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bmask.gan import losses
from bmask.gan.blocks import PatchDiscriminator, encoder, head, initialise, up
from bmask.gan.draws import Draws
from bmask.gan.options import SystemOptions, check_patches, check_values
from bmask.gan.system import Batch, GeneratorStep, System, judge_both, translate_both
from bmask.gan.translation import Translation


@dataclass(frozen=True)
class CycleGANOptions(SystemOptions):
    """CycleGAN, Zhu et al. 2017 (arXiv 1703.10593). The defaults are the paper's, except w_cycle, which is 10 there."""

    system: Literal["cyclegan"] = "cyclegan"
    filters: int = 64  # channels after the generator's first convolution
    blocks: int = 9  # residual blocks; the paper takes 6 below 256 px
    discriminator_filters: int = 64
    discriminator_layers: int = 3  # stride-2 convolutions; 3 gives the 70x70 PatchGAN
    w_gan: float = 1.0
    w_cycle: float = 12.0
    w_identity: float = 5.0

    def __post_init__(self) -> None:
        check_values(self, {"filters": 1, "blocks": 0, "discriminator_filters": 1, "discriminator_layers": 1})

    def check_size(self, image_size: int) -> None:
        check_patches(image_size, self.discriminator_layers)


class ResnetGenerator(nn.Module):
    """CycleGAN's generator (11.38 M parameters at 64 filters, 9 blocks): it generates the whole image."""

    def __init__(self, filters: int = 64, blocks: int = 9):
        super().__init__()
        self.encoder = encoder(filters, blocks)
        self.decoder = nn.Sequential(*up(4 * filters), *up(2 * filters), *head(filters, 3))

    def forward(self, x: Tensor) -> Translation:
        return Translation(torch.tanh(self.decoder(self.encoder(x)).float()))


class CycleGAN(System):
    """L = w_gan * GAN + w_cycle * |G_ba(G_ab(a)) - a| + w_identity * |G_ab(b) - b|, and from b to a (eq. 3)."""

    Options = CycleGANOptions

    def build(self, options: CycleGANOptions) -> None:
        for way in ("ab", "ba"):
            self.generators[way] = self.build_generator(options)
        for domain in ("a", "b"):
            network = PatchDiscriminator(3, options.discriminator_filters, options.discriminator_layers)
            self.discriminators[domain] = initialise(network)

    @classmethod
    def build_generator(cls, options: CycleGANOptions) -> nn.Module:
        return initialise(ResnetGenerator(options.filters, options.blocks))

    def generator_losses(self, batch: Batch, draws: Draws) -> GeneratorStep:
        a, b = batch["a"], batch["b"]
        with_identity = self.options.w_identity > 0
        fake_b, same_b = translate_both(self.generators["ab"], a, b if with_identity else None)
        fake_a, same_a = translate_both(self.generators["ba"], b, a if with_identity else None)
        named = {
            "gan_ab": losses.gan_generator(self.discriminators["b"](fake_b.image)),
            "gan_ba": losses.gan_generator(self.discriminators["a"](fake_a.image)),
            "cycle_a": losses.l1(self.generators["ba"](fake_b.image).image, a),
            "cycle_b": losses.l1(self.generators["ab"](fake_a.image).image, b),
        }
        if same_a is not None and same_b is not None:
            named |= {"identity_a": losses.l1(same_a.image, a), "identity_b": losses.l1(same_b.image, b)}
        return GeneratorStep(named, {"a": fake_a.image, "b": fake_b.image}, {})

    def discriminator_losses(self, batch: Batch, fakes: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        return {
            f"d_{domain}": losses.gan_discriminator(*judge_both(self.discriminators[domain], batch[domain], fake))
            for domain, fake in fakes.items()
        }

    def weights(self, epoch: int) -> dict[str, float]:
        o = self.options
        return {"gan": o.w_gan, "cycle": o.w_cycle, "identity": o.w_identity}
