"""Assigns each photo to a split, together with its near-duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bmask.data.arrays import ArrayFile, blocks
from bmask.data.catalog import SOUND, Catalog
from bmask.data.duplicates.groups import find_groups, group_names
from bmask.data.duplicates.signatures import COARSE, MIRROR, SIGNATURE
from bmask.data.records import DOMAINS, SPLITS, Photo
from bmask.errors import DataError

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

BLOCK = 1024  # signatures read at a time


def assign_splits(catalog: Catalog, signatures: ArrayFile, settings: Ingest) -> dict[str, int]:
    """Fills in group, split, index and, for photos set aside, the reason. Returns counts of the groups.

    Args:
        signatures: the bytes of each photo's SIGNATURE, at its row.

    Raises:
        DataError: a split of a domain would be empty.
    """
    numbers, rows = (catalog.column(field, np.int64, SOUND, "row") for field in ("number", "row"))
    masked = catalog.column("domain = 'masked'", bool, SOUND, "row")
    hashes, aspects = (np.empty(len(rows), SIGNATURE[name]) for name in ("hash", "aspect"))

    def signatures_of(places: np.ndarray) -> np.ndarray:
        return signatures.read_rows(rows[places]).view(SIGNATURE)[:, 0]

    for block in blocks(np.arange(len(rows)), BLOCK):
        read = signatures_of(block)
        hashes[block], aspects[block] = read["hash"], read["aspect"]
    groups = find_groups(hashes, aspects, lambda places: signatures_of(places)["thumbnail"], settings.near_duplicates)
    splits = settle(groups, [split_of(hash_, settings.test, settings.validation) for hash_ in hashes])
    catalog.assign("group", numbers, group_names(groups, catalog.column("sha256", "S64", SOUND, "row")))
    catalog.assign("split", numbers, splits)
    for domain, mine in zip(DOMAINS, (masked, ~masked), strict=True):
        for split in SPLITS:
            here = numbers[mine & (splits == split)]
            if not len(here):
                fix = "lower ingest.test" if split == "train" else f"raise ingest.{split}"
                raise DataError(f"none of {mine.sum()} {domain} photos is in {split}; add photos (50 suffice) or {fix}")
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
    """Draws the split of a photo without its group, seeded by its coarse hash alone.

    Args:
        test: share of all photos.
        validation: share of the photos that are not test. Changing it does not change the test photos.
    """
    coarse = min(int(hash_ & COARSE), int((hash_ ^ MIRROR) & COARSE))
    draws = hashlib.sha256(f"bmask part {coarse:016x}".encode()).digest()
    if int.from_bytes(draws[:8], "big") < test * 2**64:
        return "test"
    return "validation" if int.from_bytes(draws[8:16], "big") < validation * 2**64 else "train"


def settle(groups: ArrayLike, splits: Sequence[str]) -> np.ndarray:
    """Gives every group one split; returns a split per photo, text (N,), "" where the photo is set aside.

    Added photos never move another photo to a different split, and no group lies in two splits. Earlier runs are not
    remembered, so a photo's split must follow from the photo alone. Both rules together mean that the minority must be
    set aside where near-duplicates draw different splits. At a tie, test goes before validation before train, because
    results come from test. So an added near-duplicate can set an old photo aside or bring it back, but not move it.
    Of 3432 real photos 66 are set aside; most are turned or cropped, so their coarse hash differs (without these: 10).
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
    """Gives the photos set aside a reason that names the first photo of their group that stays."""
    firsts, first = np.unique(groups[~aside], return_index=True)
    stays = numbers[~aside][first[np.searchsorted(firsts, groups[aside])]]

    def explained() -> Iterator[Photo]:
        for photo, other in zip(catalog.at(numbers[aside]), catalog.at(stays), strict=True):
            photo.reason = f"set aside: near-duplicate of {other.entry.domain}/{other.entry.name} in {other.split}"
            yield photo

    catalog.save(explained(), "reason")
