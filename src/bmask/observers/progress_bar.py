"""The progress of a training."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from torch import Tensor

from bmask.gan.translation import Translation
from bmask.progress import say
from bmask.training.options import LoopOptions

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """A bar with losses and time left on a terminal, a line now and then in a log."""

    def __init__(self, model: str, options: LoopOptions, every: float = 15.0):
        self.model, self.options, self.every = model, options, every
        self.bar: tqdm | None = None

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None:
        self.total = self.options.epochs * steps_per_epoch
        self.first = self.done = epoch * steps_per_epoch
        self.began = self.spoke = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.total, initial=self.first, desc=f"train {self.model}", unit="step", dynamic_ncols=True
            )

    def losses(self, row: dict) -> None:
        named = {key: f"{row[key]:.3f}" for key in ("total", "cycle_a", "gan_ab", "d_b", "attention_ab") if key in row}
        if self.bar is not None:
            self.bar.update(row["step"] - self.done)
            self.bar.set_postfix(named)
        self.done = row["step"]
        now = time.monotonic()
        if self.bar is None and (now - self.spoke >= self.every or self.done == self.total):
            self.spoke = now
            left = (self.total - self.done) * (now - self.began) / (self.done - self.first)
            losses = ", ".join(f"{key} {value}" for key, value in named.items())
            say(f"train {self.model}: step {self.done} of {self.total}, {left:.0f} s left; {losses}")
        if self.bar is not None and self.done == self.total:
            self.bar.close()

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None: ...

    def saved(self) -> None: ...
