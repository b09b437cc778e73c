"""Finds the faces of a photo of any size, with a look at the whole, more looks where it is not sure, and a close one.

Tuned on 1714 real masked and 1718 unmasked photos. One look at the whole photo is sure of 91 % of the masked ones. Of
the others, what three of six looks agree on was a face in nearly all cases, and what a single look says with the same
score often was an ear, a hand or the pattern of a mask. A wrong face is worse than a lost one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmask.faces.alignment import GREY, apply, bounds, invert, scale_of, to_square, warp
from bmask.faces.network import SIZE, Face, detect, distinct

VERSION = 4  # of what is found; raised with every change, so that remembered faces are looked for again
SURE = 0.5  # score of a face that needs no other look
AGREE, THRESHOLD = 3, 0.36  # looks that must see any other, and their mean score
SAME = 0.4  # overlap of one face in two looks
CLOSE = 0.25  # a smaller face, share of the look's side, gets a close look: its landmarks are some px wide there
ROOM = 3.0  # side of a close look, shares of the face's box; closer, the network misses what is blurred
SEEN = 0.25  # least score there
LARGE = 0.3  # of the photo's longer side: beside a face as large, others are not looked for part by part
FINE = 0.15  # share of a look's side; where all faces are larger, there is no need of a finer one
DIVISIONS = (2, 4)  # of the longer side, for such looks: a part overlaps the next by half, so each face is whole in one
EDGE = 0.03  # of a part's side: a face as near to its edge is cut
SMALLEST = 8  # px of the photo under the generator's square; the eyes are then 2.6 px apart


class Look(NamedTuple):
    """How a photo is laid before the detector."""

    border: float = 0.25  # grey, share of the longer side on each side: the network misses faces that touch the edge
    mirrored: bool = False


FIRST = Look()
OTHERS = (Look(mirrored=True), Look(border=0.0), Look(border=0.75), Look(border=1.2), Look(border=1.2, mirrored=True))


def find_faces(photo: np.ndarray, file: Path | None = None, small: bool = False) -> list[Face]:
    """The faces in a photo, uint8 (H, W, 3) RGB, the most prominent first; none where there is none for sure.

    Prominent is what is large and clear: score times side. Faces that bring less than SMALLEST px are left out.
    Deterministic.

    Args:
        file: stands for the weights that are installed.
        small: where no face is LARGE, small ones are looked for in parts of the photo, as of a group of people.
    """
    whole = np.array([0.0, 0.0, photo.shape[1], photo.shape[0]])
    seen = [_look(photo, whole, FIRST, file)]
    faces = [face for face in seen[0] if face.score >= SURE]
    if not faces:
        seen += [_look(photo, whole, look, file) for look in OTHERS]
        faces = _agreed(seen)
    if small and all(max(face.box[2:]) < LARGE * max(photo.shape[:2]) for face in faces):
        faces = _with_small(photo, faces, file)
    near = [_close(photo, face, file) for face in faces]
    faces = [face for face in near if face and brought(face.landmarks) >= SMALLEST]
    # Distinct once more: a close look can bring two boxes of one face to the same place.
    return distinct(sorted(faces, key=lambda face: -face.score * np.sqrt(np.prod(face.box[2:]))), SAME)


def brought(landmarks: np.ndarray) -> float:
    """The resolution that a face brings: px of its photo under the side of the generator's square."""
    return 1 / scale_of(to_square(landmarks, 1, centre=1))


def _with_small(photo: np.ndarray, faces: list[Face], file: Path | None) -> list[Face]:
    """With the faces that looks at overlapping squares of the photo are sure of: smaller ones while there are some."""
    height, width = photo.shape[:2]
    longer = max(height, width)
    shown = SIZE / (1 + 2 * FIRST.border)  # px that a look gave to the longer side so far
    for division in DIVISIONS:
        if longer <= shown or (faces and min(max(face.box[2:]) for face in faces) > FINE * SIZE / shown * longer):
            break
        side = longer / division
        corners = (np.arange(max(1, np.ceil(2 * length / side - 1))) * side / 2 for length in (height, width))
        parts = (np.array([left, top, side, side]) for top, left in product(*corners))
        seen = [
            face
            for part in parts
            for face in _look(photo, part, Look(border=0.0), file)
            if face.score >= SURE and _whole(face, part, width, height)
        ]
        sure = sorted(seen, key=lambda face: -face.score)
        faces, shown = distinct([*faces, *sure], SAME), SIZE * division
    return faces


def _whole(face: Face, part: np.ndarray, width: int, height: int) -> bool:
    """Whether no inner edge of a part (left, top, side, side) cuts the face; then another part shows all of it."""
    edge = EDGE * part[2]
    low, high = face.box[:2] - part[:2], part[:2] + part[2:] - face.box[:2] - face.box[2:]
    outer = part[:2] <= 0, part[:2] + part[2:] >= (width, height)
    return bool(((low > edge) | outer[0]).all() and ((high > edge) | outer[1]).all())


def _agreed(seen: Sequence[list[Face]]) -> list[Face]:
    """Faces of several looks with the mean score of the AGREE looks that see them best, where it is enough."""
    every = distinct(sorted(chain(*seen), key=lambda face: -face.score), SAME)
    scores = [[max((f.score for f in look if f.overlap(face) > SAME), default=0.0) for look in seen] for face in every]
    means = [float(np.mean(sorted(own)[-AGREE:])) for own in scores]
    return [replace(face, score=mean) for face, mean in zip(every, means, strict=True) if mean >= THRESHOLD]


def _close(photo: np.ndarray, face: Face, file: Path | None) -> Face | None:
    """The face itself; where it is small in its photo, what a close look sees of it, if anything."""
    side = max(face.box[2:])
    if side >= CLOSE * max(photo.shape[:2]):
        return face
    middle = face.box[:2] + face.box[2:] / 2
    around = np.array([*(middle - ROOM * side / 2), ROOM * side, ROOM * side])
    again = [other for other in _look(photo, around, Look(border=0.0), file) if other.overlap(face) > SAME]
    return again[0] if again and again[0].score >= SEEN else None


def _look(photo: np.ndarray, part: np.ndarray, look: Look, file: Path | None) -> list[Face]:
    """The faces in a part of the photo (left, top, width, height), in coordinates of the photo."""
    scale = SIZE / (max(part[2:]) * (1 + 2 * look.border))
    shift = SIZE / 2 - scale * (part[:2] + part[2:] / 2)
    there = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    top, bottom, left, right = bounds(there, SIZE, *photo.shape[:2])
    here = np.array([[scale, 0, shift[0] + scale * left], [0, scale, shift[1] + scale * top]])
    picture = warp(photo[top:bottom, left:right], here, (SIZE, SIZE), GREY)  # all of a large photo would take long
    if look.mirrored:
        picture = np.ascontiguousarray(picture[:, ::-1])
    return [_moved(_mirrored(face) if look.mirrored else face, invert(there)) for face in detect(picture, file)]


def _mirrored(face: Face) -> Face:
    left, top, width, height = face.box
    marks = face.landmarks * [-1, 1] + [SIZE, 0]
    return replace(face, box=np.array([SIZE - left - width, top, width, height]), landmarks=marks[[1, 0, 2, 4, 3]])


def _moved(face: Face, back: np.ndarray) -> Face:
    corner = apply(back, face.box[None, :2])[0]
    size = face.box[2:] * scale_of(back)
    return replace(face, box=np.concatenate([corner, size]), landmarks=apply(back, face.landmarks))
