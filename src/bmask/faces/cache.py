"""Caches found faces by the sha256 of the photo's file: finding them takes longer than the rest of ingest."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from bmask.faces.finding import VERSION
from bmask.progress import say

TABLE = "CREATE TABLE IF NOT EXISTS found (sha256 TEXT, version INT, face TEXT, PRIMARY KEY (sha256, version))"
WAIT = 30.0  # seconds, while another process writes


def place() -> Path:
    """The cache's file, one for all checkouts of this user: below XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bmask" / "faces.sqlite"


class Cache:
    """Numbers per photo in an SQLite file, which survives kills and serves several processes at a time.

    If the file cannot be used, one message says so, and the cache stays empty. To be used by one thread.
    """

    def __init__(self, path: Path | None = None):
        self._path = path or place()
        self._base: sqlite3.Connection | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._path, timeout=WAIT)
            self._base.execute(TABLE)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._base:
            self._base.close()

    def get(self, sha256: str) -> tuple[float, ...] | None:
        """The stored numbers of a photo; None if there are none."""
        if self._base is None:
            return None
        try:
            query = "SELECT face FROM found WHERE sha256 = ? AND version = ?"
            row = self._base.execute(query, (sha256, VERSION)).fetchone()
            return tuple(json.loads(row[0])) if row else None
        except (sqlite3.Error, ValueError) as error:
            self._give_up(error)
            return None

    def put(self, found: Sequence[tuple[str, tuple[float, ...]]]) -> None:
        """Stores numbers of photos, [(sha256, numbers)]: all of them or, after a kill, none."""
        if self._base is None:
            return
        try:
            with self._base:
                rows = [(sha256, VERSION, json.dumps(face)) for sha256, face in found]
                self._base.executemany("INSERT OR REPLACE INTO found VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        say(f"found faces are not cached: {self._path} cannot be used ({error}); remove it if it is damaged")
        if self._base:
            self._base.close()
            self._base = None
