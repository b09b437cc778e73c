"""Makes squares whose domains differ only by the mask: same framing, same distribution of resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bmask.data.catalog import SOUND, Catalog, numbers
from bmask.data.reading.framing import effective_side, frame, middle, recompress, resample, resample_image
from bmask.data.records import DOMAINS, Photo
from bmask.faces.alignment import align, scale_of, to_square, warp

if TYPE_CHECKING:
    from bmask.params.sections import Ingest


def assign_sides(catalog: Catalog, settings: Ingest) -> np.ndarray:
    """Fills in each photo's side: the resolution that it keeps, px, at most load_size.

    Photos of equal resolution take neighbouring quantiles, in the order of their rows.

    Returns:
        int (n,), the numbers of the photos whose side changed.
    """
    wanted = {domain: f"{SOUND} AND domain = '{domain}'" for domain in DOMAINS}
    number, before = (
        {domain: catalog.column(field, np.int64, wanted[domain], "row") for domain in DOMAINS}
        for field in ("number", "side")
    )
    sides = {domain: _brought(catalog, wanted[domain], settings.fit) for domain in DOMAINS}
    if settings.match_resolution and all(map(len, sides.values())):
        sides = matched_sides(sides)
    changed = []
    for domain in DOMAINS:
        kept = np.minimum(sides[domain].astype(np.int64), settings.load_size)
        here = kept != before[domain]
        catalog.assign("side", number[domain][here], kept[here])
        changed.append(number[domain][here])
    return np.concatenate(changed)


def brings(photo: Photo, fit: str) -> float:
    """A photo's own resolution: how many of its px the side of its stored square covers."""
    if fit == "face":
        return face_side(photo.landmarks)
    return effective_side(photo.width, photo.height, fit)


def face_side(landmarks: tuple[float, ...]) -> float:
    """As `brings`, for a face with these landmarks, as in Photo."""
    return 1 / scale_of(to_square(points(landmarks), 1))


def points(landmarks: tuple[float, ...]) -> np.ndarray:
    """Landmarks as in Photo -> float (5, 2)."""
    return np.reshape(landmarks, (-1, 2))


def _brought(catalog: Catalog, where: str, fit: str) -> np.ndarray:
    """`brings` for many photos, float (N,), in the order of their rows."""
    if fit == "face":
        return np.array([face_side(numbers(text)) for text in catalog.column("landmarks", object, where, "row")], float)
    width, height = (catalog.column(field, np.int64, where, "row") for field in ("width", "height"))
    return effective_side(width, height, fit).astype(float)


def matched_sides(brought: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The resolution that each photo keeps, so that all domains have the same distribution of resolutions.

    A photo at quantile q of its domain keeps the smallest resolution that any domain has at q. So no photo keeps more
    than it has, and the order of photos stays the same.

    Args:
        brought: {domain: float (N,)}, the photos' own resolutions, px.

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


def square(image: Image.Image, photo: Photo, settings: Ingest) -> np.ndarray:
    """RGB image -> uint8 (S, S, 3), S = load_size: framed, reduced to photo.side, re-compressed, enlarged to S.

    Args:
        image: the photo, or another picture of the same scene, at any scale.
    """
    if settings.fit == "face":
        pixels = align(np.asarray(image), _transform(image.size, photo, photo.side), photo.side)
    elif settings.fit == "pad":
        pixels = resample(frame(np.asarray(image), settings.fit), photo.side)
    else:
        pixels = np.asarray(resample_image(middle(image), photo.side))
    if settings.jpeg_quality:  # before enlarging, as a camera would compress it
        pixels = recompress(pixels, settings.jpeg_quality)
    return resample(pixels, settings.load_size)


def region_square(region: np.ndarray, photo: Photo, settings: Ingest) -> np.ndarray:
    """A mask region uint8 (H, W, 3) -> (S, S), 0 or 255, framed like the photo."""
    if settings.fit == "face":
        transform = _transform(region.shape[1::-1], photo, settings.load_size)
        pixels = warp(region, transform, (settings.load_size,) * 2, 0).max(-1)
    else:
        pixels = resample(frame(region, settings.fit), settings.load_size).max(-1)
    return np.where(pixels >= 128, 255, 0).astype(np.uint8)


def _transform(size: tuple[int, int], photo: Photo, side: int) -> np.ndarray:
    """The affine map from a picture of the photo with this (width, height) to a stored square of this side."""
    return to_square(points(photo.landmarks) * np.divide(size, (photo.width, photo.height)), side)
