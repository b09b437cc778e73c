"""Unmasks files and folders of photos: `bmask unmask IN OUT`."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bmask.data.records import Entry
from bmask.data.sources.listing import Listing, left_aside, printable, search
from bmask.errors import DataError
from bmask.files import write_bytes
from bmask.progress import bar, say
from bmask.serving import pictures
from bmask.serving.unmasker import Result, Unmasker

# Only one result fails: the disk cannot store its name, or a folder has it. Other errors, as a full disk, end the run.
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)

COLUMNS = ("photo", "result", "outcome", "faces", "masked", "reason")  # of the report


def unmask_files(
    src: Path,
    dst: Path,
    unmasker: Unmasker,
    attention: bool = False,
    mark: bool = True,
    resume: bool = False,
    report: Path | None = None,
    aligned: bool = False,
) -> list[str]:
    """Unmasks a photo, or all photos below a folder. Returns a line for each file that was left out.

    Results of a folder lie below `dst` under the photos' names and replace existing files. JPEG, PNG and WEBP keep
    their format; other formats become PNG: `face.gif` becomes `face.gif.png`. A single photo goes to `dst` itself if
    `dst` ends like one of the three formats, else into the folder `dst`. A photo on which nothing was changed is
    copied; `pictures.write` says what is kept of the others. With `attention`, `face.jpg.attention.png` lies beside
    `face.jpg`: 0 where the pixels are the photo's own.

    Files that are not photos, and photos whose results have names that the disk cannot store, are reported and left
    out. Links are followed. Memory holds one batch of photos.

    Args:
        mark: note in the metadata of changed photos that they were changed.
        resume: skip photos that have a result already, whatever model made it.
        report: a CSV file. A line is added for each photo when it is done: photo, result, outcome (changed, no mask, no
            face, translated if faces are not looked for, there already, left out), faces, masked faces and, for photos
            that were left out, the reason.
        aligned: the photos are squares of faces, framed as ingest frames them.

    Raises:
        DataError: there are no photos, or a result or the report would overwrite a photo.
        OSError: the disk is full, or `dst` cannot be written.
    """
    listing = _photos(Path(src), Path(dst), report)
    targets = plan(sorted(listing.files.values()), Path(src), Path(dst))
    if Path(src).is_dir():
        Path(dst).mkdir(parents=True, exist_ok=True)  # if this fails, every photo would
    with opened(report) as table:
        writer = Writer(unmasker, attention, mark, aligned, table)
        if listing.videos:
            say(left_aside(listing.videos))
        for name, reason in listing.refused:
            writer.leave_out(Path(src, name), reason)
        for path, target in bar(targets.items(), len(targets), "unmasking photos"):
            if resume and all(file.is_file() for file in files_of(target, attention)):
                writer.skip(path, target)
            else:
                writer.take(path, target)
        writer.write()
    say(f"unmasked {writer.done} of {len(targets)} photos into {printable(str(dst))}{writer.summary()}")
    return writer.left_out


@contextlib.contextmanager
def opened(report: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields a function that adds a row to the report, if there is one. A row is written before the next photo."""
    if report is None:
        yield lambda row: None
        return
    report.parent.mkdir(parents=True, exist_ok=True)
    with open(report, "a", newline="", encoding="utf-8", buffering=1) as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not file.tell():
            table.writeheader()
        yield table.writerow


def plan(photos: list[Path], src: Path, dst: Path) -> dict[Path, Path]:
    """Maps each photo to the path of its result, in the same order.

    Raises:
        DataError: a result would overwrite a photo.
    """
    if src.is_dir():
        results = [ended(dst / path.relative_to(src)) for path in photos]
    else:
        results = [dst if dst.suffix.lower() in pictures.WRITTEN and not dst.is_dir() else dst / ended(src).name]
    own = {path.resolve() for path in photos}
    for result in results:
        if result.resolve() in own:
            raise DataError(f"{result} is one of the photos and would be overwritten; name another folder")
    return dict(zip(photos, results, strict=True))


def ended(path: Path) -> Path:
    return path if path.suffix.lower() in pictures.WRITTEN else path.with_name(f"{path.name}.png")


def _photos(src: Path, dst: Path, report: Path | None) -> Listing:
    """The files to unmask, without results and reports of earlier runs that lie inside the source."""
    listing = Listing()
    refuse_report(report)
    if src.is_dir():
        search(src, listing)
        there, here = dst.resolve(), src.resolve()
        if there != here and there.is_relative_to(here):
            listing.files = {n: path for n, path in listing.files.items() if not path.resolve().is_relative_to(there)}
        listing.files = {
            n: path for n, path in listing.files.items() if not report or path.resolve() != report.resolve()
        }
    elif src.is_file():
        listing.files[src.name] = src
    else:
        raise DataError(f"{src} does not exist; name a photo or a folder of photos")
    if not listing.files:
        raise DataError(f"{src} holds no photos; name a photo or a folder of photos")
    return listing


def refuse_report(report: Path | None) -> None:
    """Raises DataError if the report does not end in .csv: it may be a photo."""
    if report and report.suffix.lower() != ".csv":
        raise DataError(f"{report} cannot be the report; name a file that ends in .csv")


def files_of(result: Path, attention: bool) -> list[Path]:
    return [result, result.with_name(f"{result.name}.attention.png")][: 1 + attention]


class Writer:
    """Unmasks photos in batches and writes the results. `shown` gives the name of a photo or result in messages."""

    def __init__(
        self,
        unmasker: Unmasker,
        attention: bool,
        mark: bool,
        aligned: bool,
        report: Callable[[dict[str, Any]], None],
        shown: Callable[[Path], str] = str,
    ):
        self._unmasker, self._attention, self._mark, self._report = unmasker, attention, mark, report
        self._shown = lambda path: printable(shown(path))
        self._aligned = aligned
        self._waiting: list[tuple[Path, Path, pictures.Picture]] = []
        self._written: set[tuple[int, int]] = set()
        self.left_out: list[str] = []
        self.done = self._already = 0
        self._finds_faces, self._found, self._changed = unmasker.finds_faces and not aligned, 0, 0
        self._unchanged: dict[str, list[str]] = {"no face was found": [], "no mask was found": []}

    def take(self, path: Path, target: Path) -> None:
        try:
            self._waiting.append((path, target, pictures.read(Entry("", "", str(path)).read())))
        except DataError as error:
            self.leave_out(path, str(error))
        if len(self._waiting) == self._unmasker.batch:
            self.write()

    def write(self) -> None:
        results = self._unmasker.unmask([picture.photo for _, _, picture in self._waiting], self._aligned)
        for (path, target, picture), result in zip(self._waiting, results, strict=True):
            try:
                content = self._content(path, target, picture, result)
            except DataError as error:
                self.leave_out(path, str(error))
                continue
            contents = [content, *([pictures.encode(result.attention)] * self._attention)]
            files = files_of(target, self._attention)
            if all(self._write(path, file, content) for file, content in zip(files, contents, strict=True)):
                self.done += 1
                self._count(path, target, result)
        self._waiting = []

    def forget(self) -> None:
        """Forgets the written files: they were sent away and will be removed, so new files may get their inodes."""
        self._written.clear()

    def _content(self, path: Path, target: Path, picture: pictures.Picture, result: Result) -> bytes:
        kind = pictures.WRITTEN[target.suffix.lower()]
        if path.suffix == target.suffix and picture.format in pictures.WRITTEN.values():
            kind = picture.format  # the name may be wrong: browsers save WEBP as .jpg
        if kind == picture.format and not result.attention.any():
            return picture.content
        return pictures.write(picture, result, kind, self._mark)

    def _write(self, path: Path, file: Path, content: bytes) -> bool:
        """Writes a file, unless that would overwrite another photo's result. Returns whether it did."""
        try:
            if _identity(file) in self._written:  # some disks take a for A, or one form of ü for the other
                self.leave_out(path, f"would be written over the result of another photo, {self._shown(file)}")
                return False
            write_bytes(file, content)
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            self.leave_out(path, f"cannot be written to {self._shown(file)} ({error.strerror}); rename it")
            return False
        if (made := _identity(file)) is not None:  # None if somebody has removed it already
            self._written.add(made)
        return True

    def summary(self) -> str:
        """The counts in words; about faces only if they were looked for."""
        words = [f", {self._already} were there already"] if self._already else [""]
        words += [f"{self._changed} of {self._found} faces changed"] if self._finds_faces else []
        for reason, names in self._unchanged.items():
            if names:
                words.append(f"{reason} in {len(names)} ({', '.join(names[:4])}{', ...' * (len(names) > 4)})")
        return "; ".join(words)

    def _count(self, path: Path, target: Path, result: Result) -> None:
        unmasked = [face.masked is False for face in result.faces]
        self._found += len(unmasked)
        self._changed += len(unmasked) - sum(unmasked)
        outcome = "translated"
        if self._finds_faces:
            outcome = ("no mask" if unmasked else "no face") if all(unmasked) else "changed"
            if outcome != "changed":
                self._unchanged[f"{outcome} was found"].append(self._shown(path))
        faces = {"faces": len(unmasked), "masked": len(unmasked) - sum(unmasked)} if self._finds_faces else {}
        self._row(path, target, outcome, **faces)

    def skip(self, path: Path, target: Path) -> None:
        made = {_identity(file) for file in files_of(target, self._attention)}
        if made & self._written:
            self.leave_out(path, f"has no result: {self._shown(target)} is the result of another photo")
            return
        self._written |= {one for one in made if one}
        self.count_existing(path, target)

    def count_existing(self, path: Path, target: Path) -> None:
        """Counts a photo that has a result already."""
        self._already += 1
        self._row(path, target, "there already")

    def leave_out(self, path: Path, reason: str) -> None:
        self.left_out.append(f"{self._shown(path)} {reason}")
        self._row(path, None, "left out", reason=reason)
        say(f"left out: {self.left_out[-1]}")

    def _row(self, path: Path, target: Path | None, outcome: str, **others: Any) -> None:
        result = self._shown(target) if target else ""
        self._report({"photo": self._shown(path), "result": result, "outcome": outcome, **others})


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
