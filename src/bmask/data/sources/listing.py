"""Lists what a source holds: names and their files. Names are never used as paths, so none can leave the source."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bmask.errors import DataError

# What file managers, phones, NAS boxes and photo services leave beside photos; hidden names count as clutter too.
CLUTTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "icon\r", "icon\uf00d"),  # the last two: macOS's icon of a folder, on its disk and through SMB
    *("@eadir", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "lost+found"),
}
SIDECARS = (".aae", ".xmp", ".json", ".thm")  # edits, tags and thumbnails of the photo or video beside them
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".3gp", ".3g2", ".mkv", ".webm", ".wmv", ".mts", ".m2ts", ".mpg", ".lrv")


@dataclass
class Listing:
    """Files by name, the path below the source's root with slashes. Bytes that are not UTF-8 become surrogates."""

    files: dict[str, Path] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)  # names of what cannot be read, and the reasons
    folders: set[str] = field(default_factory=set)  # folders that exist, even without files
    videos: list[str] = field(default_factory=list)  # such as those of live photos: neither read nor refused

    def unwrapped(self, parts: Iterable[str]) -> Listing:
        """Without the one folder at the root that holds everything, unless one of the folders `parts` is there."""
        tops = {name.partition("/")[0] for name in self.files if not is_clutter(name)}
        starts = tuple(f"{part.rstrip('/')}/" for part in parts)
        if len(tops) != 1 or any(name.startswith(starts) for name in self.files):
            return self
        start = f"{tops.pop()}/"
        refused = [(name.removeprefix(start), reason) for name, reason in self.refused]
        videos = [name.removeprefix(start) for name in self.videos]
        return Listing({name.removeprefix(start): path for name, path in self.files.items()}, refused, videos=videos)

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
    """Adds all files below a folder, named by `prefix` and their path below it. Clutter is skipped, videos only named.

    Links are followed, but into each folder only once. Pipes, devices and dangling links count as files, which are
    refused when they are read. A folder that cannot be searched is refused.

    Raises:
        DataError: `start` itself cannot be searched.
    """

    def name_of(path: str) -> str:
        return prefix + Path(path).relative_to(start).as_posix()

    def refuse(error: OSError) -> None:
        if Path(error.filename) == start:
            raise DataError(f"{start} cannot be searched ({error.strerror}); check its permissions")
        listing.refused.append((name_of(error.filename), f"cannot be searched ({error.strerror})"))

    seen = set()
    for parent, folders, files in os.walk(start, followlinks=True, onerror=refuse):
        here = os.path.realpath(parent)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = [name for name in folders if not is_clutter(f"{name}/")]
        above = prefix if parent == str(start) else f"{name_of(parent)}/"  # once per folder, since it is slow
        files = [name for name in files if not is_clutter(name)]
        listing.videos += [above + name for name in files if is_video(name)]
        listing.files.update((above + name, Path(parent, name)) for name in files if not is_video(name))


def is_clutter(name: str) -> bool:
    """Whether a file, or a folder above it, is clutter. A folder's name must end in a slash.

    `..` is kept, so that the name is refused later. A folder's name may end like a sidecar's.
    """
    steps = name.lower().split("/")
    return steps[-1].endswith(SIDECARS) or any(
        step in CLUTTER or (step.startswith(".") and step != "..") for step in steps
    )


def is_video(name: str) -> bool:
    """Decides by the ending, so that no video has to be fetched."""
    return name.lower().endswith(VIDEOS)


def left_aside(videos: list[str]) -> str:
    """The progress line about the videos."""
    more = ", ..." if len(videos) > 1 else ""
    return f"videos left aside: {len(videos)} ({printable(min(videos))}{more}); only photos are used"


def unusual(name: str) -> str:
    """Why an untrusted name is not a valid path below a folder; empty if it is one."""
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
    """The name on one line, without control characters: bytes that are not UTF-8 show as \\xe9, line ends as \\n."""
    if name.isascii() and name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    control = ("Cc", "Zl", "Zp")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in control else c for c in text)
