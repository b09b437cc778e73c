"""Unpaired batches: which photos, which crop, which flip; a function of the step alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bmask.training.seeds import generator_for


class Batches:
    """Random crops of one domain's photos.

    photos: uint8 (copies, N, S, S, 3), kept where the training runs (memory-mapped on a CPU, in device memory else).
    Every photo is seen once before any is seen again; one of its copies, a random crop of `size` px and a left-right
    flip are drawn each time.
    """

    def __init__(self, photos: np.ndarray, size: int, batch: int, seed: int, domain: str, device: torch.device):
        if photos.ndim != 5 or photos.shape[2] != photos.shape[3] or photos.shape[4] != 3 or photos.dtype != np.uint8:
            raise ValueError(
                f"photos of domain {domain} are {photos.dtype} {photos.shape}, not uint8 (copies, N, S, S, 3)"
            )
        if photos.shape[1] == 0 or photos.shape[2] < size:
            raise ValueError(
                f"domain {domain} has {photos.shape[1]} photos of {photos.shape[2]} px; crops are {size} px"
            )
        self.photos = torch.from_numpy(photos)
        if device.type != "cpu":
            self.photos = self.photos.to(device)
        self.size, self.batch, self.seed, self.domain, self.device = size, batch, seed, domain, device
        self._lap, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self.photos.shape[1]

    def at(self, step: int) -> Tensor:
        """The batch of this step: float32 (batch, 3, size, size) in [-1, 1]."""
        copies, _, side = self.photos.shape[:3]
        draws = generator_for(self.seed, f"crop {self.domain}", step)
        indices = torch.stack([self._photo(step * self.batch + i) for i in range(self.batch)])
        copy = torch.randint(copies, (self.batch,), generator=draws)
        corner = torch.randint(side - self.size + 1, (self.batch, 2), generator=draws).tolist()
        flip = torch.rand(self.batch, generator=draws) < 0.5
        chosen = self.photos[copy.to(self.photos.device), indices.to(self.photos.device)]
        crops = [p[y : y + self.size, x : x + self.size] for p, (y, x) in zip(chosen, corner, strict=True)]
        crops = [crop.flip(1) if turned else crop for crop, turned in zip(crops, flip.tolist(), strict=True)]
        return torch.stack(crops).permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1)

    def _photo(self, position: int) -> Tensor:
        lap, place = divmod(position, len(self))
        if lap != self._lap:
            draws = generator_for(self.seed, f"order {self.domain}", lap)
            self._lap, self._order = lap, torch.randperm(len(self), generator=draws)
        return self._order[place]
