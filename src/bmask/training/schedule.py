"""The learning rate: constant, then a straight line to 0 (CycleGAN, appendix 7.2)."""

from __future__ import annotations


def rate(epoch: int, epochs: int, constant_epochs: int) -> float:
    """The factor on the learning rate in this epoch (0-based): 1 while constant, then falling; 0 would be `epochs`."""
    if epoch < constant_epochs:
        return 1.0
    return (epochs - epoch) / (epochs - constant_epochs)
