"""Fetches the objects below a prefix, or the files of a revision, to this disk. An interrupted fetch continues later.

The name of an object's file is the hash of the object's name, ETag and size. The file appears when it is complete, so
an existing file is complete and current. The files lie in a folder of this user below TMPDIR until a command has used
them all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bmask.data.records import MAX_BYTES
from bmask.data.sources.listing import Listing, is_video, unusual
from bmask.data.sources.objects import WORKERS, Object, Prefix
from bmask.errors import DataError
from bmask.parallel import ahead
from bmask.progress import bar, say

if TYPE_CHECKING:
    from bmask.params.sections import S3


@contextmanager
def fetched(url: str, settings: S3, field: str) -> Iterator[Listing | Path]:
    """Yields the objects below an address, or the file of the one object that the address names, an archive.

    Objects whose names are not valid paths, or that are too large for photos, are refused.

    Raises:
        DataError: there are no objects, the server does not send them, or this disk cannot store them.
    """
    source = Prefix(url, settings, field)
    objects, alone = source.objects(), None
    if not objects and not (alone := source.itself()):
        raise DataError(f"{field} {url}: there are no objects below it; put the photos there or correct {field}")
    with kept_folder(f"{source.client.meta.endpoint_url} {url}") as folder:
        yield fetch(source, [alone], folder).files[""] if alone else fetch(source, objects, folder)


class Place(Protocol):
    """A source of objects. Several threads call `save`, which writes a complete file or none."""

    @property
    def url(self) -> str: ...

    def save(self, item: Object, path: Path) -> None: ...


def fetch(source: Place, objects: list[Object], folder: Path) -> Listing:
    """Saves what the folder does not hold yet, with a progress bar. Videos and what cannot be a photo are not saved."""
    videos = [item.name for item in objects if is_video(item.name)]
    objects = [item for item in objects if not is_video(item.name)]
    refused = {item.name: reason for item in objects if (reason := _refusal(item))}
    files = _fetch(source, [item for item in objects if item.name not in refused], folder)
    return Listing(files, list(refused.items()), videos=videos)


def _refusal(item: Object) -> str:
    if not item.name:
        return ""  # an archive
    if (item.size or 0) > MAX_BYTES:
        return f"has {item.size} bytes; a photo has at most {MAX_BYTES}"
    return unusual(item.name)


def _fetch(source: Place, objects: list[Object], folder: Path) -> dict[str, Path]:
    files = {item.name: folder / _file_name(item) for item in objects}
    missing = [item for item in objects if not _is_whole(files[item.name], item)]
    if len(missing) < len(objects):
        say(f"{source.url}: {len(objects) - len(missing)} of {len(objects)} objects are here from an interrupted fetch")
    with closing(ahead(lambda item: source.save(item, files[item.name]), missing, WORKERS)) as saved:
        for _ in bar(saved, len(missing), f"fetching {source.url}"):
            pass
    return files


def _file_name(item: Object) -> str:
    return hashlib.sha256(f"{item.name}\n{item.etag}\n{item.size}".encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _is_whole(path: Path, item: Object) -> bool:
    return path.is_file() and item.size in (None, path.stat().st_size)  # a crash of the machine may truncate files


@contextmanager
def kept_folder(key: str) -> Iterator[Path]:
    """Yields a folder, the same for the same `key`. It is removed if the block succeeds and kept if it fails.

    While another process uses it, a temporary folder takes its place.
    """
    home = Path(tempfile.gettempdir(), f"bmask-{os.getuid()}")
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise DataError(f"{home} can be written by others; remove it, or set TMPDIR to a folder of your own")
    folder = home / hashlib.sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _lock(handle, folder):
            with tempfile.TemporaryDirectory(dir=home) as other:
                yield Path(other)
            return
        yield folder
        shutil.rmtree(folder)
    except BaseException:
        if any(folder.glob("[!.]*")):
            say(f"the fetched files stay in {folder}; run the same command again to continue")
        raise
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), folder.stat())  # else the process that used it has just removed it
    except OSError:
        return False
