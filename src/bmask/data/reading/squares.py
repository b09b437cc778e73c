"""Reads the squares of all photos, and sorts them into the arrays of domains and splits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.arrays import ArrayFile
from bmask.data.catalog import SOUND, USED, Catalog
from bmask.data.duplicates.signatures import SIGNATURE
from bmask.data.reading.matching import assign_sides
from bmask.data.reading.workers import Readers, Scratch
from bmask.parallel import in_chunks
from bmask.progress import bar

if TYPE_CHECKING:
    from bmask.params.sections import Ingest


@contextlib.contextmanager
def scratch_files(folder: Path, count: int, side: int) -> Iterator[Scratch]:
    """Yields files of squares and signatures and removes them; after an error, the caller removes the folder."""
    with (
        ArrayFile(folder / "squares", (count, side, side, 3)) as squares,
        ArrayFile(folder / "signatures", (count, SIGNATURE.itemsize)) as signatures,
    ):
        yield Scratch(squares, signatures)
    squares.path.unlink()
    signatures.path.unlink()


def read_squares(catalog: Catalog, files: Scratch, readers: Readers, settings: Ingest) -> None:
    """Decodes every photo and stores its square and signature, or the reason why it is refused.

    Resolutions are matched by the files' headers, before decoding. If a photo then turns out to be damaged, it is
    refused, the others' resolutions shift a little, and the photos whose resolution changed are decoded again.

    Args:
        files: with a row for each sound photo, in the order of domain and content.
    """
    numbers = catalog.column("number", np.int64, SOUND, "domain, sha256, face, name")
    catalog.assign("row", numbers, np.arange(len(numbers)))
    readers.open(files)
    match_resolutions(catalog, readers, settings)


def match_resolutions(catalog: Catalog, readers: Readers, settings: Ingest) -> None:
    """Matches resolutions and reads the photos whose resolution changed, until none changes."""
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
