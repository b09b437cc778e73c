"""Which part of the split each photo falls to, with its near-duplicates."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bmask.data.arrays import ArrayFile
from bmask.data.dataset import DOMAINS, PARTS
from bmask.data.fingerprints import FINGERPRINT
from bmask.data.groups import find_groups, group_names, part_of, settle
from bmask.data.manifest import Photo
from bmask.errors import DataError
from bmask.sections import Ingest

BLOCK = 1024  # fingerprints that are read at a time


def assign_parts(photos: list[Photo], fingerprints: ArrayFile, settings: Ingest) -> dict[str, int]:
    """Fills in group, part, index and, for photos set aside, the reason. Returns counts of the groups.

    Args:
        fingerprints: the bytes of each photo's FINGERPRINT, at its row.

    Raises:
        DataError: a part of a domain would be empty.
    """
    rows = np.array([photo.row for photo in photos])
    hashes, aspects = (np.empty(len(photos), FINGERPRINT[name]) for name in ("hash", "aspect"))

    def fingerprints_of(numbers: np.ndarray) -> np.ndarray:
        return fingerprints.read_rows(rows[numbers]).view(FINGERPRINT)[:, 0]

    for block in np.split(np.arange(len(photos)), range(BLOCK, len(photos), BLOCK)):
        read = fingerprints_of(block)
        hashes[block], aspects[block] = read["hash"], read["aspect"]
    numbers = find_groups(
        hashes, aspects, lambda numbers: fingerprints_of(numbers)["thumbnail"], settings.near_duplicates
    )
    names = group_names(numbers, [photo.sha256 for photo in photos])
    parts = settle(numbers, [part_of(hash_, settings.test, settings.validation) for hash_ in hashes])
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
