"""Opens a source of photos: a folder with two domain folders, or an archive of one, on this disk, in S3 or in a
repository; or drawn photos."""

from __future__ import annotations

import csv
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from bmask.data.records import Entry
from bmask.data.sources.archives import unpack
from bmask.data.sources.fetching import fetched
from bmask.data.sources.listing import Listing, is_clutter, left_aside, list_folder, printable
from bmask.data.sources.objects import SCHEME
from bmask.data.sources.revisions import fetched_revision
from bmask.errors import DataError, ParamsError
from bmask.progress import say

if TYPE_CHECKING:
    from bmask.params import Params

TRUTH = "truth"


@dataclass(frozen=True)
class Source:
    """The files, and their source, repository and full commit; the last two are empty without a repository."""

    entries: list[Entry]
    origin: dict[str, str]


@contextmanager
def open_source(params: Params) -> Iterator[Source]:
    """Yields the files of both domains, sorted by domain and name; they may be removed when the block ends.

    Remote files are fetched and archives are unpacked to a temporary folder (TMPDIR). The same files give the same
    entries from any source. A file that the source cannot provide becomes an entry with the reason.

    Raises:
        DataError: a folder is missing, a domain is empty, or the photos cannot be fetched or unpacked.
        ParamsError: both domains are the same folder, or one lies in the other.
    """
    settings, commit = params.ingest, ""
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bmask-photos-")))
        place: Path | Listing
        if settings.repository:
            at = fetched_revision(settings.repository, settings.revision, settings.source, params.s3)
            commit, place = stack.enter_context(at)
        elif settings.source.startswith(SCHEME):
            place = stack.enter_context(fetched(settings.source, params.s3, "ingest.source"))
        elif settings.source == "embedded":
            from bmask.synthetic import draw_set

            place = temporary / "photos"
            draw_set(place, settings.drawn, settings.masked, settings.unmasked)
        else:
            place = Path(settings.source)
        if isinstance(place, Path) and place.is_file():
            place = unpack(place, temporary / "unpacked", settings.source).unwrapped(
                (settings.masked, settings.unmasked)
            )
        if isinstance(place, Path):
            entries = scan(place, settings.masked, settings.unmasked, settings.source)
        else:
            entries = enter(place, settings.masked, settings.unmasked, settings.source)
        del place  # saves memory: the entries hold the same paths
        yield Source(entries, {"source": settings.source, "repository": settings.repository, "revision": commit})


def scan(folder: Path, masked: str = "masked", unmasked: str = "unmasked", called: str = "") -> list[Entry]:
    """The files below `folder/masked` and `folder/unmasked`, as `enter` gives them. Sub folders are searched.

    `called` is the name of a temporary folder in errors.
    """
    called = called or str(folder)
    if not folder.is_dir():
        raise DataError(
            f"ingest.source: there is no folder or archive {called}; name one that holds the two domain folders"
        )
    _check_apart((folder / masked).resolve(), (folder / unmasked).resolve(), masked, unmasked)
    return enter(list_folder(folder, (masked, unmasked, TRUTH)), masked, unmasked, called)


def enter(listing: Listing, masked: str, unmasked: str, called: str) -> list[Entry]:
    """The entries of a listing, sorted by domain and name, with their truth in the folder `truth` if there is one.

    Truth of a masked photo NAME.EXT: `truth/twin/NAME.EXT`, `truth/region/NAME.png`, its labels in `truth/slices.csv`.
    Hidden files and the clutter of file managers, phones and NAS boxes are left out. Videos, of which each live photo
    has one, are not used: a progress line counts them, and they do not count as refused photos.
    """
    _check_apart(PurePosixPath(masked), PurePosixPath(unmasked), masked, unmasked)
    truth = TRUTH in listing.tops()
    labels = _labels(listing.files.get(f"{TRUTH}/slices.csv"))
    entries, strays = [], dict.fromkeys(listing.refused)
    for role, domain in (("masked", masked), ("unmasked", unmasked)):
        mine, start = [], domain.rstrip("/") + "/"
        for name, path in listing.files.items():
            if below := _below(start, name):
                mine.append(Entry(role, printable(below), str(path)))
                if role == "masked" and truth:
                    twin, region = f"{TRUTH}/twin/{below}", PurePosixPath(TRUTH, "region", below).with_suffix(".png")
                    paths = [str(listing.files.get(str(name), Path(called, name))) for name in (twin, region)]
                    slices = labels.get(unicodedata.normalize("NFC", mine[-1].name), ())
                    mine[-1] = replace(mine[-1], slices=slices, twin=paths[0], region=paths[1])
        for name, reason in listing.refused:
            if below := _below(start, name):
                mine.append(Entry(role, printable(below), "", refused=reason))
                strays.pop((name, reason), None)
        if not mine:
            _raise_no_photos(listing, role, domain, called)
        entries += sorted(mine, key=lambda entry: entry.name)
        if videos := [below for name in listing.videos if (below := _below(start, name))]:
            say(f"{role}: {left_aside(videos)}")
    elsewhere = [(name, reason) for name, reason in sorted(strays) if _below("", name)]
    return entries + [Entry("", printable(name), "", refused=reason) for name, reason in elsewhere]


def _below(start: str, name: str) -> str:
    """The name without its start; empty for names with another start and for clutter."""
    below = name.removeprefix(start) if name.startswith(start) else ""
    return "" if is_clutter(below) else below


def _check_apart(a: PurePath, b: PurePath, masked: str, unmasked: str) -> None:
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise ParamsError(f"ingest.masked and ingest.unmasked: {masked!r} and {unmasked!r} share photos; separate them")


def _raise_no_photos(listing: Listing, role: str, domain: str, called: str) -> None:
    tops = listing.tops()
    if domain in tops:
        raise DataError(f"{called}/{domain} is empty; put the {role} photos there or set ingest.{role}")
    there = ", ".join(sorted(map(printable, tops))) or "none"
    raise DataError(f"{called} has no folder {domain} (folders there: {there}); set ingest.{role}")


def _labels(path: Path | None) -> dict[str, tuple[str, ...]]:
    if path is None or not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"name", "slices"} <= set(rows.fieldnames or ()):
            raise DataError(f"{path} needs the columns name and slices (labels joined by ;); it has {rows.fieldnames}")
        return {
            unicodedata.normalize("NFC", row["name"]): tuple(sorted(filter(None, (row["slices"] or "").split(";"))))
            for row in rows
        }
