"""Writes and reads the manifest: one row for each file that was found, and for each further face,
with its split or the reason why it has none.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from bmask.data.catalog import numbers, several
from bmask.data.records import Entry, Photo
from bmask.data.split.dataset import open_array
from bmask.errors import DataError
from bmask.faces.alignment import to_square
from bmask.files import fresh_file

BLOCK = 1 << 20  # bytes
HEADER = ("domain", "name", "sha256", "width", "height", "group", "split", "index", "slices", "reason") + (
    "side",  # resolution that is kept, px
    "labels",  # the source's own
    "guessed",  # by the rules of slices.py
    # Only with `fit: face`:
    "score",  # the detector's, 0 to 1
    "landmarks",  # x and y of eyes, nose and mouth corners, px of the upright photo
    "transform",  # to the stored square, by rows: x' = t0 x + t1 y + t2, y' = t3 x + t4 y + t5, px (bmask.faces)
)


def write_manifest(photos: Iterable[Photo], folder: Path, load_size: int) -> None:
    """Writes `manifest.csv` and `rejected.csv`, with rows in the order of the photos."""
    with ExitStack() as stack:
        rows, rejected = (_table(stack, folder / name) for name in ("manifest.csv", "rejected.csv"))
        rows.writerow(HEADER)
        rejected.writerow(["domain", "name", "reason"])
        for p in photos:
            index = p.index if p.split else ""
            size = (p.width, p.height) if p.width else ("", "")
            slices, labels, guessed = map(";".join, (p.slices, p.entry.slices, p.guessed))
            row = [p.entry.domain, p.entry.name, p.sha256, *size, p.group, p.split, index, slices, p.reason]
            rows.writerow([*row, p.side or "", labels, guessed, *_face(p, load_size)])
            if p.reason:
                rejected.writerow([p.entry.domain, p.entry.name, p.reason])


def read_manifest(folder: Path) -> Iterator[Photo]:
    """Yields the photos that `write_manifest` stored in `manifest.csv`, without their paths and rows.

    Raises DataError if it is missing, damaged or of another version.
    """
    path = folder / "manifest.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                slices, labels, guessed = (several(row[name]) for name in ("slices", "labels", "guessed"))
                yield Photo(
                    Entry(row["domain"], row["name"], "", labels),
                    sha256=row["sha256"],
                    width=int(row["width"] or 0),
                    height=int(row["height"] or 0),
                    group=row["group"],
                    split=row["split"],
                    index=int(row["index"] or -1),
                    side=int(row["side"] or 0),
                    slices=slices,
                    guessed=guessed,
                    reason=row["reason"],
                    score=float(row["score"] or 0),
                    landmarks=numbers(row["landmarks"]),
                )
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run ingest again") from None
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged or of another version ({error}); run ingest again") from None


def digest(used: Iterable[Photo], folder: Path) -> str:
    """sha256 over splits, groups, labels and all stored pixels; names, times and paths are left out.

    Args:
        used: sorted by domain, split and index.
        folder: holds the arrays.
    """
    total = hashlib.sha256(b"[")  # over the rows as one JSON list, a row at a time to save memory
    for number, p in enumerate(used):
        row = json.dumps([p.entry.domain, p.split, p.index, p.sha256, p.group, *p.slices])
        total.update((", " * (number > 0) + row).encode())
    total.update(b"]")
    for path in sorted(folder.glob("*.npy")):
        array = open_array(path)
        total.update(f"{path.name} {array.shape}".encode())
        with open(path, "rb") as file:  # not through the memory map, whose pages would count as memory
            file.seek(array.offset)
            while block := file.read(BLOCK):
                total.update(block)
    return total.hexdigest()


def _face(photo: Photo, load_size: int) -> list[str]:
    transform = to_square(np.reshape(photo.landmarks, (-1, 2)), load_size).ravel() if photo.landmarks else ()
    numbers = (";".join(f"{n:.7g}" for n in row) for row in (photo.landmarks, transform))
    return [f"{photo.score:g}" if photo.score else "", *numbers]


def _table(stack: ExitStack, path: Path) -> Any:
    temporary = stack.enter_context(fresh_file(path))
    return csv.writer(stack.enter_context(temporary.open("w", encoding="utf-8", newline="")), lineterminator="\n")
