"""Trains the mask finder on drawn masks, and finds masks on photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from bmask.data.split.dataset import resize, to_tensor
from bmask.gan.device import autocast, pick_precision
from bmask.pasting.finder import MaskFinder, attention, finding_loss
from bmask.progress import bar
from bmask.training.batches import Feed

if TYPE_CHECKING:
    from bmask.params.sections import Masks

CHUNK = 256  # photos
BARE_SHARE = 0.08  # of the drawn masks: made transparent, so that the finder also learns faces without one


def train_finder(
    photos: NDArray[np.uint8], drawn: NDArray[np.uint8], size: int, settings: Masks, device: torch.device
) -> MaskFinder:
    """Learns to find drawn masks on unmasked photos.

    Args:
        photos: uint8 (copies, N, S, S, 3); drawn: RGBA uint8 (M, S, S, 4).
        size: of the random crops, px.

    Returns:
        The finder in eval mode. The same arguments, threads and precision give the same bits on a CPU.
    """
    bare = drawn[None].copy()
    bare[:, : round(BARE_SHARE * len(drawn)), ..., 3] = 0
    arrays = {name: torch.from_numpy(array).to(device) for name, array in (("b", np.array(photos)), ("masks", bare))}
    feed = Feed({"pasted": 1.0}, arrays, size, settings.batch_size, settings.seed)
    precision = pick_precision("auto", device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        finder = MaskFinder(settings.filters).to(device)
    optimizer = torch.optim.Adam(finder.parameters(), lr=settings.lr, fused=True)
    for step in bar(range(settings.steps), what="masks: training the finder"):
        for group in optimizer.param_groups:  # constant for half of the steps, then linear to 0
            group["lr"] = settings.lr * min(1.0, 2 * (settings.steps - step) / settings.steps)
        batch = feed.at(step)
        with autocast(device, precision):
            logits = finder(batch["pasted"])
        finding_loss(logits, batch["region"]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return finder.eval()


def find(finder: MaskFinder, photos: NDArray[np.uint8], size: int, device: torch.device) -> NDArray[np.float32]:
    """Where the masks are: uint8 (N, S, S, 3) -> float32 (N, size, size) in [0, 1]."""
    parts = [np.zeros((0, size, size), np.float32)]
    for start in range(0, len(photos), CHUNK):
        batch = to_tensor(resize(photos[start : start + CHUNK], size)).to(device)
        parts.append(attention(finder, batch).cpu().numpy())
    return np.concatenate(parts)
