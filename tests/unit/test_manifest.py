"""The manifest is read as it was written, whatever a file is called."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.data.records import DOMAINS, SPLITS, Entry, Photo
from bmask.data.split.manifest import read_manifest, write_manifest
from bmask.errors import DataError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12)
LABELS = st.lists(st.sampled_from(["cap", "dark", "small"]), unique=True).map(tuple)
ENTRIES = st.builds(Entry, st.sampled_from(DOMAINS), TEXT, st.just(""), LABELS)
LANDMARKS = st.just(()) | st.lists(st.integers(0, 999_999), min_size=10, max_size=10, unique=True).map(
    lambda numbers: tuple(n / 100 for n in numbers)
)
USED = st.builds(
    Photo, ENTRIES, sha256=st.just("ab"), width=st.integers(1, 9), height=st.integers(1, 9), group=st.just("g"),
    split=st.sampled_from(SPLITS), index=st.integers(0, 9), side=st.integers(1, 9), slices=LABELS, guessed=LABELS,
    score=st.integers(0, 1000).map(lambda n: n / 1000), landmarks=LANDMARKS,
)  # fmt: skip
REFUSED = st.builds(Photo, ENTRIES, reason=TEXT)


@given(st.lists(USED | REFUSED, max_size=4))
def test_photos_come_back_as_they_were_written(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("manifest")
    write_manifest(photos, folder, 72)
    assert list(map(dataclasses.asdict, read_manifest(folder))) == list(map(dataclasses.asdict, photos))


def test_a_missing_or_older_manifest_is_named_with_its_remedy(tmp_path):
    with pytest.raises(DataError, match=r"manifest.csv does not exist; run ingest again"):
        list(read_manifest(tmp_path))
    (tmp_path / "manifest.csv").write_text("domain,name,slices\nmasked,a.png,\n")
    with pytest.raises(DataError, match=r"manifest.csv is damaged or of another version \('labels'\); run ingest"):
        list(read_manifest(tmp_path))
