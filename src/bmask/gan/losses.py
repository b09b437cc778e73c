"""The losses, as functions of tensors, with their equations. All are means: image and batch size do not matter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def gan_generator(fake_scores: Tensor) -> Tensor:
    """Least-squares GAN, generator's side: mean (D(G(x)) - 1)^2 (Mao et al. 2017)."""
    return (fake_scores - 1).square().mean()


def gan_discriminator(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Least-squares GAN, discriminator's side, halved as in CycleGAN: (mean (D(y)-1)^2 + mean D(G(x))^2) / 2."""
    return 0.5 * ((real_scores - 1).square().mean() + fake_scores.square().mean())


def hinge_discriminator(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Hinge GAN, discriminator's side: mean max(0, 1 - D(y)) + mean max(0, 1 + D(G(x))) (Lim and Ye 2017, eq. 9)."""
    return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()


def gradient_difference(output: Tensor, target: Tensor) -> Tensor:
    """L1 between the differences of neighbouring pixels of two pictures, down and across (Mathieu et al. 2016)."""
    apart = output - target
    return apart.diff(dim=-1).abs().mean() + apart.diff(dim=-2).abs().mean()


def chroma_difference(output: Tensor, target: Tensor) -> Tensor:
    """`gradient_difference` of colour alone (each pixel minus its grey): it sees coloured noise, not sharpness."""
    apart = output - target
    return gradient_difference(apart - apart.mean(1, keepdim=True), torch.zeros_like(apart))


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference: cycle consistency, identity and pixel loss."""
    return F.l1_loss(output, target)


def wider(region: Tensor, pixels: int) -> Tensor:
    """The dilated region (N, 1, H, W): its maximum over squares of `pixels` a side, an odd number."""
    rows = F.max_pool2d(region, (pixels, 1), stride=1, padding=(pixels // 2, 0))  # faster than squares
    return F.max_pool2d(rows, (1, pixels), stride=1, padding=(0, pixels // 2))


def region_l1(output: Tensor, target: Tensor, region: Tensor, factor: float) -> Tensor:
    """L1 in which pixels of the region (N, 1, H, W), dilated by two pixels, have the weight 1 + factor."""
    return ((output - target).abs() * (1 + factor * wider(region, 5))).mean()


def region_entropy(attention: Tensor, region: Tensor) -> Tensor:
    """Cross entropy between an attention mask and a region, both (N, 1, H, W) in [0, 1]."""
    found = attention.float() * (1 - 2e-4) + 1e-4  # scaled, not clamped, so that 0 and 1 keep a gradient
    inside = (region > 0.05).float()
    return -(inside * found.log() + (1 - inside) * (1 - found).log()).mean()


def total_variation(attention: Tensor) -> Tensor:
    """Mean |A[i+1, j] - A[i, j]| + mean |A[i, j+1] - A[i, j]| of (N, 1, H, W).

    AGGAN's eq. 8 sums over pixels and batch; its weight of 1e-6 at batch 4 and 256 px is 4 * 256 * 255 * 1e-6 = 0.26
    on this mean.
    """
    down = (attention[..., 1:, :] - attention[..., :-1, :]).abs().mean()
    across = (attention[..., :, 1:] - attention[..., :, :-1]).abs().mean()
    return down + across


@torch.no_grad()
def attention_statistics(attention: Tensor) -> dict[str, Tensor]:
    """Mean of the attention and the share of pixels that are saturated (below 0.01 or above 0.99)."""
    saturated = ((attention < 0.01) | (attention > 0.99)).float().mean()
    return {"attention": attention.mean(), "saturated": saturated}
