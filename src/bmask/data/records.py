"""What all folders of data/ share: the domains, the splits, and the record of a photo during ingest."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bmask.errors import DataError

DOMAINS = ("masked", "unmasked")  # canonical roles: domain a and domain b of every translation system
SPLITS = ("train", "validation", "test")
NO_FACE = "no face found"  # a reason, but the photo is not refused: evaluation counts its mask as left
# The reason of a face that is not its photo's most prominent one, such as a masked bystander in an unmasked photo.
OTHER_STATE = "set aside: wears a mask where its folder says none, or none where its folder says one"
MAX_BYTES = 1 << 28  # of a photo's file, which is read into memory at once


def lfs_hint(content: bytes) -> str:
    """Says that a file is a Git LFS pointer, with the remedy; empty for any other file."""
    pointer = content.startswith(b"version https://git-lfs")
    return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository" if pointer else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that should be a photo. `name` is its path below the domain folder, with slashes, printable."""

    domain: str  # masked or unmasked; empty for a refused file outside both folders
    name: str
    path: str  # not a Path, which takes ten times the memory of a str
    slices: tuple[str, ...] = ()
    twin: str = ""  # the same picture without the mask; evaluation only
    region: str = ""  # where the mask is, 255 in a grey picture
    refused: str = ""  # why the source cannot provide it; then there is no file at `path`

    def read(self) -> bytes:
        """The file's content. Raises DataError, with the reason alone, if it is unreadable or no regular file."""
        if self.refused:
            raise DataError(self.refused)
        try:
            if not os.path.isfile(self.path):  # a pipe would block
                raise DataError("is not a regular file, or is a broken link")
            if (size := os.stat(self.path).st_size) > MAX_BYTES:
                raise DataError(f"has {size} bytes; a photo has at most {MAX_BYTES}")
            with open(self.path, "rb", buffering=0) as file:
                return file.readall()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from None


@dataclass(slots=True)
class Photo:
    """A row of the manifest during ingest: a photo, or one face of it."""

    entry: Entry
    number: int = -1  # in the catalog
    sha256: str = ""
    width: int = 0
    height: int = 0
    group: str = ""
    split: str = ""
    row: int = -1  # in the scratch files of squares and signatures, during ingest
    index: int = -1  # row in the array of its domain and split
    side: int = 0  # effective resolution after matching, px
    face: int = 1  # rank of the face in its photo; 1 is the most prominent
    score: float = 0.0  # the face detector's, 0 to 1; only with `fit: face`
    landmarks: tuple[float, ...] = ()  # of the face: x and y of five points, px of the upright photo (bmask.faces)
    further: tuple[float, ...] = ()  # scores and landmarks of its other faces, until each gets a row of its own
    slices: tuple[str, ...] = ()  # labels: the source's own, or by the rules of slices.py
    guessed: tuple[str, ...] = ()  # labels by the rules of slices.py, used or not
    reason: str = ""  # why it is in no split
