"""From a judge to a file that a server runs, which watches what is left of masks."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from bmask.compiled import import_openvino
from bmask.quality.judge import COARSE, Judge, load_judge, top
from bmask.serving.residue import FILE, SIDE


class Residue(nn.Module):
    """float (N, 3, size, size) in [-1, 1] -> 1 - `Judge.unmasked`, (N,)."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge, self.top = judge, top((judge.size // COARSE) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        found = self.judge.said(x)[:, 0].flatten(1).topk(self.top).values.mean(1)
        limit = self.judge.limit
        return torch.where(found < limit, found / limit, 1 + (found - limit) / (1 - limit)) / 2


def export_judge(file: Path, folder: Path) -> None:
    """Writes a saved judge as serving/residue.py runs it.

    Raises DataError where it cannot be read, or OpenVINO is not installed.
    """
    openvino = import_openvino()
    judge, _ = load_judge(file)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing, which OpenVINO does, is deprecated in PyTorch
        picture = torch.zeros(1, 3, judge.size, judge.size)
        model = openvino.convert_model(Residue(judge).eval(), example_input=picture)
    model.reshape([1, 3, judge.size, judge.size])
    model.set_rt_info(str(judge.size), SIDE)
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)
