"""Changes that photos often undergo, to plant changed copies: each is a function (photo, rng)."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from PIL import Image

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def compressed(photo: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(photo)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def cropped(photo: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """A window of the same aspect at a random place; each side loses `share` of the width or height on average."""
    height, width = photo.shape[:2]
    kept = round(height * (1 - 2 * share)), round(width * (1 - 2 * share))
    top, left = rng.integers(0, height - kept[0] + 1), rng.integers(0, width - kept[1] + 1)
    return photo[top : top + kept[0], left : left + kept[1]]


def unevenly_cropped(photo: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Each side loses a random part of 0 to 2 `share`, so that the aspect changes too."""
    height, width = photo.shape[:2]
    top, left = (round(side * rng.uniform(0, 2 * share)) for side in (height, width))
    bottom, right = (round(side * (1 - rng.uniform(0, 2 * share))) for side in (height, width))
    return photo[top:bottom, left:right]


def turned(
    photo: np.ndarray, rng: np.random.Generator, degrees: float, border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    height, width = photo.shape[:2]
    about = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees * rng.choice([-1, 1]), 1)
    return cv2.warpAffine(np.ascontiguousarray(photo), about, (width, height), borderMode=border)


def lit(photo: np.ndarray, contrast: float, brightness: float) -> np.ndarray:
    return np.clip((photo - 128.0) * contrast + 128 + brightness, 0, 255).astype(np.uint8)


def changes() -> dict[str, Change]:
    """The changes by name. After each, the copy is saved as JPEG of quality 85."""
    found: dict[str, Change] = {
        "JPEG, quality 30": lambda photo, rng: compressed(photo, 30),
        "mirrored": lambda photo, rng: photo[:, ::-1],
        "brightness ±40": lambda photo, rng: lit(photo, 1, rng.choice([-40, 40])),
        "contrast 0.7 or 1.4": lambda photo, rng: lit(photo, rng.choice([0.7, 1.4]), 0),
    }
    for share in (1, 3, 5, 10, 15):
        found[f"cropped {share} % a side"] = partial(cropped, share=share / 100)
    for share in (3, 5, 10):
        found[f"unevenly cropped {share} %"] = partial(unevenly_cropped, share=share / 100)
    for degrees in (1, 3, 5, 10, 15):
        found[f"turned {degrees}°, black corners"] = partial(turned, degrees=degrees)
    found["turned 10°, border continued"] = partial(turned, degrees=10, border=cv2.BORDER_REPLICATE)
    found["mirrored, turned 5°, cropped 5 %"] = lambda photo, rng: cropped(turned(photo[:, ::-1], rng, 5), rng, 0.05)
    return {name: partial(_saved, change=change) for name, change in found.items()}


def _saved(photo: np.ndarray, rng: np.random.Generator, change: Change) -> np.ndarray:
    return compressed(change(photo, rng), 85)
