"""Where a face lies in a generator's picture, and that picture in a stored square."""

from __future__ import annotations

import numpy as np

# Left eye, right eye (of the picture, not of the person), nose, left and right corner of the mouth, in the unit square
# of the picture that a generator takes. There is more room below the mouth than between eyes and mouth, because a mask
# reaches under the chin, and what lies outside the square stays on the photo.
TEMPLATE = np.array([(0.34, 0.32), (0.66, 0.32), (0.50, 0.488), (0.38, 0.64), (0.62, 0.64)])
CENTRE = 8 / 9  # share of the stored square's side that the generator's picture takes; the rest is for random crops


def without_margin(squares: np.ndarray) -> np.ndarray:
    """The generator's pictures (N, s, s, ...) in stored squares (N, S, S, ...)."""
    margin = round(squares.shape[1] * (1 - CENTRE) / 2)
    return squares[:, margin : squares.shape[1] - margin, margin : squares.shape[2] - margin]
