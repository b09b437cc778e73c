"""What lies beyond a photo in the square that its face was turned into."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SIDE = 5  # px of the small squares that are looked at
FLAT = 3 / 127.5  # the most by which values in one of them differ, channels together
GREY = 0.35  # the largest absolute value, of [-1, 1]: augmenting makes the grey lighter and darker


def beyond(squares: Tensor) -> Tensor:
    """(N, 3, H, W) in [-1, 1] -> (N, 1, H, W): 1 where a square is flat and grey as what ingest puts beyond a photo.

    No mask reaches there. A generator that learns from masks which do paints grey where a face or clothes should be.
    """
    high = F.max_pool2d(squares, SIDE, 1, SIDE // 2).amax(1, keepdim=True)
    low = -F.max_pool2d(-squares, SIDE, 1, SIDE // 2).amax(1, keepdim=True)
    flat = (high - low < FLAT) & (high < GREY) & (low > -GREY)
    return F.max_pool2d(flat.float(), SIDE, 1, SIDE // 2)
