"""What is read of a photo's file: first its header, then, once, its pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.duplicates.fingerprints import fingerprint
from bmask.data.reading.decoding import decode_image, stored_size
from bmask.data.reading.matching import brings, square
from bmask.data.records import NO_FACE, Entry, Photo
from bmask.errors import DataError
from bmask.faces.finding import find_faces
from bmask.faces.network import Face

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

# A shorter side, px, that suffices for the perceptual hash. It depends on nothing but the photo, or a photo's part
# would change with load_size. JPEG files decoded at a scale that keeps 64 px had another coarse hash than in full in
# 242 of 3432 real photos; at one that keeps 256 px none had, and four differed in one bit of 64.
ENOUGH = 256
FACE = 11  # numbers of a face: its score, and x and y of five landmarks


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

    What is found depends on the photo alone, as its fingerprint does.
    """
    try:
        image, (photo.width, photo.height) = decode_image(photo.entry.read(), ENOUGH)
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
    """Fills in score and landmarks of the first face, and `further` with those of the others.

    Args:
        numbers: FACE numbers a face, as `find_face` and the cache know them.
    """
    photo.score, *marks = numbers[:FACE]
    photo.landmarks, photo.further = tuple(marks), tuple(numbers[FACE:])


def _numbers(face: Face, scale: Sequence[float]) -> list[float]:
    return [round(face.score, 3), *(face.landmarks * scale).ravel().round(2).tolist()]


def read_square(photo: Photo, settings: Ingest) -> tuple[np.ndarray, np.void] | None:
    """Decodes a photo: fills in its upright size, and gives its square at `photo.side` and its fingerprint.

    Returns:
        uint8 (S, S, 3), S = load_size, and one FINGERPRINT; None when the photo is refused, with the reason filled in.
    """
    try:
        content = photo.entry.read()
        image, (photo.width, photo.height) = decode_image(content, ENOUGH)
        known = fingerprint(np.asarray(image.convert("L")))
        shorter = min(photo.width, photo.height)
        enough = math.ceil(2 * photo.side * max(1, shorter / brings(photo, settings.fit)))
        if min(image.size) < min(enough, shorter):
            image = decode_image(content, enough)[0]
    except DataError as error:
        photo.reason, photo.side = str(error), 0
        return None
    return square(image, photo, settings), known
