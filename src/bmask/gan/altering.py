"""Differentiable augmentation of what a discriminator sees: drawn once per photo, the same for fake and true."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bmask.gan.draws import Draws


def alter(painted: Tensor, true: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Changes brightness, saturation, contrast, position and flip of both alike (DiffAugment, Zhao et al. 2020).

    Both are (N, 4, H, W), a picture and its region. The region is moved and flipped; its values stay as they are.
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
