"""The first look at a file: what its photo measures and looks like, or why it is refused."""

from __future__ import annotations

import hashlib

from bmask.data.groups import perceptual_hash
from bmask.data.manifest import Photo
from bmask.data.photos import decode_with_size
from bmask.data.sources import Entry
from bmask.errors import DataError


def inspect(entry: Entry) -> Photo:
    """Reads a file once: its sha256, full size and perceptual hash, or the reason why it is refused."""
    photo = Photo(entry)
    try:
        content = entry.read()
        photo.sha256 = hashlib.sha256(content).hexdigest()
        pixels, (photo.width, photo.height) = decode_with_size(content, enough=64)
        photo.hash = perceptual_hash(pixels)
    except DataError as error:
        photo.reason = str(error)
    return photo
