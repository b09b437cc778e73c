"""Names of files: what is clutter, what leads outside, what can be printed, and which folder is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.data.sources.listing import Listing, is_clutter, list_folder, printable, unusual
from bmask.data.sources.opening import enter
from bmask.errors import DataError, ParamsError

HERE = Path(__file__)


def listing(*names: str, refused: tuple[str, ...] = ()) -> Listing:
    return Listing(dict.fromkeys(names, HERE), [(name, "is bad") for name in refused])


def found(given: Listing, masked: str = "masked", unmasked: str = "unmasked") -> list[tuple[str, str, str]]:
    entries = enter(given.unwrapped((masked, unmasked)), masked, unmasked, "photos.zip")
    return [(entry.domain, entry.name, entry.refused) for entry in entries]


def test_a_folder_that_was_packed_as_a_whole_is_looked_into():
    packed = listing("set/masked/a.png", "set/unmasked/b.png", "__MACOSX/set/._a.png", ".DS_Store", "set/readme.txt")
    assert found(packed) == [("masked", "a.png", ""), ("unmasked", "b.png", "")]


def test_domains_that_lie_deeper_by_their_names_are_left_where_they_are():
    packed = listing("set/with/a.png", "set/without/b.png")
    assert found(packed, "set/with", "set/without/") == [("masked", "a.png", ""), ("unmasked", "b.png", "")]


def test_of_two_folders_at_the_root_none_is_looked_into():
    with pytest.raises(DataError, match=r"photos\.zip has no folder masked \(folders there: other, set\); set ingest"):
        found(listing("set/masked/a.png", "set/unmasked/b.png", "other/c.png"))


def test_what_is_refused_stands_in_its_domain_or_in_none_and_clutter_nowhere():
    packed = listing("masked/a.png", "unmasked/b.png", "masked/.hidden/c.png", refused=("masked/x.png", "../y.png"))
    packed.refused.append(("masked/a.png", "is in the archive twice"))
    packed.refused.append(("masked/__MACOSX/z.png", "is bad"))
    assert found(packed)[:3] == [
        ("masked", "a.png", ""),
        ("masked", "a.png", "is in the archive twice"),
        ("masked", "x.png", "is bad"),
    ]
    assert ("", "../y.png", "is bad") in found(packed)
    assert len(found(packed)) == 5
    packed.refused.append(("masked/a.png", "is in the archive twice"))  # a third copy
    assert len(found(packed)) == 6


def test_a_domain_in_the_other_one_is_refused():
    with pytest.raises(ParamsError, match="share photos"):
        found(listing("a/b/c.png"), "a", "a/b")


LEFT = (".DS_Store", "._a.jpg", "Thumbs.db", "desktop.ini", "Icon\r", "IMG_1.AAE", "a.jpg.json", "a.jpg.xmp")
LEFT += ("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/a.jpg", ".@__thumb/a.jpg", "$RECYCLE.BIN/a.jpg")


@pytest.mark.parametrize("name", [*LEFT, "deep/er/" + LEFT[0], "__MACOSX/a.jpg"])
def test_what_file_managers_phones_and_nas_boxes_leave_is_clutter(name):
    assert is_clutter(name)


@pytest.mark.parametrize(
    "name", ["a.jpg", "@home.jpg", "#1.jpg", "2020.json/a.jpg", "icon.jpg", "no ending", "../a.jpg"]
)
def test_a_photo_of_an_odd_name_is_none(name):
    assert not is_clutter(name)


def test_a_folder_may_end_as_a_sidecar_does_and_videos_are_named_apart(tmp_path):
    for name in ("a/2020.json/b.png", "a/IMG_1.MOV", "a/IMG_1.AAE", "a/@eaDir/IMG_1.HEIC", "a/clip.mov/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = list_folder(tmp_path, ["a"])
    assert set(listed.files) == {"a/2020.json/b.png", "a/clip.mov/c.png"}
    assert listed.videos == ["a/IMG_1.MOV"]


def test_a_sidecar_at_the_root_of_an_archive_does_not_hide_the_folder_that_was_packed():
    packed = listing("set/masked/a.png", "set/unmasked/b.png", "metadata.json")
    packed.videos.append("set/masked/a.mov")
    assert packed.unwrapped(("masked", "unmasked")).videos == ["masked/a.mov"]
    assert found(packed) == [("masked", "a.png", ""), ("unmasked", "b.png", "")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../a", "leads out"),
        ("a/../../b", "leads out"),
        ("..", "leads out"),
        ("/a", "absolute"),
        ("C:/a", "absolute"),
        ("C:\\a", "absolute"),
        ("a//b", "empty steps"),
        ("./a", "empty steps"),
        ("a/", "empty steps"),
        ("", "empty steps"),
        ("a\0b", "NUL"),
    ],
)
def test_a_name_that_is_no_path_below_a_folder_is_told(name, reason):
    assert reason in unusual(name)


@given(st.text().filter(lambda name: not unusual(name)))
def test_any_other_name_stays_below_the_folder_it_is_joined_to(name):
    assert Path("/folder", name).is_relative_to("/folder")
    assert ".." not in Path("/folder", name).parts


@given(st.binary())
def test_what_is_printed_is_one_line_that_steers_no_terminal(raw):
    text = printable(raw.decode("utf-8", "surrogateescape"))
    text.encode("utf-8")
    assert len(text.splitlines()) <= 1
    assert "\x1b" not in text
    assert "\x9b" not in text
    if raw.isascii() and raw.decode().isprintable():
        assert text == raw.decode()
