"""What a source holds: names and the files behind them. A name never becomes a path, so none can lead anywhere."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bmask.errors import DataError

CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}  # what file managers leave behind; hidden names are left out too


@dataclass
class Listing:
    """Files by name, below the source's root and with slashes. Names of no encoding hold surrogates, as Python's do."""

    files: dict[str, Path] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)  # the name of what cannot be given, and the reason
    folders: set[str] = field(default_factory=set)  # known without a file in them

    def unwrapped(self, parts: Iterable[str]) -> Listing:
        """Without the one folder at the root that holds everything, unless one of `parts` lies at the root."""
        tops = {top for name in self.files if not is_clutter(top := name.partition("/")[0])}
        starts = tuple(f"{part.rstrip('/')}/" for part in parts)
        if len(tops) != 1 or any(name.startswith(starts) for name in self.files):
            return self
        start = f"{tops.pop()}/"
        refused = [(name.removeprefix(start), reason) for name, reason in self.refused]
        return Listing({name.removeprefix(start): path for name, path in self.files.items()}, refused)

    def tops(self) -> set[str]:
        """The folders at the root."""
        return self.folders | {name.partition("/")[0] for name in self.files if "/" in name}


def list_folder(root: Path, parts: Iterable[str]) -> Listing:
    """All files below the folders `parts` of `root`, as `search` finds them."""
    listing = Listing(folders={path.name for path in root.iterdir() if path.is_dir()})
    for part in parts:
        if (root / part).is_dir():
            listing.folders.add(part)
            search(root / part, listing, f"{part}/")
    return listing


def search(start: Path, listing: Listing, prefix: str = "") -> None:
    """Adds all files below a folder, by `prefix` and their path below it, without the clutter of file managers.

    Links are followed, circles are not. Pipes, devices and dangling links count as files: whoever reads them refuses
    them. A folder that cannot be searched is refused.

    Raises:
        DataError: `start` itself cannot be searched.
    """

    def name_of(path: str) -> str:
        return prefix + Path(path).relative_to(start).as_posix()

    def locked(error: OSError) -> None:
        if Path(error.filename) == start:
            raise DataError(f"{start} cannot be searched ({error.strerror}); see to its rights")
        listing.refused.append((name_of(error.filename), f"cannot be searched ({error.strerror})"))

    seen = set()
    for parent, folders, files in os.walk(start, followlinks=True, onerror=locked):
        here = os.path.realpath(parent)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = [name for name in folders if not is_clutter(name)]
        above = prefix if parent == str(start) else f"{name_of(parent)}/"  # once a folder: it costs as much as a header
        listing.files.update((above + name, Path(parent, name)) for name in files if not is_clutter(name))


def is_clutter(name: str) -> bool:
    """Of one step of a path. `..` is no clutter: it wants to be seen."""
    return name.lower() in CLUTTER or (name.startswith(".") and name != "..")


def unusual(name: str) -> str:
    """Why a name that somebody else has given is no path below a folder; empty when it is one."""
    if "\0" in name:
        return "has a NUL in its name"
    if name.startswith("/") or name[1:3] in (":/", ":\\"):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "has a path that leads out of its folder (..)"
    if {"", "."} & set(name.split("/")):
        return "has a path with empty steps"
    return ""


def printable(name: str) -> str:
    """On one line and without what steers a terminal: bytes that are not UTF-8 show as \\xe9, line ends as \\n."""
    if name.isascii() and name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    steering = ("Cc", "Zl", "Zp")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in steering else c for c in text)
