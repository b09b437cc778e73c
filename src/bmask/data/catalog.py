"""All files and further faces that were found, one row each, in a database on disk: memory holds a few at a time."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bmask.data.arrays import blocks
from bmask.data.records import NO_FACE, OTHER_STATE, Entry, Photo
from bmask.parallel import batched

BLOCK = 500  # rows read or written at a time; SQLite takes at most 999 values in one statement
CACHE = 8192  # KB
FACELESS = f"reason = '{NO_FACE}'"
CONTRADICTING = f"reason = '{OTHER_STATE}'"
SOUND = "reason = ''"  # neither refused nor set aside
UNREFUSED = f"({SOUND} OR {FACELESS} OR {CONTRADICTING})"  # before near-duplicates are set aside
USED, REFUSED = "split != ''", f"\"group\" = '' AND NOT {UNREFUSED}"  # after the splits are assigned
GROUPS = 'DISTINCT "group"'
ASIDE = f"(\"group\" != '' OR {CONTRADICTING}) AND NOT {USED}"

_ENTRY = {"domain": "TEXT", "name": "TEXT", "path": "BLOB", "labels": "TEXT", "twin": "BLOB", "region": "BLOB"}
_FOUND = {
    **{"sha256": "TEXT", "width": "INT", "height": "INT", "side": "INT", "row": "INT"},
    **{"group": "TEXT", "split": "TEXT", "index": "INT", "slices": "TEXT", "guessed": "TEXT", "reason": "TEXT"},
    **{"face": "INT", "score": "REAL", "landmarks": "TEXT"},
}


class Catalog:
    """The rows of the manifest during ingest, in a temporary SQLite database that only one thread may use.

    SQLite keeps it in memory while it is small, then in a deleted file below TMPDIR. `where` and `order` are SQL over
    the fields of Photo and Entry (an entry's slices are `labels`); `number` counts the rows in the order of `add`.

    Raises:
        OSError: the disk is full; from every method.
    """

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE}"):
            self._run(f"PRAGMA {setting}")
        columns = ", ".join(f'"{name}" {kind} NOT NULL' for name, kind in (_ENTRY | _FOUND).items())
        self._run(f"CREATE TABLE photos (number INTEGER PRIMARY KEY, {columns})")
        self._run("BEGIN")  # never committed: the database is temporary

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, photos: Iterable[Photo]) -> None:
        names = ", ".join(f'"{name}"' for name in _ENTRY | _FOUND)
        marks = ", ".join("?" * len(_ENTRY | _FOUND))
        rows = ((*_of_entry(photo.entry), *(_stored(photo, name) for name in _FOUND)) for photo in photos)
        self._run_many(f"INSERT INTO photos ({names}) VALUES ({marks})", rows)

    def save(self, photos: Iterable[Photo], *fields: str) -> None:
        """Stores these fields of the photos."""
        changes = ", ".join(f'"{name}" = ?' for name in fields)
        rows = ((*(_stored(photo, name) for name in fields), photo.number) for photo in photos)
        self._run_many(f"UPDATE photos SET {changes} WHERE number = ?", rows)

    def assign(self, field: str, numbers: np.ndarray, values: np.ndarray) -> None:
        """Stores one value, number or text, for each of the photos int (n,)."""
        rows = zip(values.tolist(), numbers.tolist(), strict=True)
        self._run_many(f'UPDATE photos SET "{field}" = ? WHERE number = ?', rows)

    def copy(self, source: str, target: str, where: str) -> None:
        """Copies the values of one field to another."""
        self._run(f'UPDATE photos SET "{target}" = "{source}" WHERE {where}')

    def count(self, where: str = "1", of: str = "*") -> int:
        """Counts photos, or groups with `of=GROUPS`."""
        return next(self._rows(f"SELECT COUNT({of}) FROM photos WHERE {where}"))[0]

    def counts(self, by: str, where: str = "1", of: str = "*") -> Counter:
        """As `count`, by one field or several: {value or tuple of values: count}."""
        rows = self._rows(f"SELECT COUNT({of}), {by} FROM photos WHERE {where} GROUP BY {by}")
        return Counter({tuple(values) if len(values) > 1 else values[0]: count for count, *values in rows})

    def column(self, field: str, dtype: Any, where: str = "1", order: str = "number") -> np.ndarray:
        """One field, or an SQL expression, as an array (N,)."""
        found = self._rows(f"SELECT {field} FROM photos WHERE {where} ORDER BY {order}")
        return np.fromiter((value for (value,) in found), dtype)

    def photos(self, where: str = "1", order: str = "number") -> Iterator[Photo]:
        """Yields copies of the rows; rows may be saved meanwhile."""
        return self.at(self.column("number", np.int64, where, order))

    def at(self, numbers: np.ndarray) -> Iterator[Photo]:
        """As `photos`, for these numbers, int (n,), in their order."""
        names = ", ".join(f'"{name}"' for name in ("number", *_ENTRY, *_FOUND))
        for block in blocks(numbers, BLOCK):
            marks = ", ".join("?" * len(block))
            rows = self._rows(f"SELECT {names} FROM photos WHERE number IN ({marks})", block.tolist())
            found = {row[0]: row for row in rows}
            yield from (_photo(*found[number]) for number in block.tolist())

    def _run(self, statement: str) -> None:
        with _as_os_error():
            self._base.execute(statement)

    def _rows(self, statement: str, values: Sequence = ()) -> Iterator[tuple]:
        with _as_os_error():
            yield from self._base.execute(statement, values)

    def _run_many(self, statement: str, rows: Iterable[Sequence]) -> None:
        for block in batched(rows, BLOCK):  # whole blocks, since `rows` may itself query this database
            with _as_os_error():
                self._base.executemany(statement, block)


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Turns SQLite's errors of a full disk into OSError; SQLite calls some of them I/O errors."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise OSError(errno.ENOSPC, str(error), f"{_scratch()}/rows of the manifest") from error


def _scratch() -> str:
    """The folder of SQLite's temporary database; SQLite searches other folders than `tempfile`."""
    places = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
    return next((place for place in places if place and os.access(place, os.W_OK | os.X_OK)), ".")


def _of_entry(entry: Entry) -> tuple:
    path, twin, region = map(os.fsencode, (entry.path, entry.twin, entry.region))  # a path may be in any encoding
    return entry.domain, entry.name, path, ";".join(entry.slices), twin, region


def _stored(photo: Photo, field: str) -> Any:
    value = getattr(photo, field)
    return ";".join(map(str, value)) if isinstance(value, tuple) else value


def _photo(
    number: int, domain: str, name: str, path: bytes, labels: str, twin: bytes, region: bytes, *found: Any
) -> Photo:
    entry = Entry(domain, name, os.fsdecode(path), several(labels), os.fsdecode(twin), os.fsdecode(region))
    fields = dict(zip(_FOUND, found, strict=True))
    fields |= {"slices": several(fields["slices"]), "guessed": several(fields["guessed"])}
    fields["landmarks"] = numbers(fields["landmarks"])
    return Photo(entry, number=number, **fields)


def several(text: str) -> tuple[str, ...]:
    """The labels in a stored field."""
    return tuple(text.split(";")) if text else ()


def numbers(text: str) -> tuple[float, ...]:
    """The numbers in a stored field."""
    return tuple(map(float, several(text)))
