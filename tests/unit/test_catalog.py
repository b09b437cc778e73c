"""The manifest's rows on disk behave like a list in memory."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.data import catalog as module
from bmask.data.catalog import SOUND, Catalog
from bmask.data.records import Entry, Photo
from bmask.errors import explained
from tiny import full_disk

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
PATH = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8) | st.just("/ph\udcfcoto")
LABELS = st.lists(st.sampled_from(["cap", "dark", "printed"]), max_size=2).map(tuple)
ENTRIES = st.builds(Entry, st.sampled_from(["masked", "unmasked", ""]), TEXT, PATH, LABELS, PATH, PATH)
PHOTOS = st.builds(
    Photo,
    ENTRIES,
    sha256=st.text("0123456789abcdef", max_size=4),
    width=st.integers(0, 9),
    height=st.integers(0, 9),
    group=TEXT,
    split=st.sampled_from(["", "train", "test"]),
    row=st.integers(-1, 99),
    index=st.integers(-1, 99),
    side=st.integers(0, 9),
    slices=LABELS,
    guessed=LABELS,
    reason=st.sampled_from(["", "is empty"]),
)


def filled(photos: list[Photo]) -> tuple[Catalog, list[Photo]]:
    catalog = Catalog()
    catalog.add(photos)
    return catalog, [replace(photo, number=number) for number, photo in enumerate(photos, start=1)]


@given(st.lists(PHOTOS, max_size=12))
def test_what_goes_in_comes_out(photos):
    catalog, expected = filled(photos)
    with catalog:
        assert list(catalog.photos()) == expected
        assert catalog.count() == len(photos)


@given(st.lists(PHOTOS, max_size=12))
def test_conditions_orders_and_counts_are_those_of_python(photos):
    catalog, rows = filled(photos)
    with catalog:
        sound = [photo for photo in rows if not photo.reason]
        found = list(catalog.photos(SOUND, 'domain, sha256, name, number, "index"'))
        assert found == sorted(sound, key=lambda p: (p.entry.domain, p.sha256, p.entry.name, p.number))
        np.testing.assert_array_equal(catalog.column("width", np.int64, SOUND), [photo.width for photo in sound])
        assert catalog.count(of='DISTINCT "group"') == len({photo.group for photo in rows})
        counts = catalog.counts("domain, split", SOUND)
        for key in {(photo.entry.domain, photo.split) for photo in rows} | {("none", "")}:
            assert counts[key] == sum((photo.entry.domain, photo.split) == key for photo in sound)
        assert sum(catalog.counts("split").values()) == len(rows)


@given(st.lists(st.tuples(PHOTOS, PHOTOS), min_size=1, max_size=12), st.randoms())
def test_what_is_saved_replaces_the_fields_named_and_no_others(pairs, random):
    catalog, rows = filled([before for before, _ in pairs])
    with catalog:
        random.shuffle(rows)
        after = [replace(p, split=new.split, guessed=new.guessed) for p, (_, new) in zip(rows, pairs, strict=True)]
        catalog.save((replace(photo, sha256="not named") for photo in after), "split", "guessed")
        numbers = np.array([photo.number for photo in rows])
        assert list(catalog.at(numbers)) == after
        catalog.assign("row", numbers, np.arange(len(rows)))
        catalog.assign("group", numbers, np.array([f"{number:04}" for number in numbers]))
        assert [photo.row for photo in catalog.at(numbers)] == list(range(len(rows)))
        assert all(photo.group == f"{photo.number:04}" for photo in catalog.photos())


def test_rows_can_be_saved_while_they_are_read(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 3)
    catalog, rows = filled([Photo(Entry("masked", f"{number}", "")) for number in range(20)])

    def turned():
        for photo in catalog.photos(order="row, number"):
            photo.row = 20 - photo.number  # the query is ordered by it
            yield photo

    with catalog:
        catalog.save(turned(), "row")
        assert [photo.row for photo in catalog.photos()] == [20 - photo.number for photo in rows]


def test_a_full_disk_is_an_error_that_says_so(tmp_path, monkeypatch):
    """This also proves that rows go to the disk: else nothing would fail."""
    monkeypatch.setattr(module, "CACHE", 64)
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    photos = (Photo(Entry("masked", "n" * 500, str(number))) for number in range(2000))
    with Catalog() as catalog, full_disk(100_000), pytest.raises(OSError, match="rows of the manifest") as told:
        catalog.add(photos)
    assert told.value.errno == errno.ENOSPC
    assert explained(told.value)[0].startswith(f"{tmp_path}/rows of the manifest cannot be written or read: ")
    assert not list(tmp_path.iterdir())
