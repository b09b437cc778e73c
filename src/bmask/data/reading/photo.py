"""Reads a photo's file: first its header, then, once, its pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.duplicates.signatures import signature
from bmask.data.reading.decoding import decode_image, stored_size
from bmask.data.reading.matching import brings, square
from bmask.data.records import NO_FACE, Entry, Photo
from bmask.errors import DataError
from bmask.faces.finding import find_faces
from bmask.faces.network import Face

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

# Photos are decoded with at least this shorter side, px, to hash them and to find faces. It must not depend on
# load_size, or a photo's split would. Of 3432 real photos, 242 had another coarse hash when JPEG was decoded at a scale
# that keeps 64 px instead of in full; none at one that keeps 256 px, where four hashes differed in one bit of 64.
MIN_DECODED = 256
FACE_NUMBERS = 11  # of a face: its score, and x and y of five landmarks


def inspect(entry: Entry) -> Photo:
    """Reads a file without decoding it: its sha256 and size, or the reason why it is refused."""
    photo = Photo(entry, slices=entry.slices)
    try:
        content = entry.read()
        photo.sha256 = hashlib.sha256(content).hexdigest()
        photo.width, photo.height = stored_size(content)
    except DataError as error:
        photo.reason = str(error)
    return photo


def find_face(photo: Photo) -> Photo:
    """Decodes a photo and fills in its upright size and the scores and landmarks of its faces, or why there are none.

    The result depends on the photo alone, as its signature does.
    """
    try:
        image, (photo.width, photo.height) = decode_image(photo.entry.read(), MIN_DECODED)
    except DataError as error:
        photo.reason = str(error)
        return photo
    faces = find_faces(np.asarray(image))
    if faces:
        scale = [photo.width / image.width, photo.height / image.height]
        take_faces(photo, [n for face in faces for n in _numbers(face, scale)])
    else:
        photo.reason = NO_FACE
    return photo


def take_faces(photo: Photo, numbers: Sequence[float]) -> None:
    """Fills in the score and landmarks of the first face, and those of the others as `further`.

    Args:
        numbers: FACE_NUMBERS for each face, as `find_face` and the cache store them.
    """
    photo.score, *marks = numbers[:FACE_NUMBERS]
    photo.landmarks, photo.further = tuple(marks), tuple(numbers[FACE_NUMBERS:])


def _numbers(face: Face, scale: Sequence[float]) -> list[float]:
    return [round(face.score, 3), *(face.landmarks * scale).ravel().round(2).tolist()]


def read_square(photo: Photo, settings: Ingest) -> tuple[np.ndarray, np.void] | None:
    """Decodes a photo, fills in its upright size, and returns its square at `photo.side` and its signature.

    Returns:
        uint8 (S, S, 3), S = load_size, and one SIGNATURE; None if the photo is refused, with the reason filled in.
    """
    try:
        content = photo.entry.read()
        image, (photo.width, photo.height) = decode_image(content, MIN_DECODED)
        known = signature(np.asarray(image.convert("L")))
        shorter = min(photo.width, photo.height)
        needed = math.ceil(2 * photo.side * max(1, shorter / brings(photo, settings.fit)))
        if min(image.size) < min(needed, shorter):
            image = decode_image(content, needed)[0]
    except DataError as error:
        photo.reason, photo.side = str(error), 0
        return None
    return square(image, photo, settings), known
