"""AttentionGAN, both schemes: the generator also outputs where it changes the photo.

Scheme 1 is AGGAN (arXiv 1903.12296): one attention and one content mask. Scheme 2 (arXiv 1911.11897): n attention and
n-1 content masks from two decoders. Both use the attention-guided discriminators, the total variation and the pixel
loss of the first paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bmask.gan import losses
from bmask.gan.blocks import PatchDiscriminator, encoder, head, initialise, shuffle_up, up
from bmask.gan.draws import Draws
from bmask.gan.options import SystemOptions, check_patches, check_values
from bmask.gan.system import Batch, GeneratorStep, System, judge_both, translate_both
from bmask.gan.translation import Translation


@dataclass(frozen=True)
class AttentionGANOptions(SystemOptions):
    """AttentionGAN: scheme 1 is AGGAN (arXiv 1903.12296), scheme 2 the two-decoder network (arXiv 1911.11897)."""

    system: Literal["attentiongan"] = "attentiongan"
    scheme: Literal[1, 2] = 2
    filters: int = 64
    blocks: int = 9  # 6 in the paper of scheme 1
    masks: int = 10  # scheme 2: n attention masks, n-1 of them with a content mask, the last is the background
    background_bias: float = 0.0  # scheme 2: initial bias of the background logit; above 0, training starts near y = x
    discriminator_filters: int = 64
    discriminator_layers: int = 3
    guided: bool = True  # attention-guided discriminators on [attention, image]
    w_gan: float = 0.5  # of the plain and of the attention-guided adversarial loss
    w_cycle: float = 10.0
    w_pixel: float = 1.0
    w_tv: float = 0.1  # of the mean absolute difference of neighbouring attention values, at any image and batch size
    w_identity: float = 5.0
    pasted: float = 0.0  # photos with a pasted mask per photo of the batch, for additional, supervised losses
    region_factor: float = 2.0  # L1 weight in the region of the pasted mask, dilated by 2 px: 1 + this; elsewhere 1
    w_reconstruction: float = 1.0  # L1 with the photo without the pasted mask
    w_region: float = 0.3  # cross entropy of the attention with the region of the pasted mask
    curriculum: bool = True  # (1-r)*(GAN + TV) + r*(cycle + pixel + identity), small r first (AGGAN, section 3.3)
    curriculum_epochs: int = 10
    curriculum_start: float = 0.01
    curriculum_ratio: float = 0.5

    def __post_init__(self) -> None:
        least = {"filters": 1, "blocks": 0, "masks": 2, "discriminator_filters": 1, "discriminator_layers": 1}
        check_values(self, least | {"curriculum_epochs": 0}, shares=("pasted", "curriculum_start", "curriculum_ratio"))
        if self.scheme == 1 and self.filters % 2:
            raise ValueError(f"filters {self.filters} must be even in scheme 1, whose pixel shuffle halves them")

    @property
    def needs(self) -> dict[str, float]:
        return {"unpaired": 1.0} | ({"pasted": self.pasted} if self.pasted else {})

    def check_size(self, image_size: int) -> None:
        check_patches(image_size, self.discriminator_layers)


class AttentionGenerator1(nn.Module):
    """AGGAN's generator, scheme I (7.93 M parameters at 64 filters, 6 blocks): y = C*A + x*(1 - A).

    One network ends in four channels: A = sigmoid of the first, C = tanh of the others (arXiv 1903.12296, eq. 1).
    """

    def __init__(self, filters: int = 64, blocks: int = 6):
        super().__init__()
        self.encoder = encoder(filters, blocks)
        ups = [*shuffle_up(4 * filters, 2 * filters), *shuffle_up(filters // 2, 8 * filters)]
        self.decoder = nn.Sequential(*ups, *head(2 * filters, 4))

    def masks_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The content mask C (N, 3, H, W) in [-1, 1] and the attention mask A (N, 1, H, W) in [0, 1]."""
        out = self.decoder(self.encoder(x)).float()
        return torch.tanh(out[:, 1:]), torch.sigmoid(out[:, :1])

    def forward(self, x: Tensor) -> Translation:
        content, attention = self.masks_of(x)
        return Translation(content * attention + x * (1 - attention), attention)


class AttentionGenerator2(nn.Module):
    """AttentionGAN's generator, scheme II (11.82 M parameters at 64 filters, 9 blocks, 10 masks).

    A shared encoder, one decoder for n-1 content masks C_i (tanh) and one for n attention masks A_i (softmax over i);
    y = sum_{i<n} C_i*A_i + x*A_n, where A_n is the background mask (arXiv 1911.11897, eq. 6).
    """

    def __init__(self, filters: int = 64, blocks: int = 9, masks: int = 10):
        super().__init__()
        self.encoder = encoder(filters, blocks)
        self.content = nn.Sequential(*up(4 * filters), *up(2 * filters), *head(filters, 3 * (masks - 1)))
        self.attention = nn.Sequential(*up(4 * filters), *up(2 * filters), nn.Conv2d(filters, masks, 1))

    def masks_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Content masks C (N, n-1, 3, H, W) in [-1, 1], attention masks A (N, n, 1, H, W) in [0, 1] that sum to 1."""
        features = self.encoder(x)
        contents = torch.tanh(self.content(features).float()).unflatten(1, (-1, 3))
        return contents, torch.softmax(self.attention(features).float(), dim=1)[:, :, None]

    def forward(self, x: Tensor) -> Translation:
        contents, attentions = self.masks_of(x)
        background = attentions[:, -1]
        image = (contents * attentions[:, :-1]).sum(dim=1) + x * background
        return Translation(image, 1 - background)


class AttentionGAN(System):
    """L = w_cycle*cycle + w_pixel*pixel + w_gan*(GAN + AGAN) + w_tv*TV + w_identity*identity.

    With `pasted`, also w_reconstruction*L1 + w_region*BCE of the attention, on photos with pasted masks.

    The guided discriminator of a domain judges pairs [attention, image], (N, 4, H, W). The fake pair [A, G(x)] and
    the real pair [A, y] have the same attention (AGGAN, eq. 5).
    """

    Options = AttentionGANOptions

    def build(self, options: AttentionGANOptions) -> None:
        for way in ("ab", "ba"):
            self.generators[way] = self.build_generator(options)
        for name, channels in {"a": 3, "b": 3, **({"guided_a": 4, "guided_b": 4} if options.guided else {})}.items():
            network = PatchDiscriminator(channels, options.discriminator_filters, options.discriminator_layers)
            self.discriminators[name] = initialise(network)

    @classmethod
    def build_generator(cls, options: AttentionGANOptions) -> nn.Module:
        if options.scheme == 1:
            return initialise(AttentionGenerator1(options.filters, options.blocks))
        generator = initialise(AttentionGenerator2(options.filters, options.blocks, options.masks))
        with torch.no_grad():
            generator.attention[-1].get_parameter("bias")[-1] = options.background_bias
        return generator

    def generator_losses(self, batch: Batch, draws: Draws) -> GeneratorStep:
        o, a, b = self.options, batch["a"], batch["b"]
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
            named["tv_ab"] = losses.total_variation(_attention(fake_b))
            named["tv_ba"] = losses.total_variation(_attention(fake_a))
        if same_a is not None and same_b is not None:
            named |= {"identity_a": losses.l1(same_a.image, a), "identity_b": losses.l1(same_b.image, b)}
        if o.pasted:
            restored, photo, region = self.generators["ab"](batch["pasted"]), batch["photo"], batch["region"]
            named["reconstruction_l1"] = losses.region_l1(restored.image, photo, region, o.region_factor)
            named["region_pasted"] = losses.region_entropy(_attention(restored), region)
        measured = {
            f"{name}_{way}": value
            for way, fake in (("ab", fake_b), ("ba", fake_a))
            for name, value in losses.attention_statistics(_attention(fake)).items()
        }
        return GeneratorStep(named, pairs, measured)

    def discriminator_losses(self, batch: Batch, fakes: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        named = {}
        for domain, pair in fakes.items():
            real = batch[domain]
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
        supervised = {"reconstruction": o.w_reconstruction, "region": o.w_region} if o.pasted else {}
        return supervised | {
            "gan": adversarial * o.w_gan,
            "agan": adversarial * o.w_gan,
            "tv": adversarial * o.w_tv,
            "cycle": reconstruction * o.w_cycle,
            "pixel": reconstruction * o.w_pixel,
            "identity": reconstruction * o.w_identity,
        }


def _attention(fake: Translation) -> Tensor:
    assert fake.attention is not None  # both generators return it
    return fake.attention


def _pair(fake: Translation) -> Tensor:
    """[attention, image] as (N, 4, H, W): what the image pool holds and the guided discriminator judges."""
    return torch.cat([_attention(fake), fake.image], dim=1)
