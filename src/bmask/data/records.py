"""What all rooms of data/ share: the domains, the splits of a dataset, and the record of a photo on its way into it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bmask.errors import DataError

DOMAINS = ("masked", "unmasked")  # canonical roles: domain a and domain b of every translation system
SPLITS = ("train", "validation", "test")
NO_FACE = "no face found"  # a reason: such a photo is not refused, since whoever counts masks has to count it
# A reason of a face that is not its photo's most prominent one: of a bystander with a mask among people without, say.
OTHER_STATE = "set aside: wears a mask where its folder says none, or none where its folder says one"
MAX_BYTES = 1 << 28  # of a photo's file; it is read whole


def lfs_hint(content: bytes) -> str:
    """What a file is that git put in the place of another one, and the remedy; empty for any other file."""
    pointer = content.startswith(b"version https://git-lfs")
    return "is a pointer of Git LFS and not the file itself; run `git lfs pull` where it comes from" if pointer else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that should be a photo. `name` is its path below the domain folder, with slashes, fit to be printed."""

    domain: str  # masked or unmasked; empty for a refused one that lies in neither
    name: str
    path: str  # no Path, which takes ten times the memory of its text
    slices: tuple[str, ...] = ()
    twin: str = ""  # the same picture without the mask; evaluation only
    region: str = ""  # where the mask is, 255 in a grey picture
    refused: str = ""  # why the source cannot give it; then nothing lies at `path`

    def read(self) -> bytes:
        """The file's content. Raises DataError with the reason alone when it cannot be read or is no plain file."""
        if self.refused:
            raise DataError(self.refused)
        try:
            if not os.path.isfile(self.path):  # nor a pipe, which would be waited for
                raise DataError("is no file, or a link that leads nowhere")
            if (size := os.stat(self.path).st_size) > MAX_BYTES:
                raise DataError(f"has {size} bytes; a photo has at most {MAX_BYTES}")
            with open(self.path, "rb", buffering=0) as file:
                return file.readall()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from None


@dataclass(slots=True)
class Photo:
    """A file on its way into the dataset; the manifest has one row for each."""

    entry: Entry
    number: int = -1  # in the catalog
    sha256: str = ""
    width: int = 0
    height: int = 0
    group: str = ""
    split: str = ""
    row: int = -1  # in the files of all squares and fingerprints, while ingest runs
    index: int = -1  # row in the array of its domain and split
    side: int = 0  # effective resolution after matching, px
    face: int = 1  # place of the face among those of its photo, by how prominent they are
    score: float = 0.0  # of its face, 0 to 1, where photos are framed by their faces
    landmarks: tuple[float, ...] = ()  # of its face: x and y of five points, px of the upright photo (bmask.faces)
    further: tuple[float, ...] = ()  # score and landmarks of its other faces in a row, until these are rows themselves
    slices: tuple[str, ...] = ()  # labels: the source's own, or by the rules of slices.py
    guessed: tuple[str, ...] = ()  # what the rules say, whether it was used or not
    reason: str = ""  # why it is in no split
