"""The length of an epoch, and the learning rate: constant, then linear to 0 (CycleGAN, appendix 7.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def steps_per_epoch(photos: Mapping[str, np.ndarray], epoch_photos: int, batch_size: int) -> int:
    """An epoch is one pass over the larger domain, "a" or "b"; of its (copies, N, S, S, 3), only N counts."""
    larger = max(photos[domain].shape[1] for domain in ("a", "b"))
    return max(1, (epoch_photos or larger) // batch_size)


def rate(epoch: int, epochs: int, constant_epochs: int) -> float:
    """The factor on the learning rate in this epoch (0-based): 1 while constant, then linear to 0 at `epochs`."""
    if epoch < constant_epochs:
        return 1.0
    return (epochs - epoch) / (epochs - constant_epochs)
