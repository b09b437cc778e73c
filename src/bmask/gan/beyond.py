"""The grey border of a square: ingest adds it where the square reaches beyond the photo."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

WINDOW = 5  # px a side of the window that is tested
MAX_RANGE = 3 / 127.5  # of the values in a window, over all channels
MAX_GREY = 0.35  # absolute value, in [-1, 1]: augmentation makes the grey lighter and darker


def beyond(squares: Tensor) -> Tensor:
    """(N, 3, H, W) in [-1, 1] -> (N, 1, H, W): 1 where a square is as flat and grey as ingest's border.

    Masks are not pasted on the border: a generator trained with such masks paints grey over faces and clothes.
    """
    high = F.max_pool2d(squares, WINDOW, 1, WINDOW // 2).amax(1, keepdim=True)
    low = -F.max_pool2d(-squares, WINDOW, 1, WINDOW // 2).amax(1, keepdim=True)
    flat = (high - low < MAX_RANGE) & (high < MAX_GREY) & (low > -MAX_GREY)
    return F.max_pool2d(flat.float(), WINDOW, 1, WINDOW // 2)
