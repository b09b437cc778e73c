"""Attention-guided inpainting, self-supervised by pasted masks.

Masks are pasted on unmasked photos, so the truth below them is known: the generator learns to find the mask (attention)
and to paint what it hides (content). The attention also learns from cut-outs of real masked photos. A GAN loss on the
painted region makes mouths sharp. The discriminator sees only pasted photos, with their region, and never real masked
ones: to fool it there, a generator would change the whole photo until it looked like a pasted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from bmask.gan import losses
from bmask.gan.altering import alter
from bmask.gan.draws import Draws
from bmask.gan.options import SystemOptions, check_values
from bmask.gan.perceptual import FaceFeatures, perceptual_distance
from bmask.gan.system import Batch, GeneratorStep, System
from bmask.gan.translation import Translation

FOLD = 4  # pixels a side that the first layer folds into channels
GROUPS = 8  # of the generator's norms
STRETCH = 0.1  # how far the sigmoid exceeds [0, 1] before it is clamped, so that the attention reaches 0 and 1


@dataclass(frozen=True)
class InpaintingOptions(SystemOptions):
    """Attention-guided inpainting, self-supervised by pasted masks."""

    system: Literal["inpainting"] = "inpainting"
    filters: int = 96  # of the trunk at a quarter of the size; twice as many below
    blocks: int = 4  # residual blocks at an eighth and at a sixteenth
    discriminator_filters: int = 64
    features: str = "features.safetensors"  # the face detector's first layers, which the stage `masks` writes
    cutouts: float = 0.25  # real masked photos per pasted one; with 0, the attention learns from pasted masks alone
    game_epoch: int = 0  # first epoch with the discriminator; steps before are cheaper
    rim: int = 0  # px by which the attention should exceed region and cut-out: a rim of mask would be visible
    unsure: int = 0  # px around a cut-out and its rim that are ignored, since cut-outs lack the straps
    region_factor: float = 5.0  # L1 weight inside the region: 1 + this; outside 1
    w_reconstruction: float = 1.0  # L1 of pixels and of neighbours' differences, before `game_epoch`
    w_reconstruction_game: float = 0.2  # the same from `game_epoch` on
    w_chroma: float = 0.0  # L1 of neighbours' differences in colour alone, against coloured noise
    w_region: float = 0.3  # cross entropy of the attention with region and cut-out
    w_gan: float = 0.3
    w_features: float = 2.0  # L1 between the discriminator's features of the picture and of the true photo
    w_perceptual: float = 0.5

    def __post_init__(self) -> None:
        least = {
            "filters": GROUPS,
            "blocks": 0,
            "discriminator_filters": 1,
            "rim": 0,
            "unsure": 0,
            "game_epoch": 0,
        }
        check_values(self, least, shares=("cutouts",))
        if self.filters % GROUPS:
            raise ValueError(f"filters {self.filters} is not a multiple of {GROUPS}, the number of groups of the norms")

    @property
    def needs(self) -> dict[str, float]:
        return {"pasted": 1.0} | ({"cutouts": self.cutouts} if self.cutouts else {})

    @property
    def frozen(self) -> dict[str, str]:
        return {"features": self.features} if self.w_perceptual else {}

    def check_size(self, image_size: int) -> None:
        if image_size % (8 * FOLD):
            raise ValueError(f"train.image_size {image_size} is not a multiple of {8 * FOLD}")


class Block(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), zero-padded 3x3 convolutions, group norm (Wu and He 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            *_conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1), _norm(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class InpaintingGenerator(nn.Module):
    """y = C*A + x*(1 - A), where the attention A reaches 0 and 1 (10.8 M parameters at 96 filters, 4 blocks).

    FOLD x FOLD pixels are folded into channels (space to depth), which is fast on CPUs. A U-Net follows: `filters`
    channels at a quarter of the size, and three coarser levels. Sub-pixel heads (Shi et al. 2016) unfold C and A.
    (N, 3, H, W) in [-1, 1], H and W multiples of 32.
    """

    def __init__(self, filters: int = 96, blocks: int = 4, thin: int = 16):
        super().__init__()
        c = filters
        self.stem = nn.Sequential(nn.PixelUnshuffle(FOLD), *_conv(3 * FOLD**2, c), Block(c), Block(c))
        self.downs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, 2 * c, 4, stride=2, padding=1), _norm(2 * c), nn.ReLU(), *_blocks(2 * c, deep)
            )
            for wide, deep in ((c, blocks), (2 * c, blocks), (2 * c, 2))
        )
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * narrow, 1), nn.PixelShuffle(2)) for narrow in (2 * c, 2 * c, c)
        )
        self.joins = nn.ModuleList([Block(2 * c), Block(2 * c), nn.Sequential(Block(c), Block(c))])
        self.content = nn.Sequential(
            nn.Conv2d(c, thin * FOLD**2, 3, padding=1),
            nn.PixelShuffle(FOLD),
            nn.ReLU(),
            nn.Conv2d(thin, thin, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(thin, 3, 3, padding=1),
        )
        self.attention = nn.Sequential(nn.Conv2d(c, FOLD**2, 3, padding=1), nn.PixelShuffle(FOLD))

    def forward(self, x: Tensor) -> Translation:
        f = self.stem(x)
        passed = []
        for down in self.downs:
            passed.append(f)
            f = down(f)
        for up, join in zip(self.ups, self.joins, strict=True):
            f = join(passed.pop() + up(f))
        logits = self.attention(f).float()
        attention = stretched(logits)
        content = torch.tanh(self.content(f).float())
        image = content * attention + x * (1 - attention)
        return Translation(image, attention, logits)


class RegionDiscriminator(nn.Module):
    """Judges picture and region, (N, 4, H, W), by patches at an eighth and at a sixteenth of the size.

    Spectral norm (Miyato et al. 2018). Its power iteration advances once per step, in `advance`, and not in each pass,
    so the result does not depend on the number of processes and parts of a batch.
    """

    def __init__(self, filters: int = 64):
        super().__init__()
        c = filters
        plan = ((4, c, 2), (c, 2 * c, 2), (2 * c, 4 * c, 2), (4 * c, 4 * c, 1), (4 * c, 4 * c, 2))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, 4 if stride == 2 else 3, stride, padding=1)) for i, o, stride in plan
        )
        self.heads = nn.ModuleList(spectral_norm(nn.Conv2d(4 * c, 1, 3, padding=1)) for _ in range(2))
        self.eval()  # in training mode each pass would advance the iteration

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Scores at both scales, fp32, and the features of all layers."""
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [head(features[i]).float() for head, i in zip(self.heads, (3, 4), strict=True)], features

    @torch.no_grad()
    def advance(self) -> None:
        for layer in (*self.layers, *self.heads):
            layer.train()
            _ = layer.weight  # computing it advances the iteration
            layer.eval()


class Inpainting(System):
    """L = w_reconstruction*(L1 + gradients) + w_chroma*gradients of colour + w_region*BCE
    + w_gan*hinge + w_features*matching + w_perceptual*distance.

    L1 gives the region more weight (`region_factor`), the gradients have equal weight everywhere, the distance counts
    only in the region, and the discriminator also sees the region. Hinge loss as in Lim and Ye (2017), feature matching
    as in Wang et al. (2018). The discriminator's inputs are augmented, see `alter`.
    """

    Options = InpaintingOptions
    pooled = frozenset()
    adversarial = False  # whether the discriminator takes part in this epoch

    def build(self, options: InpaintingOptions) -> None:
        self.generators["ab"] = self.build_generator(options)
        if options.w_gan:
            self.discriminators["region"] = RegionDiscriminator(options.discriminator_filters)
        if options.w_perceptual:
            self.freeze("features", FaceFeatures())

    @classmethod
    def build_generator(cls, options: InpaintingOptions) -> nn.Module:
        return InpaintingGenerator(options.filters, options.blocks)

    def start_epoch(self, epoch: int) -> None:
        self.adversarial = self.options.w_gan > 0 and epoch >= self.options.game_epoch

    def generator_losses(self, batch: Batch, draws: Draws) -> GeneratorStep:
        o, photo, region = self.options, batch["photo"], batch["region"]
        n = len(photo)
        pasted, masked = batch["pasted"], batch["masked"] if o.cutouts else photo[:0]
        made = self.translate(torch.cat([pasted, masked]))
        logits, attention = cast(Tensor, made.logits), cast(Tensor, made.attention)
        image = made.image[:n]  # masked photos train the attention only
        named = {
            "reconstruction_l1": losses.region_l1(image, photo, region, o.region_factor),
            "reconstruction_gradient": losses.gradient_difference(image, photo),
            "region_pasted": _attention_loss(logits[:n], region > 0.05, o.rim),
        }
        if o.cutouts:
            named["region_cutout"] = _attention_loss(logits[n:], batch["cutout"] > 0.3, o.rim, o.unsure)
        if o.w_chroma:
            named["chroma"] = losses.chroma_difference(image, photo)
        if o.w_perceptual:
            features = self.frozen["features"]
            with torch.no_grad():
                true = features(photo)
            named["perceptual"] = perceptual_distance(features(image), true, losses.wider(region, 9))
        fakes = {}
        if self.adversarial:
            altered = alter(torch.cat([image, region], 1), torch.cat([photo, region], 1), draws)
            fakes = dict(zip(("painted", "true"), altered, strict=True))
            discriminator = self.discriminators["region"]
            scores, ours = discriminator(fakes["painted"])
            with torch.no_grad():
                _, theirs = discriminator(fakes["true"])
            named["gan"] = -torch.stack([score.mean() for score in scores]).mean()
            named["features"] = torch.stack(
                [F.l1_loss(p.float(), q.float()) for p, q in zip(ours, theirs, strict=True)]
            ).mean()
        with torch.no_grad():
            measured = {"attention_pasted": attention[:n].mean(), "overlap_pasted": _overlap(attention[:n], region)}
            if o.cutouts:
                measured["attention_masked"] = attention[n:].mean()
                measured["overlap_masked"] = _overlap(attention[n:], batch["cutout"])
        return GeneratorStep(named, fakes, measured)

    def discriminator_losses(self, batch: Batch, fakes: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        if not fakes:
            return {}
        n = len(fakes["true"])
        scores, _ = self.discriminators["region"](torch.cat([fakes["true"], fakes["painted"]]))
        return {"d_region": torch.stack([losses.hinge_discriminator(s[:n], s[n:]) for s in scores]).mean()}

    def after_discriminator_step(self) -> None:
        for discriminator in self.discriminators.values():
            cast(RegionDiscriminator, discriminator).advance()

    def weights(self, epoch: int) -> dict[str, float]:
        o = self.options
        adversarial = o.w_gan > 0 and epoch >= o.game_epoch
        return {
            "reconstruction": o.w_reconstruction_game if adversarial else o.w_reconstruction,
            "chroma": o.w_chroma,
            "region": o.w_region,
            "perceptual": o.w_perceptual,
            "gan": o.w_gan,
            "features": o.w_features,
        }


def stretched(logits: Tensor) -> Tensor:
    """The attention: a stretched and clamped sigmoid, which reaches 0 and 1, so that no mask shines through."""
    return ((1 + 2 * STRETCH) * torch.sigmoid(logits) - STRETCH).clamp(0, 1)


def _attention_loss(logits: Tensor, region: Tensor, rim: int, unsure: int = 0) -> Tensor:
    """Cross entropy with the region (N, 1, H, W) dilated by `rim` px; the next `unsure` px are ignored."""
    inside = losses.wider(region.float(), 2 * rim + 1)
    sure = 1 - losses.wider(inside, 2 * unsure + 1) + inside
    return (F.binary_cross_entropy_with_logits(logits, inside, reduction="none") * sure).mean()


def _overlap(attention: Tensor, region: Tensor) -> Tensor:
    """Intersection over union at a threshold of 0.5, mean over photos; 1 where both are empty."""
    a, r = attention > 0.5, region > 0.5
    shared, either = (a & r).sum((1, 2, 3)), (a | r).sum((1, 2, 3))
    return torch.where(either > 0, shared / either.clamp(min=1), 1.0).mean()


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(GROUPS, channels)


def _conv(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 3, padding=1), _norm(channels_out), nn.ReLU()]


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [Block(channels) for _ in range(count)]
