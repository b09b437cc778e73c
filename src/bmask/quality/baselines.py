"""What a translation system must beat: doing nothing, pasting the mean face, and inpainting by Telea (2004).

Baselines know only the photo, and that a framed face has its mouth below the middle. So they change one fixed ellipse,
never the true mask region, and report that ellipse as their attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from bmask.quality.render import Attention, Photos, Translate

if TYPE_CHECKING:
    from bmask.data.split.dataset import Dataset

CENTRE = (0.5, 0.69)  # x, y, share of the side
HALF_AXES = (0.34, 0.26)
FEATHER = 0.04  # of the mean face's edge, share of the side
CHUNK = 256


def baseline(name: str, dataset: Dataset, size: int) -> Translate:
    """The baseline `identity`, `mean_face` or `telea` as a translation of pictures of `size` px.

    The mean face is that of the dataset's unmasked training photos. Raises ValueError for another name.
    """
    if name == "identity":
        return lambda photos: (photos, None)
    region = lower_face(size)
    if name == "mean_face":
        mean = mean_photo(dataset.centre(dataset.photos("unmasked", "train")), size)
        return lambda photos: _paste(photos, mean, cv2.GaussianBlur(region, (0, 0), max(FEATHER * size, 0.5)))
    if name == "telea":
        return lambda photos: _inpaint(photos, region)
    raise ValueError(f"there is no baseline {name!r}; there are identity, mean_face and telea")


def lower_face(size: int) -> NDArray[np.float32]:
    """The fixed ellipse, 1 inside and 0 outside, (size, size)."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    inside = ((columns - CENTRE[0]) / HALF_AXES[0]) ** 2 + ((rows - CENTRE[1]) / HALF_AXES[1]) ** 2 <= 1
    return inside.astype(np.float32)


def mean_photo(photos: Photos, size: int) -> np.ndarray:
    """Mean of uint8 photos (N, S, S, 3), read CHUNK at a time, at `size` px: float (size, size, 3) in [0, 255]."""
    total = np.zeros(photos.shape[1:], np.float64)
    for start in range(0, len(photos), CHUNK):
        total += photos[start : start + CHUNK].sum(axis=0, dtype=np.float64)
    method = cv2.INTER_AREA if size < photos.shape[1] else cv2.INTER_CUBIC
    return cv2.resize((total / len(photos)).astype(np.float32), (size, size), interpolation=method)


def _paste(photos: Photos, mean: np.ndarray, alpha: np.ndarray) -> tuple[Photos, Attention]:
    pasted = photos + alpha[None, ..., None] * (mean - photos)
    return pasted.round().clip(0, 255).astype(np.uint8), np.broadcast_to(alpha, photos.shape[:3])


def _inpaint(photos: Photos, region: NDArray[np.float32]) -> tuple[Photos, Attention]:
    """Telea's fast marching method (2004), radius 3 px."""
    hole = region.astype(np.uint8)
    filled: np.ndarray = np.stack(
        [cv2.inpaint(np.ascontiguousarray(photo), hole, 3, cv2.INPAINT_TELEA) for photo in photos]
    )
    return filled, np.broadcast_to(region, photos.shape[:3])
