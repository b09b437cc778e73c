"""CycleGAN: two generators held together by cycle consistency (Zhu et al. 2017, arXiv 1703.10593)."""

from __future__ import annotations

from torch import Tensor, nn

from bmask.gan import losses
from bmask.gan.networks import build_discriminator, build_generator
from bmask.gan.options import CycleGANOptions
from bmask.gan.system import GeneratorStep, System, judge_both, translate_both


class CycleGAN(System):
    """L = w_gan * GAN + w_cycle * |G_ba(G_ab(a)) - a| + w_identity * |G_ab(b) - b|, and from b to a (eq. 3)."""

    def __init__(self, options: CycleGANOptions):
        super().__init__()
        self.options = options
        self.generators = nn.ModuleDict({way: build_generator(options) for way in ("ab", "ba")})
        self.discriminators = nn.ModuleDict({domain: build_discriminator(options) for domain in ("a", "b")})

    def generator_losses(self, a: Tensor, b: Tensor) -> GeneratorStep:
        with_identity = self.options.w_identity > 0
        fake_b, same_b = translate_both(self.generators["ab"], a, b if with_identity else None)
        fake_a, same_a = translate_both(self.generators["ba"], b, a if with_identity else None)
        named = {
            "gan_ab": losses.gan_generator(self.discriminators["b"](fake_b.image)),
            "gan_ba": losses.gan_generator(self.discriminators["a"](fake_a.image)),
            "cycle_a": losses.l1(self.generators["ba"](fake_b.image).image, a),
            "cycle_b": losses.l1(self.generators["ab"](fake_a.image).image, b),
        }
        if with_identity:
            named |= {"identity_a": losses.l1(same_a.image, a), "identity_b": losses.l1(same_b.image, b)}
        return GeneratorStep(named, {"a": fake_a.image, "b": fake_b.image}, {})

    def discriminator_losses(self, a: Tensor, b: Tensor, fakes: dict[str, Tensor]) -> dict[str, Tensor]:
        reals = {"a": a, "b": b}
        return {
            f"d_{domain}": losses.gan_discriminator(*judge_both(self.discriminators[domain], reals[domain], fake))
            for domain, fake in fakes.items()
        }

    def weights(self, epoch: int) -> dict[str, float]:
        o = self.options
        return {"gan": o.w_gan, "cycle": o.w_cycle, "identity": o.w_identity}
