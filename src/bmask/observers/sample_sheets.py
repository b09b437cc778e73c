"""Pictures of the same photos during a training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from bmask.data.sheets import contact_sheet
from bmask.data.split.dataset import to_photos
from bmask.files import write_bytes
from bmask.gan.translation import Translation


class SampleSheets:
    """Observer that draws the same photos, their translations and attention masks; one PNG per epoch shown."""

    def __init__(self, folder: Path, private: bool):
        self.folder, self.private = folder, private

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None:
        if self.private:
            shutil.rmtree(self.folder, ignore_errors=True)  # from before the photos were private

    def losses(self, row: dict) -> None: ...

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None:
        if self.private:
            return
        rows: list[Sequence[np.ndarray]] = [list(to_photos(inputs)), list(to_photos(translated.image))]
        labels = ["photo", "translated"]
        if translated.attention is not None:
            attention = translated.attention.float().cpu().numpy()[:, 0]
            rows.append(list(np.round(attention * 255).astype(np.uint8)))
            labels.append("attention")
        write_bytes(self.folder / f"epoch-{epoch:04d}.png", contact_sheet(rows, labels))

    def saved(self) -> None: ...

    def sheets(self, every: int, epochs: int) -> list[Path]:
        """The sheets of this schedule; an earlier, longer training may have left more."""
        shown = [epoch for epoch in range(1, epochs + 1) if epoch % every == 0 or epoch == epochs]
        return [path for epoch in shown if (path := self.folder / f"epoch-{epoch:04d}.png").exists()]
