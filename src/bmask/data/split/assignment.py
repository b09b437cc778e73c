"""Which part of the split each photo falls to, with its near-duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.arrays import ArrayFile, blocks
from bmask.data.catalog import SOUND, Catalog
from bmask.data.duplicates.fingerprints import FINGERPRINT
from bmask.data.duplicates.groups import find_groups, group_names, part_of, settle
from bmask.data.records import DOMAINS, PARTS, Photo
from bmask.errors import DataError

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

BLOCK = 1024  # fingerprints that are read at a time


def assign_parts(catalog: Catalog, fingerprints: ArrayFile, settings: Ingest) -> dict[str, int]:
    """Fills in group, part, index and, for photos set aside, the reason. Returns counts of the groups.

    Args:
        fingerprints: the bytes of each photo's FINGERPRINT, at its row.

    Raises:
        DataError: a part of a domain would be empty.
    """
    numbers, rows = (catalog.column(field, np.int64, SOUND, "row") for field in ("number", "row"))
    masked = catalog.column("domain = 'masked'", bool, SOUND, "row")
    hashes, aspects = (np.empty(len(rows), FINGERPRINT[name]) for name in ("hash", "aspect"))

    def fingerprints_of(places: np.ndarray) -> np.ndarray:
        return fingerprints.read_rows(rows[places]).view(FINGERPRINT)[:, 0]

    for block in blocks(np.arange(len(rows)), BLOCK):
        read = fingerprints_of(block)
        hashes[block], aspects[block] = read["hash"], read["aspect"]
    groups = find_groups(hashes, aspects, lambda places: fingerprints_of(places)["thumbnail"], settings.near_duplicates)
    parts = settle(groups, [part_of(hash_, settings.test, settings.validation) for hash_ in hashes])
    catalog.assign("group", numbers, group_names(groups, catalog.column("sha256", "S64", SOUND, "row")))
    catalog.assign("part", numbers, parts)
    for domain, mine in zip(DOMAINS, (masked, ~masked), strict=True):
        for part in PARTS:
            here = numbers[mine & (parts == part)]
            if not len(here):
                remedy = "lower ingest.test" if part == "train" else f"raise ingest.{part}"
                raise DataError(f"none of {mine.sum()} {domain} photos fell to {part}; add photos (50 do) or {remedy}")
            catalog.assign("index", here, np.arange(len(here)))
    aside = parts == ""
    _explain(catalog, numbers, groups, aside)
    found = {domain: np.unique(groups[mine]) for domain, mine in zip(DOMAINS, (masked, ~masked), strict=True)}
    return {
        **{domain: len(own) for domain, own in found.items()},
        "in_both_domains": len(np.intersect1d(found["masked"], found["unmasked"], assume_unique=True)),
        "largest": int(np.bincount(groups).max()),
        "set_aside": int(aside.sum()),
    }


def _explain(catalog: Catalog, numbers: np.ndarray, groups: np.ndarray, aside: np.ndarray) -> None:
    """Gives the photos set aside a reason that names the first of their group that stays."""
    firsts, first = np.unique(groups[~aside], return_index=True)
    stays = numbers[~aside][first[np.searchsorted(firsts, groups[aside])]]

    def explained() -> Iterator[Photo]:
        for photo, other in zip(catalog.at(numbers[aside]), catalog.at(stays), strict=True):
            photo.reason = f"set aside: near-duplicate of {other.entry.domain}/{other.entry.name} in {other.part}"
            yield photo

    catalog.save(explained(), "reason")
