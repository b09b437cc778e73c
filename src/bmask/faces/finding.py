"""Finds the faces of a photo: a look at the whole, more looks if that is unsure, close looks at small faces.

Tuned on 1714 real masked and 1718 unmasked photos. One look at the whole photo is sure in 91 % of the masked ones. In
the others, what three of six looks agreed on was nearly always a face; what a single look found with the same score was
often an ear, a hand or the pattern of a mask. A wrong face is worse than a missed one.
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

VERSION = 4  # of the results; raise it with every change, so that cached faces are found anew
SURE_SCORE = 0.5  # of a face that needs no other look
AGREEING_LOOKS, MEAN_SCORE = 3, 0.36  # other faces: the mean score of this many looks must reach 0.36
SAME = 0.4  # overlap of one face in two looks
CLOSE_BELOW = 0.25  # of the photo's longer side; a smaller face gets a close look, for more precise landmarks
CLOSE_SIDE = 3.0  # of a close look, in sides of the face's box; in less, the network misses blurred faces
CLOSE_SCORE = 0.25  # the least in a close look
LARGE_FACE = 0.3  # of the photo's longer side; beside such a face, small ones are not looked for
SMALL_FACE = 0.15  # of a look's side; if all faces are larger, no finer look follows
DIVISIONS = (2, 4)  # of the longer side, for finer looks; parts overlap by half, so that one has a face whole
EDGE = 0.03  # of a part's side; a face closer to the edge counts as cut
MIN_SIDE = 8  # px of the photo under the generator's square; the eyes are then 2.6 px apart


class Look(NamedTuple):
    """How the detector is shown a photo."""

    border: float = 0.25  # grey, share of the longer side on each side: the network misses faces that touch the edge
    mirrored: bool = False


FIRST = Look()
OTHERS = (Look(mirrored=True), Look(border=0.0), Look(border=0.75), Look(border=1.2), Look(border=1.2, mirrored=True))


def find_faces(photo: np.ndarray, file: Path | None = None, small: bool = False) -> list[Face]:
    """The faces in a photo, uint8 (H, W, 3) RGB, the most prominent (score times side) first; none if none is sure.

    Faces that bring less than MIN_SIDE px are left out. Deterministic.

    Args:
        file: replaces the installed weights.
        small: if no face is as large as LARGE_FACE, parts of the photo are searched for small ones, as in a group.
    """
    whole = np.array([0.0, 0.0, photo.shape[1], photo.shape[0]])
    seen = [_look(photo, whole, FIRST, file)]
    faces = [face for face in seen[0] if face.score >= SURE_SCORE]
    if not faces:
        seen += [_look(photo, whole, look, file) for look in OTHERS]
        faces = _agreed(seen)
    if small and all(max(face.box[2:]) < LARGE_FACE * max(photo.shape[:2]) for face in faces):
        faces = _with_small(photo, faces, file)
    near = [_close(photo, face, file) for face in faces]
    faces = [face for face in near if face and brought(face.landmarks) >= MIN_SIDE]
    # Again, because close looks can move two boxes of one face to the same place.
    return distinct(sorted(faces, key=lambda face: -face.score * np.sqrt(np.prod(face.box[2:]))), SAME)


def brought(landmarks: np.ndarray) -> float:
    """The resolution of a face: px of its photo under the side of the generator's square."""
    return 1 / scale_of(to_square(landmarks, 1, centre=1))


def _with_small(photo: np.ndarray, faces: list[Face], file: Path | None) -> list[Face]:
    """Adds faces that looks at overlapping squares of the photo are sure of; finer looks follow if any are small."""
    height, width = photo.shape[:2]
    longer = max(height, width)
    shown = SIZE / (1 + 2 * FIRST.border)  # px that a look gave to the longer side so far
    for division in DIVISIONS:
        if longer <= shown or (faces and min(max(face.box[2:]) for face in faces) > SMALL_FACE * SIZE / shown * longer):
            break
        side = longer / division
        corners = (np.arange(max(1, np.ceil(2 * length / side - 1))) * side / 2 for length in (height, width))
        parts = (np.array([left, top, side, side]) for top, left in product(*corners))
        seen = [
            face
            for part in parts
            for face in _look(photo, part, Look(border=0.0), file)
            if face.score >= SURE_SCORE and _whole(face, part, width, height)
        ]
        sure = sorted(seen, key=lambda face: -face.score)
        faces, shown = distinct([*faces, *sure], SAME), SIZE * division
    return faces


def _whole(face: Face, part: np.ndarray, width: int, height: int) -> bool:
    """Whether no inner edge of a part (left, top, side, side) cuts the face; a cut face is whole in another part."""
    edge = EDGE * part[2]
    low, high = face.box[:2] - part[:2], part[:2] + part[2:] - face.box[:2] - face.box[2:]
    outer = part[:2] <= 0, part[:2] + part[2:] >= (width, height)
    return bool(((low > edge) | outer[0]).all() and ((high > edge) | outer[1]).all())


def _agreed(seen: Sequence[list[Face]]) -> list[Face]:
    """Faces of several looks whose mean score in their AGREEING_LOOKS best looks is enough, with that score."""
    every = distinct(sorted(chain(*seen), key=lambda face: -face.score), SAME)
    scores = [[max((f.score for f in look if f.overlap(face) > SAME), default=0.0) for look in seen] for face in every]
    means = [float(np.mean(sorted(own)[-AGREEING_LOOKS:])) for own in scores]
    return [replace(face, score=mean) for face, mean in zip(every, means, strict=True) if mean >= MEAN_SCORE]


def _close(photo: np.ndarray, face: Face, file: Path | None) -> Face | None:
    """The face itself; if it is small in its photo, the same face in a close look, or None if that misses it."""
    side = max(face.box[2:])
    if side >= CLOSE_BELOW * max(photo.shape[:2]):
        return face
    middle = face.box[:2] + face.box[2:] / 2
    around = np.array([*(middle - CLOSE_SIDE * side / 2), CLOSE_SIDE * side, CLOSE_SIDE * side])
    again = [other for other in _look(photo, around, Look(border=0.0), file) if other.overlap(face) > SAME]
    return again[0] if again and again[0].score >= CLOSE_SCORE else None


def _look(photo: np.ndarray, part: np.ndarray, look: Look, file: Path | None) -> list[Face]:
    """The faces in a part of the photo (left, top, width, height), in coordinates of the photo."""
    scale = SIZE / (max(part[2:]) * (1 + 2 * look.border))
    shift = SIZE / 2 - scale * (part[:2] + part[2:] / 2)
    there = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    top, bottom, left, right = bounds(there, SIZE, *photo.shape[:2])
    here = np.array([[scale, 0, shift[0] + scale * left], [0, scale, shift[1] + scale * top]])
    picture = warp(photo[top:bottom, left:right], here, (SIZE, SIZE), GREY)  # all of a large photo would be slow
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
