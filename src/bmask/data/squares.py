"""The squares of all photos, and the arrays that they are sorted into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bmask.data.arrays import ArrayFile
from bmask.data.fingerprints import FINGERPRINT
from bmask.data.manifest import Photo
from bmask.data.matching import assign_sides
from bmask.data.parallel import in_chunks
from bmask.data.workers import Scratch, readers
from bmask.progress import bar
from bmask.sections import Ingest


@contextlib.contextmanager
def scratch_files(folder: Path, count: int, side: int) -> Iterator[Scratch]:
    """Files of squares and fingerprints that vanish with the block, and with the folder where the block fails."""
    with (
        ArrayFile(folder / "squares", (count, side, side, 3)) as squares,
        ArrayFile(folder / "fingerprints", (count, FINGERPRINT.itemsize)) as fingerprints,
    ):
        yield Scratch(squares, fingerprints)
    squares.path.unlink()
    fingerprints.path.unlink()


def read_squares(photos: list[Photo], files: Scratch, settings: Ingest) -> list[Photo]:
    """Decodes every photo once, as a rule, and stores its square and fingerprint. Returns the photos that are sound.

    The resolutions to match follow from the headers, before anything is decoded. Where pixels then turn out to be
    damaged, the photo drops out, the others' resolutions shift a little, and those that did are read again.

    Args:
        photos: with sizes, in an order that follows from their contents.
        files: with a row for each of them.
    """
    for row, photo in enumerate(photos):
        photo.row = row

    sound = photos
    with readers(len(photos), files, settings) as read:
        while changed := assign_sides(sound, settings):
            for _ in bar(in_chunks(read, changed), len(changed), "ingest: reading photos"):
                pass
            sound = [photo for photo in sound if not photo.reason]
    return sound


def write_parts(used: list[Photo], squares: ArrayFile, folder: Path) -> None:
    """Writes `{domain}_{part}.npy`: the photos' squares, each at its index."""
    parts: dict[str, list[Photo]] = {}
    for photo in used:
        parts.setdefault(f"{photo.entry.domain}_{photo.part}", []).append(photo)
    for name, photos in parts.items():
        with ArrayFile(folder / f"{name}.npy", (len(photos), *squares.shape[1:])) as array:
            for photo in photos:
                array.write(photo.index, squares.read(photo.row))
