"""The judge: a small network that says whether a face shows no mask, and gives features for distances."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bmask.errors import DataError
from bmask.files import write_bytes

LARGEST = 128  # px; masks are plain to see at this size, and the judge stays quick beside generators of larger pictures
BATCH = 64


class Judge(nn.Module):
    """Four stages that each halve the picture, then global average pooling and one logit.

    The first stage is one 5x5 convolution, the others are two of 3x3; each with batch norm and ReLU.

    Args:
        filters: channels of the first stage; the later ones have 2, 4 and 4 times as many.
        size: side of the pictures it looks at, px; others are resized to it.
    """

    scale: Tensor

    def __init__(self, filters: int = 24, size: int = 64) -> None:
        super().__init__()
        self.filters, self.size = filters, size
        widths = (filters, 2 * filters, 4 * filters, 4 * filters)
        stages = [_convolution(3, filters, 5, stride=2)]
        for narrow, wide in itertools.pairwise(widths):
            stages += [_convolution(narrow, wide, 3, stride=2), _convolution(wide, wide, 3)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(widths[-1], 1))
        self.register_buffer("scale", torch.ones(()))  # brings features to a mean square of 1 on real photos
        self.to(memory_format=torch.channels_last)  # twice as fast on CPUs

    def forward(self, x: Tensor) -> Tensor:
        """float (N, 3, size, size) in [-1, 1] -> logits (N,); above 0 the face shows no mask."""
        return self.head(self.pooled(x))[:, 0]

    def pooled(self, x: Tensor) -> Tensor:
        """The features before the last layer, (N, 4 * filters), unscaled."""
        return self.stages(x).mean(dim=(2, 3))

    def unmasked(self, photos: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probability that each photo shows a face without a mask: uint8 (N, S, S, 3) -> (N,) in [0, 1].

        It is that of the mean logit of the photo and its mirror image.
        """
        return self._each(photos, lambda x: torch.sigmoid((self(x) + self(x.flip(3))) / 2)).astype(np.float64)

    def photo_features(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scaled features for distances: uint8 (N, S, S, 3) -> (N, 4 * filters)."""
        return self._each(photos, lambda x: self.pooled(x) * self.scale)

    @torch.inference_mode()
    def _each(self, photos: NDArray[np.uint8], function: Callable[[Tensor], Tensor]) -> NDArray:
        from bmask.data.split.dataset import resize, to_tensor

        self.eval()
        batches = [resize(photos[i : i + BATCH], self.size) for i in range(0, len(photos), BATCH)]
        return np.concatenate([function(to_tensor(batch)).numpy() for batch in batches])


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def save_judge(path: Path, judge: Judge, about: dict[str, Any]) -> None:
    """One safetensors file; the JSON in its header rebuilds the network and carries `about`."""
    from safetensors.torch import save

    header = {"filters": judge.filters, "size": judge.size, **about}
    tensors = {name: tensor.contiguous() for name, tensor in judge.state_dict().items()}
    write_bytes(path, save(tensors, metadata={"judge": json.dumps(header)}))


def load_judge(path: Path) -> tuple[Judge, dict[str, Any]]:
    """Returns the judge in eval mode and what was saved about it. Raises DataError when the file holds no judge."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["judge"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path} holds no judge ({error}); run the stage judge first") from error
    judge = Judge(about["filters"], about["size"])
    judge.load_state_dict(tensors)
    return judge.eval(), about
