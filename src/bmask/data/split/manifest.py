"""The rows of the manifest: one for each file that was found, whether it is in the split or why it is not."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bmask.data.records import Photo
from bmask.data.split.dataset import open_array
from bmask.files import fresh_file

BLOCK = 1 << 20  # bytes


def write_manifest(photos: Iterable[Photo], folder: Path) -> None:
    """Writes `manifest.csv` and `rejected.csv`, with rows in the order of the photos."""
    header = ["domain", "name", "sha256", "width", "height", "group", "part", "index", "slices", "reason"]
    with ExitStack() as stack:
        rows, few = (_table(stack, folder / name) for name in ("manifest.csv", "rejected.csv"))
        rows.writerow(header)
        few.writerow(["domain", "name", "reason"])
        for p in photos:
            index = p.index if p.part else ""
            size = (p.width, p.height) if p.width else ("", "")
            slices = ";".join(p.slices)
            rows.writerow([p.entry.domain, p.entry.name, p.sha256, *size, p.group, p.part, index, slices, p.reason])
            if p.reason:
                few.writerow([p.entry.domain, p.entry.name, p.reason])


def digest(used: Iterable[Photo], folder: Path) -> str:
    """sha256 over parts, groups, labels and all stored pixels; names, times and paths are left out.

    Args:
        used: sorted by domain, part and index.
        folder: holds the arrays.
    """
    total = hashlib.sha256(b"[")  # of the rows as one text of JSON, which would be long
    for number, p in enumerate(used):
        row = json.dumps([p.entry.domain, p.part, p.index, p.sha256, p.group, *p.slices])
        total.update((", " * (number > 0) + row).encode())
    total.update(b"]")
    for path in sorted(folder.glob("*.npy")):
        array = open_array(path)
        total.update(f"{path.name} {array.shape}".encode())
        with open(path, "rb") as file:  # not through the mapping: its pages would count as memory
            file.seek(array.offset)
            while block := file.read(BLOCK):
                total.update(block)
    return total.hexdigest()


def _table(stack: ExitStack, path: Path) -> Any:
    temporary = stack.enter_context(fresh_file(path))
    return csv.writer(stack.enter_context(temporary.open("w", encoding="utf-8", newline="")), lineterminator="\n")
