"""The image pool (Shrivastava et al. 2017): discriminators also see what the generators made some time ago."""

from __future__ import annotations

import torch
from torch import Tensor

from bmask.gan.draws import generator_for


class ImagePool:
    """Keeps up to `size` fakes of one domain. When full, it swaps each new fake for a kept one with p = 0.5.

    With guided discriminators the entries are [attention, image] pairs, so that an old image meets its own attention.
    """

    def __init__(self, size: int, seed: int, domain: str):
        self.size, self.seed, self.domain = size, seed, domain
        self.kept: Tensor | None = None  # (held, C, H, W)

    def swap(self, fakes: Tensor, step: int) -> Tensor:
        """fakes: (N, C, H, W). Returns as many without gradient, some of them older. `step` seeds the draws."""
        fakes = fakes.detach()
        out = fakes.clone()
        if self.size == 0:
            return out
        draws = generator_for(self.seed, f"pool {self.domain}", step)
        for i, fake in enumerate(fakes):
            kept = self.kept
            if kept is None or len(kept) < self.size:
                self.kept = fake[None].clone() if kept is None else torch.cat([kept, fake[None]])
            elif torch.rand(1, generator=draws).item() < 0.5:
                slot = int(torch.randint(self.size, (1,), generator=draws))
                out[i], kept[slot] = kept[slot].clone(), fake
        return out
