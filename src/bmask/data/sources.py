"""Where photos come from: a folder with two domain folders, on this disk, in S3, in a repository, or drawn."""

from __future__ import annotations

import csv
import os
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bmask.data.objects import SCHEME, download
from bmask.data.revisions import fetch_revision
from bmask.errors import DataError, ParamsError
from bmask.params import Params

CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}  # what file managers leave behind; hidden names are left out too


@dataclass(frozen=True)
class Entry:
    """A file that should be a photo. `name` is its path below the domain folder, with slashes, fit to be printed."""

    domain: str  # masked or unmasked
    name: str
    path: Path
    slices: tuple[str, ...] = ()
    twin: Path | None = None  # the same picture without the mask; evaluation only
    region: Path | None = None  # where the mask is, 255 in a grey picture


@dataclass(frozen=True)
class Source:
    """The files, and where they come from: source, repository and the full commit, the last two empty elsewhere."""

    entries: list[Entry]
    origin: dict[str, str]


@contextmanager
def open_source(params: Params) -> Iterator[Source]:
    """Yields the files of both domains, sorted by domain and name; they may vanish when the block ends.

    What is not on this disk is fetched to a temporary folder (TMPDIR). The same files give the same entries from
    wherever they come.

    Raises:
        DataError: a folder is missing, a domain is empty, or the photos cannot be fetched.
        ParamsError: both domains are the same folder, or one lies in the other.
    """
    settings, commit = params.ingest, ""
    with tempfile.TemporaryDirectory(prefix="bmask-photos-") as temporary:
        folder = Path(temporary) / "photos"
        if settings.repository:
            commit = fetch_revision(settings.repository, settings.revision, settings.source, folder, params.s3)
        elif settings.source.startswith(SCHEME):
            download(settings.source, folder, params.s3, "ingest.source")
        elif settings.source == "embedded":
            from bmask.data.faces import draw_set

            draw_set(folder, settings.faces, settings.masked, settings.unmasked)
        else:
            folder = Path(settings.source)
        entries = scan(folder, settings.masked, settings.unmasked, settings.source)
        yield Source(entries, {"source": settings.source, "repository": settings.repository, "revision": commit})


def scan(folder: Path, masked: str = "masked", unmasked: str = "unmasked", called: str = "") -> list[Entry]:
    """Lists the files below `folder/masked` and `folder/unmasked`, with the truth in `folder/truth` where there is one.

    Truth of a masked photo NAME.EXT: `truth/twin/NAME.EXT`, `truth/region/NAME.png`, its labels in `truth/slices.csv`.
    Sub folders are searched, hidden files and the clutter of file managers are not. `called` is the folder's name in
    errors, for one that is temporary.
    """
    called = called or str(folder)
    if not folder.is_dir():
        raise DataError(f"ingest.source: there is no folder {called}; name one that holds the two domain folders")
    domains = {"masked": folder / masked, "unmasked": folder / unmasked}
    for role, path in domains.items():
        if not path.is_dir():
            there = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir())) or "none"
            raise DataError(f"{called} has no folder {path.name} (folders there: {there}); set ingest.{role}")
    a, b = (path.resolve() for path in domains.values())
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise ParamsError(f"ingest.masked and ingest.unmasked: {masked!r} and {unmasked!r} share photos; separate them")

    truth = folder / "truth"
    labels = _labels(truth / "slices.csv")
    entries = []
    for role, path in domains.items():
        files = sorted((_printable(file.relative_to(path)), file) for file in _files(path))
        if not files:
            raise DataError(f"{called}/{path.name} is empty; put the {role} photos there or set ingest.{role}")
        for name, file in files:
            entry = Entry(role, name, file)
            if role == "masked" and truth.is_dir():
                twin, below = truth / "twin" / file.relative_to(path), PurePosixPath(file.relative_to(path))
                region = truth / "region" / below.with_suffix(".png")
                entry = Entry(role, name, file, labels.get(unicodedata.normalize("NFC", name), ()), twin, region)
            entries.append(entry)
    return entries


def _files(folder: Path) -> Iterator[Path]:
    seen = set()  # links are followed, circles are not
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = [name for name in folders if not _clutter(name)]
        yield from (Path(parent) / name for name in files if not _clutter(name))


def _clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _printable(path: Path) -> str:
    """Names on disk are bytes; those that are not UTF-8 show their bytes, as \\xe9."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _labels(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"name", "slices"} <= set(rows.fieldnames or ()):
            raise DataError(f"{path} needs the columns name and slices (labels joined by ;); it has {rows.fieldnames}")
        return {
            unicodedata.normalize("NFC", row["name"]): tuple(sorted(filter(None, (row["slices"] or "").split(";"))))
            for row in rows
        }
