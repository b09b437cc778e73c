"""The pictures that are scored: translations of the test photos, composited as in serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmask.errors import DataError
from bmask.progress import bar

if TYPE_CHECKING:
    from torch import nn

    from bmask.data.split.dataset import Dataset

BATCH = 64

Photos = NDArray[np.uint8]
Attention = NDArray[np.float32]
# uint8 (N, S, S, 3) -> the translated pictures, uint8 or float in [-1, 1], and the attention (N, S, S) or None
Translate = Callable[[Photos], tuple[NDArray, Attention | None]]


class Rendered(NamedTuple):
    """What went into a translation and what came out."""

    photos: Photos  # (N, S, S, 3) as the generator saw them
    images: Photos  # (N, S, S, 3) the composites
    attention: Attention | None  # (N, S, S) opacity of the translation: attention above the threshold


Render = Callable[[Photos], Rendered]


def translator(generator: nn.Module, device: str = "cpu", faces: bool = False) -> Translate:
    """A generator as a function of uint8 pictures. The generator is moved to the device."""
    from bmask.data.split.dataset import to_tensor
    from bmask.gan.inference import translate as run
    from bmask.serving.compositing import settled

    generator = generator.to(device).eval()

    def translate(photos: Photos) -> tuple[NDArray[np.float32], Attention | None]:
        image, attention, *_ = run(generator, to_tensor(photos).to(device))
        pictures = image.float().permute(0, 2, 3, 1).cpu().numpy()
        if attention is None:
            return pictures, None
        found = attention[:, 0].float().cpu().numpy()
        return pictures, np.stack([settled(own) for own in found]) if faces else found

    return translate


def require_photos(dataset: Dataset, split: str) -> None:
    """Raises DataError when the split has fewer than two masked or unmasked photos."""
    for domain in ("masked", "unmasked"):
        if (count := len(dataset.photos(domain, split))) < 2:
            raise DataError(f"the {split} split has {count} {domain} photos and scores need 2; give ingest more photos")


def rendered(translate: Translate, photos: Photos, threshold: float, what: str = "translate") -> Rendered:
    """What serving would return for framed photos (N, S, S, 3); `what` names the progress bar.

    Exception: for systems without attention, serving takes an oval around each face, and this the whole square.
    """
    from bmask.serving.compositing import composite, opacity

    images, weights = np.empty_like(photos), []
    for start in bar(range(0, len(photos), BATCH), what=what):
        batch = photos[start : start + BATCH]
        pictures, attention = translate(batch)
        masks = [None] * len(batch) if attention is None else attention
        for i, (photo, picture, mask) in enumerate(zip(batch, pictures, masks, strict=True), start):
            images[i] = composite(photo, photo, picture, mask, threshold)
            weights += [] if mask is None else [opacity(photo.shape, mask, threshold)]
    return Rendered(photos, images, np.stack(weights) if weights else None)


def renderer(translate: Translate, threshold: float, what: str = "translate") -> Render:
    """`rendered` as a function of photos alone."""
    return lambda photos: rendered(translate, photos, threshold, what)


def resize_regions(regions: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    """Mask regions 0/255 (N, S, S) at `size` px; every pixel that the mask touches belongs to it."""
    import cv2

    return np.stack([cv2.resize(np.asarray(r), (size, size), interpolation=cv2.INTER_AREA) > 0 for r in regions])
