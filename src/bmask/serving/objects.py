"""Photos in object storage, unmasked into object storage or a folder, or the reverse: `bmask unmask s3://... s3://...`.

A portion of them is on this disk at a time: while it is unmasked, the next one is fetched. So neither memory nor disk
grows with their number.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from bmask.data.records import MAX_BYTES
from bmask.data.sources.listing import Listing, is_clutter, is_video, left_aside, search, unusual
from bmask.data.sources.objects import SCHEME, WORKERS, Object, Prefix
from bmask.errors import DataError
from bmask.parallel import ahead, batched
from bmask.params.sections import S3
from bmask.progress import bar, say
from bmask.serving.files import Writer, ended, files_of, opened
from bmask.serving.unmasker import Unmasker

PORTION = 64  # photos


def unmask_objects(
    src: str,
    dst: str,
    unmasker: Unmasker,
    attention: bool = False,
    mark: bool = True,
    resume: bool = False,
    report: Path | None = None,
    aligned: bool = False,
) -> list[str]:
    """As files.unmask_files, of all photos below `src` to results of the same names below `dst`; one or both are S3.

    The server and the keys are what boto3 finds: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on. An object appears when
    it is whole, and its line in the report after it.

    Raises:
        DataError: there is nothing to do, the storage fails, or results would take the place of photos.
        OSError: a disk is full, or a folder cannot be written.
    """
    source, target = (Prefix(url, S3(), "unmask") if url.startswith(SCHEME) else None for url in (src, dst))
    if src.rstrip("/") == dst.rstrip("/"):
        raise DataError(f"{dst} holds the photos, which would be overwritten; name another prefix")
    wanted, refused, videos = _wanted(source, Path(src), None if dst.startswith(SCHEME) else Path(dst))
    if target and dst.startswith(src.rstrip("/") + "/"):  # results of another time, inside the source
        inner = dst.rstrip("/").removeprefix(src.rstrip("/") + "/") + "/"
        wanted = [item for item in wanted if not item.name.startswith(inner)]
    if not wanted:
        raise DataError(f"{src} holds no photos; name a prefix or a folder of photos")
    there = {item.name for item in target.objects()} if target and resume else set()
    rows: list[dict[str, Any]] = []
    with opened(report) as table, TemporaryDirectory() as folder:
        places = _Places(Path(folder), source, target, src, dst)
        writer = Writer(unmasker, attention, mark, aligned, rows.append, places.shown)
        if videos:
            say(left_aside(videos))
        for name, reason in refused:
            writer.leave_out(places.given(0, name), reason)

        def is_done(item: Object) -> bool:
            results = files_of(places.result(0, item.name), attention)
            return all(places.name(file) in there if target else file.is_file() for file in results)

        todo = [item for item in wanted if not (resume and is_done(item))]
        for item in wanted if resume else ():
            if is_done(item):
                writer.there(places.given(0, item.name), places.result(0, item.name))
        for number, portion, lost in bar(_fetched(places, todo), -(-len(todo) // PORTION), "unmasking portions"):
            for item in portion:
                given = places.given(number, item.name)
                if item.name in lost:
                    writer.leave_out(given, lost[item.name])
                else:
                    writer.take(given, places.result(number, item.name))
            writer.write()
            places.send(number)
            writer.forget()
            _told(rows, table)
        _told(rows, table)
    say(f"unmasked {writer.done} of {len(wanted)} photos into {dst}{writer.told()}")
    return writer.left_out


@dataclass(frozen=True)
class _Places:
    """Where a portion's photos and results lie on this disk, and what they are called where they belong."""

    folder: Path
    source: Prefix | None
    target: Prefix | None
    src: str
    dst: str

    def given(self, number: int, name: str) -> Path:
        return self.folder / f"{number}" / "in" / name if self.source else Path(self.src, name)

    def result(self, number: int, name: str) -> Path:
        return ended(self.folder / f"{number}" / "out" / name if self.target else Path(self.dst, name))

    def name(self, file: Path) -> str:
        """Of a photo or result in the folder: its name below its prefix."""
        return PurePosixPath(*file.relative_to(self.folder).parts[2:]).as_posix()

    def shown(self, file: Path) -> str:
        if not file.is_relative_to(self.folder):
            return str(file)
        whose = self.src if file.relative_to(self.folder).parts[1] == "in" else self.dst
        return f"{whose.rstrip('/')}/{self.name(file)}"

    def fetch(self, number: int, portion: list[Object]) -> dict[str, str]:
        """Fetches a portion; why, by name, for those that could not be."""
        lost: dict[str, str] = {}

        def save(item: Object) -> None:
            assert self.source is not None
            try:
                self.source.save(item, self.given(number, item.name))
            except DataError as error:
                lost[item.name] = f"cannot be fetched: {error}"

        with closing(ahead(save, portion if self.source else [], WORKERS)) as saved:
            list(saved)
        return lost

    def send(self, number: int) -> None:
        """Sends the results of a portion, and forgets it."""
        here = self.folder / f"{number}"
        results = [path for path in sorted((here / "out").rglob("*")) if path.is_file()]
        if self.target:
            target = self.target
            with closing(ahead(lambda path: target.send(path, self.name(path)), results, WORKERS)) as sent:
                list(sent)
        shutil.rmtree(here, ignore_errors=True)


def _wanted(
    source: Prefix | None, folder: Path, inside: Path | None
) -> tuple[list[Object], list[tuple[str, str]], list[str]]:
    """The photos by name, what is refused and why, and videos, which are left aside."""
    if source:
        listed = [item for item in source.objects() if not is_clutter(item.name)]
        videos = [item.name for item in listed if is_video(item.name)]
        listed = [item for item in listed if not is_video(item.name)]
        reasons = {item.name: _refusal(item) for item in listed}
        refused = [(name.replace("/", "_"), reason) for name, reason in reasons.items() if reason]
        return [item for item in listed if not reasons[item.name]], refused, videos
    search(folder, found := Listing())
    kept = {name: path for name, path in found.files.items() if not (inside and path.is_relative_to(inside))}
    return [Object(name, None, "") for name in sorted(kept)], found.refused, found.videos


def _refusal(item: Object) -> str:
    if item.size is not None and item.size > MAX_BYTES:
        return f"is larger than {MAX_BYTES / 1e6:g} MB"
    return unusual(item.name)


def _fetched(places: _Places, todo: list[Object]) -> Iterator[tuple[int, list[Object], dict[str, str]]]:
    """Portions that are on this disk, the next one under way."""
    portions: Iterable[tuple[int, list[Object]]] = zip(count(1), batched(todo, PORTION))

    def fetch(one: tuple[int, list[Object]]) -> tuple[int, list[Object], dict[str, str]]:
        return *one, places.fetch(*one)

    with closing(ahead(fetch, portions, 1)) as found:
        yield from found


def _told(rows: list[dict[str, Any]], table: Callable[[dict[str, Any]], None]) -> None:
    for row in rows:
        table(row)
    rows.clear()
