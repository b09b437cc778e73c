"""Stage 1: photo folders -> a dataset of squares with matched resolutions and no leak from training into test."""

from __future__ import annotations

from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.catalog import ASIDE, CONTRADICTING, FACELESS, REFUSED, SOUND, UNREFUSED, USED, Catalog
from bmask.data.reading.further import set_contradicting_aside
from bmask.data.reading.landmarks import find_all
from bmask.data.reading.squares import match_resolutions, read_squares, scratch_files, write_splits
from bmask.data.reading.workers import readers
from bmask.data.records import DOMAINS, SPLITS
from bmask.data.sheets import contact_sheet
from bmask.data.sources.opening import open_source
from bmask.data.split.assignment import assign_splits
from bmask.data.split.dataset import VERSION, open_array
from bmask.data.split.manifest import digest, write_manifest
from bmask.data.split.slices import assign_slices
from bmask.data.split.truth import write_truth
from bmask.errors import DataError
from bmask.files import fresh_folder, write_bytes, write_json
from bmask.parallel import in_chunks
from bmask.progress import bar, say

if TYPE_CHECKING:
    from bmask.params import Params
    from bmask.params.sections import Ingest

PHOTOS_ON_SHEET = 12  # of each domain and split


def ingest(params: Params, out: Path) -> None:
    """Reads the photos of `params.ingest.source` and writes the dataset that all other stages read.

    It reads all headers first, because the resolutions that both domains can keep depend on the sizes of all photos.
    Then it decodes each photo once into a file of squares, and writes the squares into the splits when the
    near-duplicates are known. Memory holds one photo per core and a few numbers per photo: the rows are in the catalog,
    and near-duplicates are searched among a limited number of photos at a time.

    Writes into `out`: `{domain}_{split}.npy`, `truth_{split}_{twin,region}.npy` where there is truth, `manifest.csv`,
    `rejected.csv`, `summary.json` and, unless private, `contact_sheet.png`. The dataset depends only on the
    contents of the photos: file names and their order change only the names in the manifest.

    Raises:
        DataError: photos cannot be fetched, folders are missing or empty, too many photos are refused, a split is
            empty, or the truth does not fit.
    """
    settings = params.ingest
    with open_source(params) as source, fresh_folder(Path(out)) as folder, Catalog() as catalog:
        with ExitStack() as scratch:
            with readers(len(source.entries), settings) as reading:
                with closing(in_chunks(reading.look, source.entries)) as looked:  # must close before the readers
                    catalog.add(bar(looked, len(source.entries), "ingest: reading headers"))
                source.entries.clear()  # to save memory: the catalog has them
                _check_refused(catalog, settings)
                if settings.fit == "face":
                    find_all(catalog, reading, settings)
                files = scratch.enter_context(scratch_files(folder, catalog.count(SOUND), settings.load_size))
                read_squares(catalog, files, reading, settings)
                if settings.faces == "all":
                    set_contradicting_aside(catalog, files.squares)
                    match_resolutions(catalog, reading, settings)
            _check_refused(catalog, settings)
            groups = assign_splits(catalog, files.signatures, settings)
            write_splits(catalog, files.squares, folder)
        truth = write_truth(catalog, folder, settings)
        assign_slices(catalog)
        write_manifest(catalog.photos(order="domain, name"), folder, settings.load_size)

        counts = catalog.counts("domain, split")
        summary = {
            "digest": digest(catalog.photos(USED, 'domain, split, "index"'), folder),
            "load_size": settings.load_size,
            "fit": settings.fit,
            "private": settings.private,
            **source.origin,
            "counts": {domain: {split: counts[domain, split] for split in SPLITS} for domain in DOMAINS},
            "groups": groups,
            "rejected": catalog.count(REFUSED),
            "no_face": {domain: catalog.count(f"domain = '{domain}' AND {FACELESS}") for domain in DOMAINS},
            "other_state": {domain: catalog.count(f"domain = '{domain}' AND {CONTRADICTING}") for domain in DOMAINS},
            "truth": truth,
            "version": VERSION,
        }
        write_json(folder / "summary.json", summary)
        if not settings.private:
            write_bytes(folder / "contact_sheet.png", _sheet(folder))
        _say_counts(catalog, summary)


def _check_refused(catalog: Catalog, settings: Ingest) -> None:
    found = catalog.count("face = 1")
    where = f"NOT {UNREFUSED} AND face = 1"
    refused = catalog.count(where)
    if refused > settings.max_rejected * found:
        few = islice(catalog.photos(where), 4)
        first = [f"{p.entry.domain}/{p.entry.name} {p.reason}".lstrip("/") for p in few]
        named = "; ".join(first + ["..."] * (refused > len(first)))
        raise DataError(
            f"{refused} of {found} photos are refused, more than the share ingest.max_rejected "
            f"{settings.max_rejected:g} ({named}); remove or repair them, or raise ingest.max_rejected"
        )


def _sheet(folder: Path) -> bytes:
    keys = [(domain, split) for domain in DOMAINS for split in SPLITS]
    rows = [list(open_array(folder / f"{domain}_{split}.npy")[:PHOTOS_ON_SHEET]) for domain, split in keys]
    return contact_sheet(rows, [f"{domain} {split}" for domain, split in keys])


def _say_counts(catalog: Catalog, summary: dict) -> None:
    columns = "{:9}{:>7}{:>9}{:>7}{:>8}{:>7}{:>12}{:>6}   {}"
    say(columns.format("", "found", "refused", "aside", "groups", *SPLITS, "kept resolution, px (10, 50, 90 %)"))
    found, refused, aside = (catalog.counts("domain", where) for where in ("1", REFUSED, ASIDE))
    for domain in DOMAINS:
        kept = catalog.column("side", np.int64, f"domain = '{domain}' AND side > 0")
        sides = " / ".join(f"{s:.0f}" for s in np.percentile(kept, [10, 50, 90]))
        counts, groups = summary["counts"][domain].values(), summary["groups"][domain]
        say(columns.format(domain, found[domain], refused[domain], aside[domain], groups, *counts, sides))
    if summary["rejected"]:
        say(f"refused {summary['rejected']} of {catalog.count()}; rejected.csv says which and why")
    lost = summary["no_face"]
    if summary["fit"] == "face":
        further = catalog.counts("domain", "face > 1")
        photos = {domain: found[domain] - further[domain] for domain in DOMAINS}
        faces = ", ".join(f"{photos[d] - lost[d]} of {photos[d]} {d}" for d in DOMAINS)
        say(f"faces found in {faces} photos; manifest.csv names the others")
        if further:
            other = f"{catalog.count(CONTRADICTING)} of them set aside: masked faces in unmasked photos, or the reverse"
            say(f"{further.total()} further faces in the same photos, {other}")
    groups = summary["groups"]
    say(f"largest group {groups['largest']}, groups in both domains {groups['in_both_domains']}")
    say(f"digest {summary['digest']}")
    if groups["largest"] > max(20, 0.02 * catalog.count()):
        say("if the largest group shows different pictures, lower ingest.near_duplicates")
