"""The perceptual distance between a picture and the true face, inside a region.

It has two parts, both from the judge, which is in no generator's loss: the difference of the grades, which says how bad
the picture looks, and the distance between the features (after Zhang et al. 2018), which says how far it is from this
face. The second has a small weight, because a plausible mouth matters more than the right person's mouth. The weight
was chosen with the ladder, on drawn faces.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bmask.quality.judge import Seen, inside

Photos = NDArray[np.uint8]
FEATURES_WEIGHT = 0.012  # of the distance between features


def perceptual_distance(pictures: Seen, truth: Seen, regions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) from 0 for the true face to 1 for an opaque mask, inside regions (N, S, S).

    pictures, truth: what the judge sees in N pictures and in the true faces.
    """
    apart = ((pictures.features - truth.features) ** 2).sum(axis=1)
    return inside(np.abs(pictures.grade - truth.grade), regions) + FEATURES_WEIGHT * inside(apart, regions)


def sharpness(pictures: Photos, regions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Gradient energy inside regions, grey levels squared; their edges are left out, so that a seam does not count."""
    grey = pictures.astype(np.float32).mean(axis=3)
    down, across = np.diff(grey, axis=1, append=grey[:, -1:]), np.diff(grey, axis=2, append=grey[:, :, -1:])
    reach = np.ones((2 * (grey.shape[1] // 32) + 1,) * 2, np.uint8)
    core = np.stack([cv2.erode(region.astype(np.uint8), reach) for region in regions])
    return ((down**2 + across**2) * core).sum(axis=(1, 2)) / np.maximum(core.sum(axis=(1, 2)), 1) + 1.0
