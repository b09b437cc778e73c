"""Stage 1: photo folders -> a split of decoded, matched squares that leaks nothing from training into test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from bmask.data.dataset import DOMAINS, PARTS, VERSION, open_array
from bmask.data.manifest import Photo, digest, write_manifest
from bmask.data.parallel import parallel
from bmask.data.parts import assign_parts
from bmask.data.reading import inspect
from bmask.data.sheets import contact_sheet
from bmask.data.slices import assign_slices
from bmask.data.sources import open_source
from bmask.data.squares import read_squares, scratch_files, write_parts
from bmask.data.truth import write_truth
from bmask.errors import DataError
from bmask.files import fresh_folder, write_bytes, write_json, write_text
from bmask.params import Params
from bmask.progress import bar, say
from bmask.quality.data_report import data_report
from bmask.sections import Ingest

ON_SHEET = 12  # photos of each domain and part


def ingest(params: Params, out: Path) -> None:
    """Reads the photos of `params.ingest.source` and writes the split that all other stages read.

    All headers are read first, since the resolutions that both domains can keep follow from all photos' sizes; then
    each photo is decoded once, into a file of squares, and the squares are sorted into the parts when the
    near-duplicates are known. So memory holds a photo a core, and of each photo a row of the manifest and of the tables
    by which near-duplicates are found, some 2 KB.

    Writes into `out`: `{domain}_{part}.npy`, `truth_{part}_{twin,region}.npy` where there is truth, `manifest.csv`,
    `rejected.csv`, `summary.json`, `report.html` and, unless private, `contact_sheet.png`. The split depends on the
    photos' contents alone; names and the order of files change nothing but the names in the manifest.

    Raises:
        DataError: photos that cannot be fetched, folders missing or empty, too many photos refused, a part left empty,
            or truth that does not fit.
    """
    settings = params.ingest
    with open_source(params) as source, fresh_folder(Path(out)) as folder:
        photos = list(bar(parallel(inspect, source.entries), len(source.entries), "ingest: looking at files"))
        _check_refused(photos, settings)
        readable = sorted((p for p in photos if not p.reason), key=lambda p: (p.entry.domain, p.sha256, p.entry.name))
        with scratch_files(folder, len(readable), settings.load_size) as files:
            sound = read_squares(readable, files, settings)
            _check_refused(photos, settings)
            groups = assign_parts(sound, files.fingerprints, settings)
            used = [photo for photo in sound if photo.part]
            write_parts(used, files.squares, folder)
        truth = write_truth(used, folder, settings)
        guessed = assign_slices(used, folder, settings)
        write_manifest(photos, folder)

        counts = Counter((photo.entry.domain, photo.part) for photo in used)
        summary = {
            "digest": digest(used, folder),
            "load_size": settings.load_size,
            "private": settings.private,
            **source.origin,
            "counts": {domain: {part: counts[domain, part] for part in PARTS} for domain in DOMAINS},
            "groups": groups,
            "rejected": len(photos) - len(sound),
            "truth": truth,
            "version": VERSION,
        }
        write_json(folder / "summary.json", summary)
        if not settings.private:
            write_bytes(folder / "contact_sheet.png", _sheet(folder))
        write_text(folder / "report.html", data_report(settings, folder, photos, summary, guessed))
        _report(photos, summary)


def _check_refused(photos: list[Photo], settings: Ingest) -> None:
    refused = [photo for photo in photos if photo.reason]
    if len(refused) > settings.max_rejected * len(photos):
        first = [f"{p.entry.domain}/{p.entry.name} {p.reason}".lstrip("/") for p in refused[:4]]
        named = "; ".join(first + ["..."] * (len(refused) > len(first)))
        raise DataError(
            f"{len(refused)} of {len(photos)} photos are refused, more than the share ingest.max_rejected "
            f"{settings.max_rejected:g} ({named}); remove or mend them, or raise ingest.max_rejected"
        )


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
    if summary["rejected"]:
        say(f"refused {summary['rejected']} of {len(photos)}; rejected.csv says which and why")
    groups = summary["groups"]
    say(f"largest group {groups['largest']}, groups in both domains {groups['in_both_domains']}")
    say(f"digest {summary['digest']}")
    if groups["largest"] > max(20, 0.02 * len(photos)):
        say("if the largest group is not one picture, lower ingest.near_duplicates")
