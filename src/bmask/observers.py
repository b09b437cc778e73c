"""What watches a training here: sample sheets and a progress bar. `tracking.Tracker` and
`mirror.CheckpointMirror` are observers too."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np
from torch import Tensor

from bmask.data.dataset import to_photos
from bmask.data.sheets import contact_sheet
from bmask.files import write_bytes
from bmask.gan.translation import Translation
from bmask.progress import say
from bmask.training.options import LoopOptions


class SampleSheets:
    """Pictures of the same photos through time: photo, translation, attention mask; one PNG per epoch shown."""

    def __init__(self, folder: Path, private: bool):
        self.folder, self.private = folder, private

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None:
        if self.private:
            shutil.rmtree(self.folder, ignore_errors=True)  # from before the photos were called private

    def losses(self, row: dict) -> None: ...

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None:
        if self.private:
            return
        rows, labels = [to_photos(inputs), to_photos(translated.image)], ["photo", "translated"]
        if translated.attention is not None:
            attention = translated.attention.float().cpu().numpy()[:, 0]
            rows.append(np.round(attention * 255).astype(np.uint8))
            labels.append("attention")
        write_bytes(self.folder / f"epoch-{epoch:04d}.png", contact_sheet(rows, labels))

    def saved(self) -> None: ...

    def sheets(self, every: int, epochs: int) -> list[Path]:
        """The sheets of this schedule; a longer training before may have left more."""
        shown = [epoch for epoch in range(1, epochs + 1) if epoch % every == 0 or epoch == epochs]
        return [path for epoch in shown if (path := self.folder / f"epoch-{epoch:04d}.png").exists()]


class Progress:
    """A bar with losses and time left on a terminal, a line now and then in a log."""

    def __init__(self, model: str, options: LoopOptions, every: float = 15.0):
        self.model, self.options, self.every = model, options, every
        self.bar = None

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
