"""How sure the judge is that a mask still shows where one was taken off: what a server's metrics watch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from bmask.compiled import Compiled
from bmask.errors import DataError

FILE = "residue.xml"  # lies beside a generator, with its weights in residue.bin; quality/judge.py exports it
SIDE = "side"  # the entry that says how large it wants its pictures, px


class Residue:
    """The judge that scored a generator, exported. Raises DataError where the file is none, or without OpenVINO."""

    def __init__(self, file: Path):
        self._network = Compiled(file, precision="fp32")
        if not (side := self._network.noted(SIDE)):
            raise DataError(f"{file} is not an exported judge; register the model again")
        self._side = int(side)

    def __call__(self, square: np.ndarray) -> float:
        """Of a face's square as it was left, uint8 (S, S, 3): 0 where no mask shows, 1 where one does, 0.5 in doubt."""
        if square.shape[0] != self._side:
            method = cv2.INTER_AREA if square.shape[0] > self._side else cv2.INTER_CUBIC
            square = cv2.resize(square, (self._side, self._side), interpolation=method)
        x = np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - 1
        return float(self._network(x)[0][0])


def residue_beside(generator: Path) -> Residue | None:
    """The judge that lies beside a generator's file; None where there is none, or no OpenVINO to run it."""
    file = generator.with_name(FILE)
    return Residue(file) if file.is_file() and importlib.util.find_spec("openvino") else None
