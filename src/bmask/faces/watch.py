"""Runs an exported judge, which says how sure it is that a face shows a mask.

Servers use it for their metrics, ingest for further faces.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from bmask.compiled import Compiled
from bmask.errors import DataError
from bmask.progress import say

FILE = "judge.xml"  # lies beside a generator, with its weights in judge.bin; quality/judge_export.py writes it
SIDE = "side"  # entry of the file: the side of the judge's pictures, px


class Watch:
    """An exported judge: that of the training whose generator lies beside it.

    Raises DataError where the file is no exported judge, or OpenVINO is not installed.
    """

    def __init__(self, file: Path):
        self._network = Compiled(file, precision="fp32")
        if not (side := self._network.noted(SIDE)):
            raise DataError(f"{file} is not an exported judge")
        self._side = int(side)

    def __call__(self, square: np.ndarray) -> float:
        """For a face's square, uint8 (S, S, 3): 0 where no mask shows, 1 where one does, 0.5 in doubt."""
        if square.shape[0] != self._side:
            method = cv2.INTER_AREA if square.shape[0] > self._side else cv2.INTER_CUBIC
            square = cv2.resize(square, (self._side, self._side), interpolation=method)
        x = np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - 1
        return float(self._network(x)[0][0])


def watch_beside(generator: Path) -> Watch | None:
    """The judge that lies beside a generator's file; None if it is missing or cannot be used (with a message)."""
    file = generator.with_name(FILE)
    if not file.is_file() or importlib.util.find_spec("openvino") is None:
        return None
    try:
        return Watch(file)
    except DataError as error:
        say(f"serving without watching what is left of masks: {error}")
        return None
