"""Squares that give away nothing of their domain but the mask: same framing, same distribution of resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bmask.data.catalog import SOUND, Catalog
from bmask.data.reading.framing import effective_side, frame, middle, recompress, resample, resample_image
from bmask.data.records import DOMAINS

if TYPE_CHECKING:
    from bmask.params.sections import Ingest


def assign_sides(catalog: Catalog, settings: Ingest) -> np.ndarray:
    """Fills in each photo's side: the resolution that it keeps, px, at most load_size.

    Photos that bring the same keep, in the order of their rows, what the quantiles around theirs say.

    Returns:
        int (n,), the numbers of those where it changed.
    """
    wanted = {domain: f"{SOUND} AND domain = '{domain}'" for domain in DOMAINS}
    numbers, before, width, height = (
        {domain: catalog.column(field, np.int64, wanted[domain], "row") for domain in DOMAINS}
        for field in ("number", "side", "width", "height")
    )
    sizes = {domain: zip(width[domain].tolist(), height[domain].tolist(), strict=True) for domain in DOMAINS}
    sides = {d: np.array([effective_side(*size, settings.fit) for size in sizes[d]], float) for d in DOMAINS}
    if settings.match_resolution and all(map(len, sides.values())):
        sides = matched_sides(sides)
    changed = []
    for domain in DOMAINS:
        kept = np.minimum(sides[domain].astype(np.int64), settings.load_size)
        here = kept != before[domain]
        catalog.assign("side", numbers[domain][here], kept[here])
        changed.append(numbers[domain][here])
    return np.concatenate(changed)


def matched_sides(brought: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which resolution each photo keeps so that all domains end with the same distribution.

    A photo at quantile q of its domain keeps what the domain that is poorest there has at q: the minimum over the
    domains of their quantile functions. So no photo is asked for more than it brings, and order is kept.

    Args:
        brought: {domain: float (N,)}, px.

    Returns:
        The same shape, px.
    """
    levels = {domain: (np.arange(len(sides)) + 0.5) / len(sides) for domain, sides in brought.items()}
    kept = {}
    for domain, sides in brought.items():
        quantiles = [np.interp(levels[domain], levels[other], np.sort(brought[other])) for other in brought]
        ranks = np.argsort(np.argsort(sides, kind="stable"), kind="stable")
        kept[domain] = np.min(quantiles, axis=0)[ranks]
    return kept


def square(photo: Image.Image, side: int, settings: Ingest) -> np.ndarray:
    """RGB image -> uint8 (S, S, 3), S = load_size: framed, reduced to `side`, re-compressed, enlarged again."""
    if settings.fit == "crop":
        pixels = np.asarray(resample_image(middle(photo), side))
    else:
        pixels = resample(frame(np.asarray(photo), settings.fit), side)
    if settings.jpeg_quality:  # at the resolution that is kept, where a camera's own compression lies
        pixels = recompress(pixels, settings.jpeg_quality)
    return resample(pixels, settings.load_size)


def region_square(region: np.ndarray, settings: Ingest) -> np.ndarray:
    """A mask region uint8 (H, W, 3) -> (S, S), 0 or 255, framed like the photo."""
    pixels = resample(frame(region, settings.fit), settings.load_size).max(-1)
    return np.where(pixels >= 128, 255, 0).astype(np.uint8)
