"""Which split each photo falls to, with its near-duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bmask.data.arrays import ArrayFile, blocks
from bmask.data.catalog import SOUND, Catalog
from bmask.data.duplicates.fingerprints import COARSE, FINGERPRINT, MIRROR
from bmask.data.duplicates.groups import find_groups, group_names
from bmask.data.records import DOMAINS, SPLITS, Photo
from bmask.errors import DataError

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

BLOCK = 1024  # fingerprints that are read at a time


def assign_splits(catalog: Catalog, fingerprints: ArrayFile, settings: Ingest) -> dict[str, int]:
    """Fills in group, split, index and, for photos set aside, the reason. Returns counts of the groups.

    Args:
        fingerprints: the bytes of each photo's FINGERPRINT, at its row.

    Raises:
        DataError: a split of a domain would be empty.
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
    splits = settle(groups, [split_of(hash_, settings.test, settings.validation) for hash_ in hashes])
    catalog.assign("group", numbers, group_names(groups, catalog.column("sha256", "S64", SOUND, "row")))
    catalog.assign("split", numbers, splits)
    for domain, mine in zip(DOMAINS, (masked, ~masked), strict=True):
        for split in SPLITS:
            here = numbers[mine & (splits == split)]
            if not len(here):
                remedy = "lower ingest.test" if split == "train" else f"raise ingest.{split}"
                raise DataError(f"none of {mine.sum()} {domain} photos fell to {split}; add photos (50 do) or {remedy}")
            catalog.assign("index", here, np.arange(len(here)))
    aside = splits == ""
    _explain(catalog, numbers, groups, aside)
    found = {domain: np.unique(groups[mine]) for domain, mine in zip(DOMAINS, (masked, ~masked), strict=True)}
    return {
        **{domain: len(own) for domain, own in found.items()},
        "in_both_domains": len(np.intersect1d(found["masked"], found["unmasked"], assume_unique=True)),
        "largest": int(np.bincount(groups).max()),
        "set_aside": int(aside.sum()),
    }


def split_of(hash_: np.uint64, test: float, validation: float) -> str:
    """The split that a photo belongs to by itself: a draw that is seeded by its coarse hash and by nothing else.

    Args:
        test: share of all photos.
        validation: share of what is not test. Changing it leaves the test photos alone.
    """
    coarse = min(int(hash_ & COARSE), int((hash_ ^ MIRROR) & COARSE))
    draws = hashlib.sha256(f"bmask part {coarse:016x}".encode()).digest()
    if int.from_bytes(draws[:8], "big") < test * 2**64:
        return "test"
    return "validation" if int.from_bytes(draws[8:16], "big") < validation * 2**64 else "train"


def settle(groups: ArrayLike, splits: Sequence[str]) -> np.ndarray:
    """Gives every group one split; returns a split per photo, text (N,), "" where the photo is set aside.

    No photo ever moves from one split to another when photos are added, and no group lies in two splits. Without a
    memory of earlier runs these two force a third: the split must be a function of the photo alone (each photo could
    have been the only one), so where near-duplicates draw different splits, some of them must be left out. The majority
    of the group stays; at a tie test goes before validation before train, for test is the yardstick. So what adding a
    near-duplicate can do is to put an old photo aside or bring it back, never to carry it across. Of 3432
    real photos that costs 66; most are turned or cropped copies, whose coarse hash differs (without them it is 10).
    """
    names = np.array(["test", "validation", "train"])
    numbers = {name: number for number, name in enumerate(names.tolist())}
    own = np.array([numbers[split] for split in splits], np.uint8)
    distinct, place = np.unique(np.asarray(groups), return_inverse=True)
    votes = np.zeros((len(distinct), len(names)), np.int32)
    np.add.at(votes, (place, own), 1)
    chosen = votes.argmax(axis=1)  # takes the first at a tie
    return np.where(own == chosen[place], names[own], "")


def _explain(catalog: Catalog, numbers: np.ndarray, groups: np.ndarray, aside: np.ndarray) -> None:
    """Gives the photos set aside a reason that names the first of their group that stays."""
    firsts, first = np.unique(groups[~aside], return_index=True)
    stays = numbers[~aside][first[np.searchsorted(firsts, groups[aside])]]

    def explained() -> Iterator[Photo]:
        for photo, other in zip(catalog.at(numbers[aside]), catalog.at(stays), strict=True):
            photo.reason = f"set aside: near-duplicate of {other.entry.domain}/{other.entry.name} in {other.split}"
            yield photo

    catalog.save(explained(), "reason")
