"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.files import fresh_folder, read_json, write_bytes, write_json, write_text
from tiny import full_disk

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def names(path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


# Files.


@given(st.binary(max_size=200))
def test_a_file_holds_what_was_written(folder, content):
    write_bytes(folder / "x", content)
    assert (folder / "x").read_bytes() == content
    assert names(folder) == ["x"]


@given(TREES)
def test_json_comes_back_as_it_was(folder, tree):
    path = folder / "x.json"
    write_json(path, tree)
    assert read_json(path) == tree
    path.unlink()


def test_json_is_readable_text_that_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "x.json", {"name": "größe 面"})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "name": "größe 面"\n}\n'


def test_text_is_utf_8_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "x", "ä\r\nb\n")
    assert (tmp_path / "x").read_bytes() == b"\xc3\xa4\r\nb\n"


def test_parents_are_made_and_names_may_be_strings(tmp_path):
    write_text(str(tmp_path / "a" / "b" / "c"), "x")
    assert (tmp_path / "a/b/c").read_text() == "x"


def test_other_people_on_the_machine_can_read_a_file_and_a_folder(tmp_path):
    write_text(tmp_path / "x", "x")
    with fresh_folder(tmp_path / "f"):
        pass
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o755


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    write_bytes(tmp_path / "x", b"old")
    with full_disk(room=1000), pytest.raises(OSError, match="File too large"):
        write_bytes(tmp_path / "x", b"new" * 1000)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "x", {"x": object()})
    assert read_json(tmp_path / "x") == 1
    assert names(tmp_path) == ["x"]


def test_a_reader_sees_one_whole_version_at_every_moment(tmp_path):
    path, versions = tmp_path / "x", [bytes([n]) * 50_000 for n in (1, 2)]
    write_bytes(path, versions[0])
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(20):
        write_bytes(path, versions[n % 2])
    stop.set()
    reader.join()
    assert seen <= set(versions)


# Folders.


def test_a_folder_is_not_there_until_its_block_has_ended(tmp_path):
    out = tmp_path / "results" / "stage"
    with fresh_folder(out) as fresh:
        (fresh / "x").write_text("x")
        assert not out.exists()
        assert fresh.parent == out.parent  # the same file system, so that the rename is one step
        assert list(fresh.iterdir()) == [fresh / "x"]
    assert names(out) == ["x"]
    assert names(out.parent) == ["stage"]


def test_a_new_folder_replaces_the_old_one_wholly(tmp_path):
    out = tmp_path / "stage"
    for name in ("old", "new"):
        with fresh_folder(out) as fresh:
            (fresh / name).write_text(name)
    assert names(out) == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_the_old_folder_and_no_other(tmp_path, error):
    out = tmp_path / "stage"
    with fresh_folder(out) as fresh:
        (fresh / "old").write_text("old")
    with pytest.raises(error), fresh_folder(out) as fresh:
        (fresh / "deep").mkdir()
        (fresh / "deep" / "half").write_text("half")
        raise error("stop")
    assert names(out) == ["old"]
    assert names(tmp_path) == ["stage"]


def test_what_a_killed_writer_left_goes_with_the_next_one_and_nothing_else_does(tmp_path):
    for name in (".out.abcd1234", ".out.v2.abcd1234", ".outer.abcd1234", ".out.abc"):
        (tmp_path / name).mkdir()
    with fresh_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"out", ".out.v2.abcd1234", ".outer.abcd1234", ".out.abc"}


def test_a_folder_may_be_named_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with fresh_folder("stage") as fresh:
        (fresh / "x").write_text("x")
    assert os.listdir("stage") == ["x"]


def test_numbers_keep_all_their_digits(tmp_path):
    write_json(tmp_path / "x", [0.1 + 0.2, 1e-300, 2**70])
    assert json.loads((tmp_path / "x").read_text()) == [0.1 + 0.2, 1e-300, 2**70]
