"""Unmasks photos from and to object storage: `bmask unmask s3://... s3://...`; one of both may be a folder.

This disk holds one portion of the photos, and the next one, which is fetched meanwhile. So memory and disk do not grow
with the number of photos, except for their names.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bmask.data.records import MAX_BYTES
from bmask.data.sources.listing import Listing, is_clutter, is_video, left_aside, printable, search, unusual
from bmask.data.sources.objects import SCHEME, WORKERS, Object, Prefix, Unavailable
from bmask.errors import DataError
from bmask.parallel import ahead, batched
from bmask.params.sections import S3
from bmask.progress import bar, say
from bmask.serving.files import Writer, ended, files_of, opened, refuse_report
from bmask.serving.unmasker import Unmasker

PORTION = 64  # photos
MAX_KEY_BYTES = 1024  # bytes of an S3 key, in UTF-8


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
    """As files.unmask_files, from all photos below `src` to results of the same names below `dst`; one or both in S3.

    boto3 finds the server and the keys: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on. An object appears when it is
    complete, and its line in the report after it.

    Raises:
        DataError: there are no photos, the storage fails, or results would overwrite photos.
        OSError: a disk is full, or a folder cannot be written.
    """
    refuse_report(report)
    source, target = (Prefix(url, S3(), "unmask") if url.startswith(SCHEME) else None for url in (src, dst))
    if not target:
        Path(dst).mkdir(parents=True, exist_ok=True)
    found = _found(source, Path(src), report)
    if source and target and source.bucket == target.bucket and target.start.startswith(source.start):
        inner = target.start.removeprefix(source.start)  # results of earlier runs, inside the source
        found.photos = [item for item in found.photos if not (inner and item.name.startswith(inner))]
    if not found.photos:
        raise DataError(f"{src} holds no photos; name a prefix or a folder of photos")
    jobs = _planned(found, source, target, attention)
    there = {item.name for item in target.objects()} if target and resume else set()
    unreported: list[dict[str, Any]] = []
    with opened(report) as table, TemporaryDirectory() as folder:
        shown = _Shown(src, dst)
        writer = Writer(unmasker, attention, mark, aligned, unreported.append, shown)
        disk = _Disk(Path(folder), source, target, Path(src), Path(dst), attention, shown)

        def write_rows() -> None:
            for row in unreported:
                table(row)
            unreported.clear()

        if found.videos:
            say(left_aside(found.videos))
        for name, reason in found.refused:
            writer.leave_out(shown.named(name), reason)
        todo = []
        for job in jobs:
            results = files_of(Path(job.result), attention)
            done = (str(file) in there if target else Path(dst, file).is_file() for file in results)
            if resume and all(done):
                writer.count_existing(shown.named(job.item.name), shown.named(job.result, result=True))
            else:
                todo.append(job)
            write_rows()
        portions = -(-len(todo) // PORTION)
        for portion in bar(disk.portions(todo), portions, f"unmasking portions of {PORTION} photos"):
            for job, given, result, problem in portion.jobs:
                if problem:
                    writer.leave_out(shown.named(job.item.name), problem)
                else:
                    writer.take(given, result)
            writer.write()
            if target:
                disk.send(portion)
                writer.forget()
            write_rows()
            disk.clear(portion)
    say(f"unmasked {writer.done} of {len(found.photos)} photos into {printable(dst)}{writer.summary()}")
    return writer.left_out


@dataclass
class _Found:
    """What a source holds: photos, refused names with the reasons, and videos, which are not used."""

    photos: list[Object]
    refused: list[tuple[str, str]]
    videos: list[str]


class _Job(NamedTuple):
    """A photo, and the name of its result below the target."""

    item: Object
    result: str


class _Portion(NamedTuple):
    """Photos on this disk. Of each: its job, its path, the path for its result, why it was not fetched, or empty."""

    folder: Path
    jobs: list[tuple[_Job, Path, Path, str]]


class _Shown:
    """The names in messages of photos and results on this disk: their names in source and target."""

    def __init__(self, src: str, dst: str):
        self._bases, self._names = (src.rstrip("/"), dst.rstrip("/")), dict[Path, str]()

    def __call__(self, path: Path) -> str:
        return self._names.get(path, str(path))

    def named(self, name: str, result: bool = False) -> Path:
        """A path that stands for the name of a photo or result, which may have any characters."""
        return self.add(Path(name), name, result)

    def add(self, path: Path, name: str, result: bool = False) -> Path:
        self._names[path] = f"{self._bases[result]}/{name}"
        return path


@dataclass
class _Disk:
    """Portions on this disk. Objects have numbers as file names, since a name may be no path, or also a folder's."""

    folder: Path
    source: Prefix | None
    target: Prefix | None
    src: Path
    dst: Path
    attention: bool
    shown: _Shown

    def portions(self, jobs: list[_Job]) -> Iterator[_Portion]:
        numbered: Iterable[tuple[int, list[_Job]]] = enumerate(batched(jobs, PORTION))
        with closing(ahead(self._fetched, numbered, threads=1, waiting=1)) as found:
            yield from found

    def _fetched(self, numbered: tuple[int, list[_Job]]) -> _Portion:
        number, jobs = numbered
        here = self.folder / f"{number}"
        places = [self._places(here, index, job) for index, job in enumerate(jobs)]
        if self.source:
            with closing(ahead(self._fetch, zip(jobs, places, strict=True), WORKERS)) as found:
                problems = list(found)
        else:
            problems = [""] * len(jobs)
        return _Portion(here, [(job, *place, why) for job, place, why in zip(jobs, places, problems, strict=True)])

    def _places(self, here: Path, index: int, job: _Job) -> tuple[Path, Path]:
        name, result = job.item.name, job.result
        given = here / f"{index}{Path(name).suffix}" if self.source else self.src / name
        made = here / "made" / f"{index}{Path(result).suffix}" if self.target else self.dst / result
        return self.shown.add(given, name), self.shown.add(made, result, result=True)

    def _fetch(self, one: tuple[_Job, tuple[Path, Path]]) -> str:
        """Fetches an object. Returns why it alone cannot be fetched, or an empty string."""
        assert self.source is not None
        job, (given, _) = one
        try:
            self.source.save(job.item, given)
        except Unavailable as error:
            return f"cannot be fetched: {error}"
        return ""

    def send(self, portion: _Portion) -> None:
        assert self.target is not None
        send = self.target.send
        results = [
            (file, name)
            for job, _, made, _ in portion.jobs
            for file, name in zip(
                files_of(made, self.attention), files_of(Path(job.result), self.attention), strict=True
            )
            if file.is_file()
        ]
        with closing(ahead(lambda one: send(one[0], one[1].as_posix()), results, WORKERS)) as sent:
            list(sent)

    def clear(self, portion: _Portion) -> None:
        shutil.rmtree(portion.folder, ignore_errors=True)


def _found(source: Prefix | None, folder: Path, report: Path | None) -> _Found:
    if not source:
        search(folder, listing := Listing())
        own = report.resolve() if report else None
        names = sorted(name for name, path in listing.files.items() if path.resolve() != own)
        return _Found([Object(name, None, "") for name in names], listing.refused, listing.videos)
    found = _Found([], [], [])
    for item in source.objects():
        if is_clutter(item.name):
            continue
        if is_video(item.name):
            found.videos.append(item.name)
        elif reason := f"is larger than {MAX_BYTES / 1e6:g} MB" if (item.size or 0) > MAX_BYTES else unusual(item.name):
            found.refused.append((item.name, reason))
        else:
            found.photos.append(item)
    return found


def _planned(found: _Found, source: Prefix | None, target: Prefix | None, attention: bool) -> list[_Job]:
    """Names each photo's result. A photo whose result would have an impossible or used name is refused.

    Raises:
        DataError: a result would overwrite a photo.
    """
    jobs, taken = [], set[str]()
    for item in found.photos:
        result = ended(Path(item.name)).as_posix()
        names = {file.as_posix() for file in files_of(Path(result), attention)}
        if target and (reason := _key_problem(target.start + max(names, key=len))):
            found.refused.append((item.name, reason))
        elif names & taken:
            found.refused.append((item.name, f"would be written over the result of another photo, {result}"))
        else:
            jobs.append(_Job(item, result))
            taken |= names
    if source and target and source.bucket == target.bucket:
        photos = {source.start + item.name for item in found.photos}
        if over := sorted(photos & {target.start + name for name in taken}):
            raise DataError(f"{over[0]} is one of the photos and would be overwritten; name another prefix")
    return jobs


def _key_problem(name: str) -> str:
    try:
        long = len(name.encode()) > MAX_KEY_BYTES
    except UnicodeEncodeError:
        return "has a name that is no UTF-8; rename it"
    return f"would have a key of more than {MAX_KEY_BYTES} bytes; rename it" if long else ""
