"""What can be chosen about a training, whatever the system."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopOptions:
    epochs: int = 200
    constant_epochs: int = 100  # then the rate falls linearly to 0
    batch_size: int = 4  # photos of each domain in a step, over all processes
    accumulate_steps: int = 1  # parts that a step's batch is worked through in: less memory, the same gradients
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    epoch_photos: int = 0  # photos in an epoch; 0: as many as the larger domain has
    image_size: int = 64
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False  # torch.compile: a minute at the start, then faster steps; needs a C++ compiler
    threads: int = 2
    pool: int = 50
    ema: float = 0.999
    sample_every: int = 5  # epochs
    checkpoint_every: int = 2  # epochs
    log_every: int = 20  # steps
