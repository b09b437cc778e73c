"""Exponential moving average of the generators: what is saved, shown, scored and served."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """average = d*average + (1-d)*weights of `network`, with d = min(decay, (1+t)/(10+t)) after t updates.

    The ramp lets the average forget the random start; it does not depend on how long the training will be.
    """

    def __init__(self, network: nn.ModuleDict, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, updates: int) -> None:
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
