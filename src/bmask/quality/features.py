"""The features for distances between sets: Inception's where torchvision's weights are cached, else the judge's.

Nothing is downloaded. The judge's distances carry its name (`judge_kid`, `judge_frechet`), because their values
are comparable only under one judge; Inception's are `kid` and `frechet`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from bmask.quality.judge import Judge

INCEPTION_FILE = "inception_v3_google-0cc3c7bd.pth"
BATCH = 64

Extract = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # photos (N, S, S, 3) -> features (N, D)


def extractor(judge: Judge, device: str = "cpu") -> tuple[str, Extract]:
    """Returns ("", Inception's features) where its weights are cached, else ("judge_", the judge's)."""
    path = inception_path()
    if not path.is_file():
        return "judge_", judge.photo_features
    network = inception(torch.load(path, map_location="cpu", weights_only=True)).to(device)
    return "", lambda photos: inception_features(network, photos, device)


def inception_path() -> Path:
    """Where torch keeps downloaded weights ($TORCH_HOME)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE


def inception(weights: dict[str, Tensor] | None = None) -> nn.Module:
    """torchvision's Inception v3 that ends in its 2048 pooled features; random weights without `weights`."""
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, transform_input=weights is not None, init_weights=False)
    if weights is not None:
        network.load_state_dict(weights)
    network.fc = nn.Identity()
    return network.eval()


@torch.inference_mode()
def inception_features(network: nn.Module, photos: NDArray[np.uint8], device: str = "cpu") -> NDArray[np.float32]:
    """uint8 (N, S, S, 3) -> (N, 2048): resized to 299 px (bilinear, antialiased) and normalised as ImageNet was."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    rows = []
    for start in range(0, len(photos), BATCH):
        batch = torch.from_numpy(np.array(photos[start : start + BATCH])).float() / 255
        batch = ((batch - mean) / std).permute(0, 3, 1, 2)
        batch = nn.functional.interpolate(batch, size=(299, 299), mode="bilinear", align_corners=False, antialias=True)
        rows.append(network(batch.to(device)).float().cpu().numpy())
    return np.concatenate(rows)
