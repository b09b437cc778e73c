"""What is read of a photo's file: first its header, then, once, its pixels."""

from __future__ import annotations

import hashlib

import numpy as np

from bmask.data.groups import perceptual_hash
from bmask.data.manifest import Photo
from bmask.data.matching import square
from bmask.data.photos import decode, decode_with_size, stored_size
from bmask.data.sources import Entry
from bmask.errors import DataError
from bmask.sections import Ingest

# A shorter side, px, that suffices for the perceptual hash. It depends on nothing but the photo, or a photo's part
# would change with load_size. JPEG files decoded at a scale that keeps 64 px had another coarse hash than in full in
# 242 of 3432 real photos; at one that keeps 256 px none had, and four differed in one bit of 64.
ENOUGH = 256


def inspect(entry: Entry) -> Photo:
    """Reads a file without decoding it: its sha256 and size, or the reason why it is refused."""
    photo = Photo(entry, slices=entry.slices)
    try:
        if not entry.path.is_file():
            raise DataError("is no file, or a link that leads nowhere")
        content = entry.path.read_bytes()
        photo.sha256 = hashlib.sha256(content).hexdigest()
        photo.width, photo.height = stored_size(content)
    except (DataError, OSError) as error:
        photo.reason = _said(error)
    return photo


def read_square(photo: Photo, settings: Ingest) -> np.ndarray | None:
    """Decodes a photo: fills in its hash and its size after EXIF orientation, and gives its square at `photo.side`.

    Returns:
        uint8 (S, S, 3), S = load_size; None when the photo is refused, with the reason filled in.
    """
    try:
        content = photo.entry.path.read_bytes()
        pixels, (photo.width, photo.height) = decode_with_size(content, ENOUGH)
        photo.hash = perceptual_hash(pixels)
        if min(pixels.shape[:2]) < min(2 * photo.side, photo.width, photo.height):
            pixels = decode(content, 2 * photo.side)
    except (DataError, OSError) as error:
        photo.reason, photo.side = _said(error), 0
        return None
    return square(pixels, photo.side, settings)


def _said(error: DataError | OSError) -> str:
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
