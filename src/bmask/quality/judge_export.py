"""Exports a judge to a file with which a server watches what is left of masks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bmask.compiled import import_openvino
from bmask.errors import DataError
from bmask.faces.watch import FILE, SIDE, Watch
from bmask.quality.judge import MAP_STRIDE, Judge, load_judge, top

MAX_DIFFERENCE = 0.01  # between the judge and the exported one


class MaskShows(nn.Module):
    """float (N, 3, size, size) in [-1, 1] -> 1 - `Judge.unmasked`, (N,)."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge, self.top = judge, top((judge.size // MAP_STRIDE) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        found = self.judge.said(x)[:, 0].flatten(1).topk(self.top).values.mean(1)
        limit = self.judge.limit
        return torch.where(found < limit, found / limit, 1 + (found - limit) / (1 - limit)) / 2


def export_judge(file: Path, folder: Path, photos: np.ndarray) -> None:
    """Exports a saved judge for faces/watch.py.

    Args:
        photos: uint8 (N, S, S, 3), squares on which both must agree.

    Raises:
        DataError: the judge cannot be read or converted, the export differs, or OpenVINO is missing. No file is left.
    """
    openvino = import_openvino()
    judge, _ = load_judge(file)
    target = folder / FILE
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # OpenVINO uses tracing, which PyTorch deprecates
            picture = torch.zeros(1, 3, judge.size, judge.size)
            model = openvino.convert_model(MaskShows(judge).eval(), example_input=picture)
        model.reshape([-1, 3, judge.size, judge.size])
        model.set_rt_info(str(judge.size), SIDE)
        openvino.save_model(model, target, compress_to_fp16=False)
        watch = Watch(target)
        apart = np.abs([watch(photo) for photo in photos] - (1 - judge.unmasked(photos))).max()
        if apart > MAX_DIFFERENCE:
            raise DataError(f"the exported judge differs by {apart:.2g}")
    except Exception as error:  # OpenVINO's exceptions have no common type
        for left in (target, target.with_suffix(".bin")):
            left.unlink(missing_ok=True)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"the judge cannot be converted to OpenVINO ({reason})") from None
