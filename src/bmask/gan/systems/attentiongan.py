"""AttentionGAN, both schemes: the generator also says where it changes the photo.

Scheme 1 is AGGAN (arXiv 1903.12296): one attention and one content mask. Scheme 2 (arXiv 1911.11897): n attention and
n-1 content masks from two decoders. Both here have the attention-guided discriminators of the first paper, its total
variation and its pixel loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmask.gan import losses
from bmask.gan.networks import build_discriminator, build_generator
from bmask.gan.options import AttentionGANOptions
from bmask.gan.system import GeneratorStep, System, judge_both, translate_both
from bmask.gan.translation import Translation


class AttentionGAN(System):
    """L = w_cycle*cycle + w_pixel*pixel + w_gan*(GAN + AGAN) + w_tv*TV + w_identity*identity.

    The guided discriminator of a domain judges pairs [attention, image], (N, 4, H, W); the same attention stands in
    the fake pair [A, G(x)] and in the real pair [A, y] (AGGAN, eq. 5).
    """

    def __init__(self, options: AttentionGANOptions):
        super().__init__()
        self.options = options
        self.generators = nn.ModuleDict({way: build_generator(options) for way in ("ab", "ba")})
        self.discriminators = nn.ModuleDict({domain: build_discriminator(options) for domain in ("a", "b")})
        if options.guided:
            guided = {f"guided_{domain}": build_discriminator(options, channels=4) for domain in ("a", "b")}
            self.discriminators.update(guided)

    def generator_losses(self, a: Tensor, b: Tensor) -> GeneratorStep:
        o = self.options
        with_identity = o.w_identity > 0
        fake_b, same_b = translate_both(self.generators["ab"], a, b if with_identity else None)
        fake_a, same_a = translate_both(self.generators["ba"], b, a if with_identity else None)
        pairs = {"a": _pair(fake_a), "b": _pair(fake_b)}
        named = {
            "gan_ab": losses.gan_generator(self.discriminators["b"](fake_b.image)),
            "gan_ba": losses.gan_generator(self.discriminators["a"](fake_a.image)),
            "cycle_a": losses.l1(self.generators["ba"](fake_b.image).image, a),
            "cycle_b": losses.l1(self.generators["ab"](fake_a.image).image, b),
        }
        if o.guided:
            named["agan_ab"] = losses.gan_generator(self.discriminators["guided_b"](pairs["b"]))
            named["agan_ba"] = losses.gan_generator(self.discriminators["guided_a"](pairs["a"]))
        if o.w_pixel > 0:
            named |= {"pixel_ab": losses.l1(fake_b.image, a), "pixel_ba": losses.l1(fake_a.image, b)}
        if o.w_tv > 0:
            named["tv_ab"] = losses.total_variation(fake_b.attention)
            named["tv_ba"] = losses.total_variation(fake_a.attention)
        if with_identity:
            named |= {"identity_a": losses.l1(same_a.image, a), "identity_b": losses.l1(same_b.image, b)}
        measured = {
            f"{name}_{way}": value
            for way, fake in (("ab", fake_b), ("ba", fake_a))
            for name, value in losses.attention_statistics(fake.attention).items()
        }
        return GeneratorStep(named, pairs, measured)

    def discriminator_losses(self, a: Tensor, b: Tensor, fakes: dict[str, Tensor]) -> dict[str, Tensor]:
        named = {}
        for domain, real in (("a", a), ("b", b)):
            pair = fakes[domain]
            scores = judge_both(self.discriminators[domain], real, pair[:, 1:])
            named[f"d_{domain}"] = losses.gan_discriminator(*scores)
            if self.options.guided:
                real_pair = torch.cat([pair[:, :1], real], dim=1)
                scores = judge_both(self.discriminators[f"guided_{domain}"], real_pair, pair)
                named[f"dguided_{domain}"] = losses.gan_discriminator(*scores)
        return named

    def weights(self, epoch: int) -> dict[str, float]:
        """With the curriculum, (1-r)*(GAN + AGAN + TV) + r*(cycle + pixel + identity), r small in the first epochs."""
        o = self.options
        adversarial = reconstruction = 1.0
        if o.curriculum:
            reconstruction = o.curriculum_start if epoch < o.curriculum_epochs else o.curriculum_ratio
            adversarial = 1 - reconstruction
        return {
            "gan": adversarial * o.w_gan,
            "agan": adversarial * o.w_gan,
            "tv": adversarial * o.w_tv,
            "cycle": reconstruction * o.w_cycle,
            "pixel": reconstruction * o.w_pixel,
            "identity": reconstruction * o.w_identity,
        }


def _pair(fake: Translation) -> Tensor:
    """[attention, image] as (N, 4, H, W): what the image pool holds and the guided discriminator judges."""
    return torch.cat([fake.attention, fake.image], dim=1)
