"""Alterations of pictures while they are learned from: drawn once a photo, differentiable, alike for what belongs
together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bmask.gan.draws import Draws

OUTSIDE = 127 / 127.5 - 1  # the grey that marks what lies outside of a photo


def alter(painted: Tensor, true: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Alters both alike: brightness, saturation, contrast, place, flip. (N, 4, H, W), the region last, not coloured.

    For a discriminator that sees few photos (DiffAugment, Zhao et al. 2020).
    """
    n = len(painted)
    brightness, saturation, contrast, flip, right, down = draws.uniform(painted, 6).T
    both, twice = torch.cat([painted, true]), lambda v: torch.cat([v, v])[:, None, None, None]
    x, region = both[:, :3], both[:, 3:]
    x = x + twice(brightness - 0.5) * 0.4
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * twice(0.4 + 1.2 * saturation) + grey
    middle = x.mean((1, 2, 3), keepdim=True)
    x = (x - middle) * twice(0.7 + 0.6 * contrast) + middle
    flips, zero = torch.where(flip < 0.5, -1.0, 1.0), torch.zeros_like(flip)
    rows = torch.stack([flips, zero, 0.2 * (right - 0.5), zero, zero + 1, 0.2 * (down - 0.5)], 1).view(n, 2, 3)
    whole = torch.cat([x, region], 1).float()
    grid = F.affine_grid(torch.cat([rows, rows]), list(whole.shape), align_corners=False)
    moved = F.grid_sample(whole, grid, align_corners=False, padding_mode="zeros")
    return moved[:n], moved[n:]


def recolour(pictures: Sequence[Tensor], strength: float, draws: Draws) -> list[Tensor]:
    """Gives each photo another light: gamma, a cast (a gain for each channel) and saturation.

    Args:
        pictures: each (N, 3, H, W) in [-1, 1]; those of one number show the same photo and are changed alike.
        strength: gains and gamma lie in exp(-strength) to exp(strength), as far as a photo's own share of it goes,
            which is drawn from 0 to 1: so many photos stay nearly as they are.

    Returns:
        Pictures in [-1, 1]. What lies outside of a photo keeps its grey.
    """
    share, *others = draws.uniform(pictures[0], 6).T
    gamma, saturation, *gains = (torch.exp(strength * share * (2 * own - 1)) for own in others)
    gain = torch.stack(gains, 1)[..., None, None]
    changed = []
    for x in pictures:
        light = ((x + 1) / 2).clamp(min=1e-3) ** gamma[:, None, None, None] * gain
        grey = light.mean(1, keepdim=True)
        light = (light - grey) * saturation[:, None, None, None] + grey
        outside = ((x - OUTSIDE).abs() < 1e-3).all(1, keepdim=True)
        changed.append(torch.where(outside, x, (2 * light - 1).clamp(-1, 1)))
    return changed
