"""Stage 1: photo folders -> a split of decoded, matched squares that leaks nothing from training into test."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmask.data.dataset import DOMAINS, PARTS, VERSION, open_array
from bmask.data.groups import find_groups, fingerprint, group_names, part_of, settle
from bmask.data.matching import matched_sides, region_square, square
from bmask.data.photos import decode_with_size, effective_side
from bmask.data.sheets import contact_sheet
from bmask.data.sources import Entry, open_source
from bmask.errors import DataError
from bmask.files import fresh_folder, write_bytes, write_json, write_text
from bmask.params import Params
from bmask.progress import bar, say
from bmask.sections import Ingest

ON_SHEET = 12  # photos of each domain and part


@dataclass
class Photo:
    """A file on its way into the split; the manifest has one row for each."""

    entry: Entry
    sha256: str = ""
    width: int = 0
    height: int = 0
    fingerprint: np.void | None = None
    group: str = ""
    part: str = ""
    index: int = -1  # row in the array of its domain and part
    side: int = 0  # effective resolution after matching, px
    reason: str = ""  # why it is in no part


def ingest(params: Params, out: Path) -> None:
    """Reads the photos of `params.ingest.source` and writes the split that all other stages read.

    Every photo is read twice, first to check, hash and measure it, then, when the resolutions of both domains are
    known, to write its square; so memory holds two photos a core and no more.

    Writes into `out`: `{domain}_{part}.npy`, `truth_{part}_{twin,region}.npy` where there is truth, `manifest.csv`,
    `rejected.csv`, `summary.json` and, unless private, `contact_sheet.png`. The split depends on the photos' contents
    alone; names and the order of files change nothing but the names in the manifest.

    Raises:
        DataError: photos that cannot be fetched, folders missing or empty, too many photos refused, a part left empty,
            or truth that does not fit.
    """
    settings = params.ingest
    with open_source(params) as source, fresh_folder(Path(out)) as folder:
        photos = list(bar(_parallel(inspect, source.entries), len(source.entries), "ingest: checking photos"))
        refused = [photo for photo in photos if photo.reason]
        _check_refused(refused, len(photos), settings)
        good = sorted((p for p in photos if not p.reason), key=lambda p: (p.entry.domain, p.sha256, p.entry.name))
        groups = assign_parts(good, settings)
        assign_sides(good, settings)
        used = [photo for photo in good if photo.part]
        truth = any(photo.entry.twin for photo in used)
        _write_arrays(used, folder, settings, truth)
        _write_manifest(photos, folder)

        counts = Counter((photo.entry.domain, photo.part) for photo in used)
        summary = {
            "digest": digest(used, folder),
            "load_size": settings.load_size,
            "private": settings.private,
            **source.origin,
            "counts": {domain: {part: counts[domain, part] for part in PARTS} for domain in DOMAINS},
            "groups": groups,
            "rejected": len(refused),
            "truth": truth,
            "version": VERSION,
        }
        write_json(folder / "summary.json", summary)
        if not settings.private:
            write_bytes(folder / "contact_sheet.png", _sheet(folder))
        _report(photos, summary)


def inspect(entry: Entry) -> Photo:
    """Reads a file once: its sha256, full size and fingerprint, or the reason why it is refused."""
    photo = Photo(entry)
    try:
        if not entry.path.is_file():
            raise DataError("is no file, or a link that leads nowhere")
        content = entry.path.read_bytes()
        photo.sha256 = hashlib.sha256(content).hexdigest()
        pixels, (photo.width, photo.height) = decode_with_size(content, enough=64)
        photo.fingerprint = fingerprint(pixels)
    except DataError as error:
        photo.reason = str(error)
    except OSError as error:
        photo.reason = f"cannot be read ({error.strerror})"
    return photo


def assign_parts(photos: list[Photo], settings: Ingest) -> dict[str, int]:
    """Fills in group, part, index and, for photos set aside, the reason. Returns counts of the groups.

    Raises:
        DataError: a part of a domain would be empty.
    """
    numbers = find_groups(np.array([photo.fingerprint for photo in photos]), settings.near_duplicates)
    names = group_names(numbers, [photo.sha256 for photo in photos])
    parts = settle(
        numbers, [part_of(photo.fingerprint["hash"], settings.test, settings.validation) for photo in photos]
    )
    stays: dict[str, Photo] = {}
    next_index: Counter[tuple[str, str]] = Counter()
    for photo, group, part in zip(photos, names, parts, strict=True):
        photo.group, photo.part = group, part
        if part:
            stays.setdefault(group, photo)
            photo.index = next_index[photo.entry.domain, part]
            next_index[photo.entry.domain, part] += 1
    for photo in photos:
        if not photo.part:
            other = stays[photo.group]
            photo.reason = f"set aside: near-duplicate of {other.entry.domain}/{other.entry.name} in {other.part}"
    for domain in DOMAINS:
        for part in PARTS:
            if not next_index[domain, part]:
                found = sum(photo.entry.domain == domain for photo in photos)
                remedy = "lower ingest.test" if part == "train" else f"raise ingest.{part}"
                raise DataError(f"none of {found} {domain} photos fell to {part}; add photos (50 do) or {remedy}")
    members = {domain: [photo.group for photo in photos if photo.entry.domain == domain] for domain in DOMAINS}
    return {
        **{domain: len(set(members[domain])) for domain in DOMAINS},
        "in_both_domains": len(set(members["masked"]) & set(members["unmasked"])),
        "largest": max(Counter(names).values()),
        "set_aside": sum(not photo.part for photo in photos),
    }


def assign_sides(photos: list[Photo], settings: Ingest) -> None:
    """Fills in each photo's side: the resolution that it keeps, px, at most load_size."""
    mine = {domain: [photo for photo in photos if photo.entry.domain == domain] for domain in DOMAINS}
    sides = {
        domain: np.array([effective_side(photo.width, photo.height, settings.fit) for photo in mine[domain]], float)
        for domain in DOMAINS
    }
    if settings.match_resolution:
        sides = matched_sides(sides)
    for domain in DOMAINS:
        for photo, side in zip(mine[domain], sides[domain], strict=True):
            photo.side = min(int(side), settings.load_size)


def digest(used: Iterable[Photo], folder: Path) -> str:
    """sha256 over parts, groups, labels and all stored pixels; names, times and paths are left out."""
    rows = sorted([p.entry.domain, p.part, p.index, p.sha256, p.group, *p.entry.slices] for p in used)
    total = hashlib.sha256(json.dumps(rows).encode())
    for path in sorted(folder.glob("*.npy")):
        array = open_array(path)
        total.update(f"{path.name} {array.shape}".encode())
        for row in array:
            total.update(row.tobytes())
    return total.hexdigest()


def _write_arrays(used: list[Photo], folder: Path, settings: Ingest, truth: bool) -> None:
    side = settings.load_size
    shapes: Counter[str] = Counter(f"{photo.entry.domain}_{photo.part}" for photo in used)
    arrays = {name: _create(folder / f"{name}.npy", (count, side, side, 3)) for name, count in shapes.items()}
    for part in ("validation", "test") if truth else ():
        count = shapes[f"masked_{part}"]
        arrays[f"truth_{part}_twin"] = _create(folder / f"truth_{part}_twin.npy", (count, side, side, 3))
        arrays[f"truth_{part}_region"] = _create(folder / f"truth_{part}_region.npy", (count, side, side))

    def write(photo: Photo) -> None:
        entry = photo.entry
        arrays[f"{entry.domain}_{photo.part}"][photo.index] = square(entry.path, photo.side, settings)
        if f"truth_{photo.part}_twin" in arrays and entry.domain == "masked":
            _check_truth(photo)
            arrays[f"truth_{photo.part}_twin"][photo.index] = square(entry.twin, photo.side, settings)
            arrays[f"truth_{photo.part}_region"][photo.index] = region_square(entry.region, settings)

    for _ in bar(_parallel(write, used), len(used), "ingest: writing squares"):
        pass
    for array in arrays.values():
        array.flush()


def _check_truth(photo: Photo) -> None:
    for path in (photo.entry.twin, photo.entry.region):
        try:
            size = decode_with_size(path)[1]
        except DataError as error:
            raise DataError(f"{path}: truth of {photo.entry.name} {error}; mend it or remove all truth") from None
        if size != (photo.width, photo.height):
            sizes = f"{size[0]}x{size[1]} px, the photo {photo.width}x{photo.height}"
            raise DataError(f"{path}: truth of {photo.entry.name} is {sizes}; save both at one size")


def _create(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)


def _parallel(function: Callable, items: list) -> Iterator:
    """Threads suffice: Pillow, OpenCV and hashlib let go of the interpreter while they work."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        yield from pool.map(function, items)


def _check_refused(refused: list[Photo], found: int, settings: Ingest) -> None:
    if len(refused) > settings.max_rejected * found:
        first = [f"{p.entry.domain}/{p.entry.name} {p.reason}" for p in refused[:4]]
        named = "; ".join(first + ["..."] * (len(refused) > len(first)))
        raise DataError(
            f"{len(refused)} of {found} photos are refused, more than the share ingest.max_rejected "
            f"{settings.max_rejected:g} ({named}); remove or mend them, or raise ingest.max_rejected"
        )


def _write_manifest(photos: list[Photo], folder: Path) -> None:
    header = ["domain", "name", "sha256", "width", "height", "group", "part", "index", "slices", "reason"]
    text, rejected = io.StringIO(), io.StringIO()
    rows, few = csv.writer(text, lineterminator="\n"), csv.writer(rejected, lineterminator="\n")
    rows.writerow(header)
    few.writerow(["domain", "name", "reason"])
    for p in sorted(photos, key=lambda p: (p.entry.domain, p.entry.name)):
        index = p.index if p.part else ""
        size = (p.width, p.height) if p.width else ("", "")
        slices = ";".join(p.entry.slices)
        rows.writerow([p.entry.domain, p.entry.name, p.sha256, *size, p.group, p.part, index, slices, p.reason])
        if p.reason:
            few.writerow([p.entry.domain, p.entry.name, p.reason])
    write_text(folder / "manifest.csv", text.getvalue())
    write_text(folder / "rejected.csv", rejected.getvalue())


def _sheet(folder: Path) -> bytes:
    keys = [(domain, part) for domain in DOMAINS for part in PARTS]
    rows = [list(open_array(folder / f"{domain}_{part}.npy")[:ON_SHEET]) for domain, part in keys]
    return contact_sheet(rows, [f"{domain} {part}" for domain, part in keys])


def _report(photos: list[Photo], summary: dict) -> None:
    columns = "{:9}{:>7}{:>9}{:>7}{:>8}{:>7}{:>12}{:>6}   {}"
    say(columns.format("", "found", "refused", "aside", "groups", *PARTS, "kept resolution, px (10, 50, 90 %)"))
    for domain in DOMAINS:
        mine = [photo for photo in photos if photo.entry.domain == domain]
        refused = sum(not photo.group for photo in mine)
        aside = sum(bool(photo.group) and not photo.part for photo in mine)
        sides = " / ".join(f"{s:.0f}" for s in np.percentile([p.side for p in mine if p.side], [10, 50, 90]))
        counts = summary["counts"][domain].values()
        say(columns.format(domain, len(mine), refused, aside, summary["groups"][domain], *counts, sides))
    groups = summary["groups"]
    say(f"largest group {groups['largest']}, groups in both domains {groups['in_both_domains']}")
    say(f"digest {summary['digest']}")
    if groups["largest"] > max(20, 0.02 * len(photos)):
        say("if the largest group is not one picture, lower ingest.near_duplicates")
