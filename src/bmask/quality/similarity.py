"""How much two pictures differ: SSIM, PSNR and mean absolute difference, on chosen parts of the picture.

SSIM is Wang et al. 2004 (eq. 13) with their Gaussian window (11x11, sigma 1.5), K1 = 0.01, K2 = 0.03 and 255 grey
levels, mean over the colour channels. Differences are in grey levels of 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UPPER = 0.45  # share of the height, from the top, that a face mask leaves free in a framed face
WINDOW = 11
ROUNDING = 1 / 12  # mean squared error of rounding to grey levels: equal pictures get 58.9 dB, not infinity

Photo = NDArray[np.uint8]


def ssim_map(x: Photo, y: Photo) -> NDArray[np.float32]:
    """SSIM of the window around each pixel, mean over the channels. x, y: uint8 (H, W, 3). Returns (H, W) in [-1, 1].

    The picture is mirrored at its border for windows that reach over it.
    """
    import cv2

    def smooth(picture: NDArray) -> NDArray:
        return cv2.GaussianBlur(picture, (WINDOW, WINDOW), 1.5, borderType=cv2.BORDER_REFLECT)

    x, y = x.astype(np.float32), y.astype(np.float32)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return ((2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * structure).mean(axis=2)


def upper(photo: NDArray) -> NDArray:
    """The rows of (H, W, ...) that count as the upper face; cut first, so that no SSIM window includes the mask."""
    return photo[: max(1, round(UPPER * len(photo)))]


def ssim(x: Photo, y: Photo) -> float:
    return float(ssim_map(x, y).mean())


def ssim_inside(x: Photo, y: Photo, region: NDArray[np.bool_]) -> float:
    """Mean over the windows whose centre lies in the region (H, W); NaN where it is empty."""
    return float(ssim_map(x, y)[region].mean()) if region.any() else float("nan")


def ssim_outside(x: Photo, y: Photo, region: NDArray[np.bool_]) -> float:
    """Mean over the windows that touch no pixel of the region; NaN where there is none."""
    import cv2

    touched = cv2.dilate(region.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)).astype(bool)
    return ssim_inside(x, y, ~touched)


def mae(x: Photo, y: Photo, where: NDArray[np.bool_] | None = None) -> float:
    """Mean absolute difference in grey levels over the picture or the pixels of `where` (H, W); NaN without any."""
    difference = np.abs(x.astype(np.int16) - y)
    if where is not None:
        difference = difference[where]
    return float(difference.mean()) if difference.size else float("nan")


def psnr(x: Photo, y: Photo, where: NDArray[np.bool_] | None = None) -> float:
    """Peak signal to noise ratio in dB, at most 58.9 (see ROUNDING); NaN where `where` is empty."""
    error = (x.astype(np.float64) - y) ** 2
    if where is not None:
        error = error[where]
    return float(10 * np.log10(255**2 / max(error.mean(), ROUNDING))) if error.size else float("nan")
