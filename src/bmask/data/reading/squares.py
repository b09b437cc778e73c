"""The squares of all photos, and the arrays that they are sorted into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.arrays import ArrayFile
from bmask.data.catalog import SOUND, USED, Catalog
from bmask.data.duplicates.fingerprints import FINGERPRINT
from bmask.data.reading.matching import assign_sides
from bmask.data.reading.workers import Readers, Scratch
from bmask.parallel import in_chunks
from bmask.progress import bar

if TYPE_CHECKING:
    from bmask.params.sections import Ingest


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


def read_squares(catalog: Catalog, files: Scratch, readers: Readers, settings: Ingest) -> None:
    """Decodes every photo once, as a rule, and stores its square and fingerprint, or the reason why it is refused.

    The resolutions to match follow from the headers, before anything is decoded. Where pixels then turn out to be
    damaged, the photo drops out, the others' resolutions shift a little, and those that did are read again.

    Args:
        files: with a row for each sound photo; rows are in an order that follows from the photos' contents.
    """
    numbers = catalog.column("number", np.int64, SOUND, "domain, sha256, name")
    catalog.assign("row", numbers, np.arange(len(numbers)))
    readers.open(files)
    match_resolutions(catalog, readers, settings)


def match_resolutions(catalog: Catalog, readers: Readers, settings: Ingest) -> None:
    """Reads the photos whose resolution changes with the set of sound ones, until none does; stores what is read."""
    while len(changed := assign_sides(catalog, settings)):
        with contextlib.closing(in_chunks(readers.read, catalog.at(changed))) as read:
            done = bar(read, len(changed), "ingest: reading photos")
            catalog.save(done, "width", "height", "side", "guessed", "reason")


def write_splits(catalog: Catalog, squares: ArrayFile, folder: Path) -> None:
    """Writes `{domain}_{split}.npy`: the photos' squares, each at its index."""
    for domain, split in catalog.counts("domain, split", USED):
        rows = catalog.column("row", np.int64, f"domain = '{domain}' AND split = '{split}'", '"index"')
        with ArrayFile(folder / f"{domain}_{split}.npy", (len(rows), *squares.shape[1:])) as array:
            for index, row in enumerate(rows.tolist()):
                array.write(index, squares.read(row))
