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
    flip are drawn each time. `rows` are those of the batch that are wanted here; the draws are for all of it.
    """

    def __init__(
        self,
        photos: np.ndarray,
        size: int,
        batch: int,
        seed: int,
        domain: str,
        device: torch.device,
        rows: slice = slice(None),
    ):
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
        self.size, self.batch, self.seed, self.domain, self.rows = size, batch, seed, domain, rows
        self._lap, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self.photos.shape[1]

    def at(self, step: int) -> Tensor:
        """The rows of this step's batch: float32 (rows, 3, size, size) in [-1, 1]."""
        copies, _, side = self.photos.shape[:3]
        draws = generator_for(self.seed, f"crop {self.domain}", step)
        photo = torch.stack([self._photo(step * self.batch + i) for i in range(self.batch)])
        copy = torch.randint(copies, (self.batch,), generator=draws)
        corner = torch.randint(side - self.size + 1, (self.batch, 2), generator=draws)
        flip = torch.rand(self.batch, generator=draws) < 0.5

        # One gather for the whole batch: on a device it is the launches that cost.
        along = torch.arange(self.size)
        down = corner[:, :1] + along
        across = corner[:, 1:] + torch.where(flip[:, None], along.flip(0), along)
        where = torch.cat([copy[:, None], photo[:, None], down, across], 1)[self.rows]
        where = where.to(self.photos.device, non_blocking=True)  # else the copy waits for the step before
        copy, photo, down, across = where.split([1, 1, self.size, self.size], 1)
        crops = self.photos[copy[:, :, None], photo[:, :, None], down[:, :, None], across[:, None, :]]
        return crops.permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1)

    def _photo(self, position: int) -> Tensor:
        lap, place = divmod(position, len(self))
        if lap != self._lap:
            draws = generator_for(self.seed, f"order {self.domain}", lap)
            self._lap, self._order = lap, torch.randperm(len(self), generator=draws)
        return self._order[place]
