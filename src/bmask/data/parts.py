"""Which part of the split each photo falls to, with its near-duplicates."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bmask.data.dataset import DOMAINS, PARTS
from bmask.data.groups import find_groups, group_names, part_of, settle
from bmask.data.manifest import Photo
from bmask.errors import DataError
from bmask.sections import Ingest


def assign_parts(photos: list[Photo], settings: Ingest) -> dict[str, int]:
    """Fills in group, part, index and, for photos set aside, the reason. Returns counts of the groups.

    Raises:
        DataError: a part of a domain would be empty.
    """
    prints = np.array([photo.fingerprint for photo in photos])
    numbers = find_groups(prints, settings.near_duplicates)
    names = group_names(numbers, [photo.sha256 for photo in photos])
    parts = settle(numbers, [part_of(hash_, settings.test, settings.validation) for hash_ in prints["hash"]])
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
