"""The judge: a small network that says, for each pixel, how much of a mask still shows and how far it is from a photo.

A classifier of whole pictures accepts a face under a half transparent mask, and even an orange smear, as a face. The
judge learns from masks pasted at known opacities and from altered faces, so it says what is left of a mask, and where.
It is trained once per split, before any system is scored, and identified by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bmask.errors import DataError
from bmask.files import write_bytes

SIZE = 64  # px; masks are visible at this size, and the judge stays fast when generators work on larger pictures
BATCH = 64
MAP_STRIDE = 2  # px of the picture per px of the maps; 2 takes half the time of 1 and locates masks as well
FOLD = 2  # the last layer enlarges by this factor
# What can have been done to a pixel, and how bad that looks, from 0 for a photo to 1 for an opaque mask. The numbers
# were chosen so that their mean ranks the ladder's pictures, on drawn faces.
KINDS = ("photo", "other", "blurred", "flat", "distorted", "smeared", "mask")
GRADES = (0.0, 0.035, 0.15, 0.18, 0.29, 0.19, 0.38)
OPACITY_WEIGHT = 0.62  # times the opacity: what a mask adds to the grade of its pixels
TOP_SHARE = 0.04  # of the picture: the area of a quarter of the smallest masks
FILE = "judge.safetensors"

Photos = NDArray[np.uint8]
Maps = NDArray[np.float32]  # (N, size / MAP_STRIDE, size / MAP_STRIDE) in [0, 1]


class Seen(NamedTuple):
    """What the judge says about N photos; maps are in [0, 1]."""

    shows: Maps  # the probability that a mask, or a smear of one, shows
    opacity: Maps  # of the mask
    grade: Maps  # how bad it looks, 0 for a photo and 1 for an opaque mask
    features: NDArray[np.float32]  # (N, 4 * filters, s, s) at an eighth of the picture, of unit length at each place


class Judge(nn.Module):
    """A U-shaped network of four levels, from a half to a sixteenth of the picture, with a sub-pixel head.

    Args:
        filters: channels of the first level; the next have 2, 4 and 4 times as many.
        size: side of the pictures it looks at, px, a multiple of 16; others are resized to it.
    """

    scale: Tensor
    limit: Tensor

    def __init__(self, filters: int = 16, size: int = SIZE) -> None:
        super().__init__()
        self.filters, self.size = filters, size
        c = filters
        self.quarter = nn.Sequential(_convolution(3, c, 5, 2), _convolution(c, 2 * c, 3, 2), _convolution(2 * c, 2 * c))
        self.eighth = nn.Sequential(_convolution(2 * c, 4 * c, 3, 2), _convolution(4 * c, 4 * c))
        self.sixteenth = nn.Sequential(_convolution(4 * c, 4 * c, 3, 2), _convolution(4 * c, 4 * c))
        self.ups = nn.ModuleList((_enlarged(4 * c, 4 * c), _enlarged(4 * c, 2 * c)))
        self.join = _convolution(2 * c, 2 * c)
        self.head = nn.Sequential(nn.Conv2d(2 * c, (len(KINDS) + 1) * FOLD**2, 3, padding=1), nn.PixelShuffle(FOLD))
        self.register_buffer("scale", torch.ones(()))  # brings features to a mean square of 1 on real photos
        self.register_buffer("limit", torch.tensor(0.5))  # the threshold of `most`; above it a mask shows
        self.to(memory_format=torch.channels_last)  # faster on CPUs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float (N, 3, size, size) in [-1, 1] -> logits of KINDS (N, 7, s, s), s is size / MAP_STRIDE, and of the
        square root of the mask's opacity (N, s, s); the root makes faint masks count."""
        fine, middle, low = self.levels(x)
        middle = middle + self.ups[0](low)
        found = self.head(self.join(fine + self.ups[1](middle)))
        return found[:, :-1], found[:, -1]

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at a quarter, an eighth and a sixteenth of the picture."""
        fine = self.quarter(x)
        middle = self.eighth(fine)
        return fine, middle, self.sixteenth(middle)

    def see(self, photos: Photos) -> Seen:
        """What it says about photos, uint8 (N, S, S, 3): means over each photo and its mirror image."""
        both = self._each(photos, self.said)
        features = self._each(photos, lambda x: nn.functional.normalize(self.eighth(self.quarter(x)), dim=1, eps=1e-3))
        return Seen(both[:, 0], both[:, 1], both[:, 2], features)

    def said(self, x: Tensor) -> Tensor:
        """The maps of `Seen`, (N, 3, s, s), of float (N, 3, size, size) in [-1, 1]: means with the mirror image's."""
        return (self._said(x) + self._said(x.flip(3)).flip(3)) / 2

    def _said(self, x: Tensor) -> Tensor:
        kinds, root = self(x)
        shares, opacity = kinds.softmax(1), torch.sigmoid(root).square()
        grade = (shares * torch.tensor(GRADES)[:, None, None]).sum(1) + OPACITY_WEIGHT * shares[:, -1] * opacity
        return torch.stack([shares[:, -2] + shares[:, -1], opacity, grade], 1)

    def unmasked(self, photos: Photos) -> NDArray[np.float64]:
        """How sure it is that each photo shows no mask: uint8 (N, S, S, 3) -> (N,) in [0, 1]; 0.5 at the threshold."""
        return self.sure(self.see(photos).shows)

    def sure(self, shows: Maps) -> NDArray[np.float64]:
        """`unmasked`, from the map `shows`."""
        return 1 - np.interp(most(shows), (0, float(self.limit), 1), (0, 0.5, 1))

    def photo_features(self, photos: Photos) -> NDArray[np.float32]:
        """Scaled features for distances between sets: uint8 (N, S, S, 3) -> (N, 10 * filters)."""
        return self._each(photos, lambda x: torch.cat([f.mean((2, 3)) for f in self.levels(x)], 1) * self.scale)

    @torch.inference_mode()
    def _each(self, photos: Photos, function: Callable[[Tensor], Tensor]) -> NDArray:
        from bmask.data.split.dataset import resize, to_tensor

        self.eval()
        batches = [resize(photos[i : i + BATCH], self.size) for i in range(0, len(photos), BATCH)]
        return np.concatenate([function(to_tensor(batch)).numpy() for batch in batches])


def top(pixels: int) -> int:
    """How many of a picture's pixels `most` looks at."""
    return max(1, round(TOP_SHARE * pixels))


def most(maps: Maps) -> NDArray[np.float64]:
    """Mean over the TOP_SHARE of pixels with the highest values: (N, S, S) -> (N,)."""
    flat = maps.reshape(len(maps), -1)
    count = top(flat.shape[1])
    return np.partition(flat, -count, axis=1)[:, -count:].mean(axis=1, dtype=np.float64)


def inside(maps: Maps, regions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over each picture's region (N, S, S), resized to the maps' size; NaN where it is empty."""
    import cv2

    size = maps.shape[1]
    if regions.shape[1] != size:
        planes = (cv2.resize(own.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for own in regions)
        weights = np.stack(list(planes))
    else:
        weights = regions.astype(np.float32)
    with np.errstate(invalid="ignore"):
        return (maps * weights).sum(axis=(1, 2), dtype=np.float64) / weights.sum(axis=(1, 2), dtype=np.float64)


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _enlarged(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))


def digest(judge: Judge) -> str:
    """sha256 of the weights: only scores of the same judge are comparable."""
    whole = hashlib.sha256()
    for name, tensor in sorted(judge.state_dict().items()):
        whole.update(name.encode())
        whole.update(tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def save_judge(path: Path, judge: Judge, about: dict[str, Any]) -> None:
    """One safetensors file; the JSON in its header rebuilds the network and carries `about`."""
    from safetensors.torch import save

    header = {"filters": judge.filters, "size": judge.size, "digest": digest(judge), **about}
    tensors = {name: tensor.contiguous() for name, tensor in judge.state_dict().items()}
    write_bytes(path, save(tensors, metadata={"judge": json.dumps(header)}))


def load_judge(path: Path) -> tuple[Judge, dict[str, Any]]:
    """Returns the judge in eval mode and what was saved about it. Raises DataError when the file holds no judge."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["judge"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        judge = Judge(about["filters"], about["size"])
        judge.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise DataError(f"{path} holds no judge that can be loaded ({error}); run the stage judge again") from error
    return judge.eval(), about
