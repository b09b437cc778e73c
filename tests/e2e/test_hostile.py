"""Ingest reads each difficult file correctly or refuses it by name, and nothing hangs or breaks."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from bmask.data.reading.decoding import decode_with_size
from bmask.data.reading.photo import inspect
from bmask.data.sources.listing import printable
from bmask.data.sources.opening import scan
from bmask.data.split.dataset import Dataset
from bmask.errors import DataError
from hostile import HEIGHT, WIDTH, Case, corpus, picture, sound, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # pytest shows those we hide
SOUND = 60  # of each domain


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    found = corpus()
    assert len(found) >= 200
    assert len({case.name for case in found}) == len(found)
    return found


def name_of(case: Case) -> str:
    return printable(os.fsdecode(case.name))


def unlike(pixels: np.ndarray, case: Case) -> str:
    if case.pixels is None:
        return "was read"
    if pixels.shape != case.pixels.shape:
        return f"has the shape {pixels.shape}, not {case.pixels.shape}"
    difference = np.abs(pixels.astype(int) - case.pixels).mean()
    return f"differs by {difference:.2f} grey levels" if difference > case.tolerance else ""


def test_every_file_is_read_as_it_was_drawn_or_refused_with_the_right_reason(cases, capfd):
    wrong, read = {}, 0
    for case in (case for case in cases if not case.make):
        try:
            pixels, size = decode_with_size(case.content)
            assert size == pixels.shape[1::-1]
            complaint, read = unlike(pixels, case), read + 1
        except DataError as error:
            complaint = "" if case.reason and case.reason in str(error) else str(error)
        if complaint:
            wrong[case.name] = complaint
    assert wrong == {}
    assert read >= 150
    assert "".join(capfd.readouterr()) == ""


RUN = """
import sys
from bmask.cli import main
sys.argv[0] = "bmask"
main()
"""


def bmask(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300)


def params(folder: Path, source: Path | str, max_rejected: float) -> None:
    settings = {"source": str(source), "load_size": HEIGHT, "match_resolution": False, "max_rejected": max_rejected}
    tree = {"ingest": {**settings, "private": True}, "train": {"image_size": 16}}
    (folder / "params.yaml").write_text(json.dumps(tree))


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """All paths below a folder, with sizes and modification times."""
    paths = (os.path.join(parent, name) for parent, *names in os.walk(folder) for name in chain(*names))
    return {path: (os.lstat(path).st_size, os.lstat(path).st_mtime_ns) for path in paths}


@pytest.fixture(scope="module")
def ran(cases, tmp_path_factory) -> tuple[Path, list[Case], subprocess.CompletedProcess]:
    """Runs ingest on the whole corpus in its own process: its folder, the cases that were written, the process."""
    folder = tmp_path_factory.mktemp("hostile")
    sound(folder / "photos", SOUND)
    made = write(cases, folder / "photos/masked")
    params(folder, "photos", 0.9)
    before = tree(folder)
    done = bmask(folder, "ingest")
    after = tree(folder)
    assert {path: after[path] for path in before if path != str(folder / "results")} == before
    assert all(path.startswith(str(folder / "results")) for path in set(after) - set(before))
    return folder, made, done


def rejected(folder: Path) -> dict[str, str]:
    with open(folder / "results/ingest/rejected.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row["reason"] for row in csv.DictReader(file)}


def test_ingest_names_every_refused_file_with_its_reason_and_counts_them(ran):
    folder, made, done = ran
    assert done.returncode == 0, done.stderr
    reasons = rejected(folder)
    expected = {name_of(case): case for case in made}
    assert set(reasons) <= set(expected)
    wrong = {
        name: reason
        for name, reason in reasons.items()
        if not expected[name].reason or expected[name].reason not in reason
    }
    assert wrong == {}
    assert {name for name, case in expected.items() if case.pixels is None} <= set(reasons)
    assert f"refused {len(reasons)} of {len(made) + 2 * SOUND}; rejected.csv" in done.stderr
    assert Dataset.open(folder / "results/ingest").summary["rejected"] == len(reasons)


def test_what_is_kept_of_the_corpus_shows_what_was_drawn(ran):
    folder, made, _ = ran
    dataset, left = Dataset.open(folder / "results/ingest"), (WIDTH - HEIGHT) // 2
    drawn = {name_of(case): case for case in made if case.pixels is not None}
    compared = 0
    for split in ("train", "validation", "test"):
        for name, square in zip(dataset.names("masked", split), dataset.photos("masked", split), strict=True):
            if name.startswith("sound"):
                expected = picture(200_000 + int(re.findall(r"\d+", name)[0]))
                np.testing.assert_array_equal(square, expected[:, left : left + HEIGHT])
                continue
            case = drawn[name]
            difference = np.abs(square.astype(int) - case.pixels[:, left : left + HEIGHT]).mean()
            assert difference <= 1.3 * case.tolerance, name  # the middle may differ a little more than the whole
            compared += 1
    assert compared >= 150


def test_nothing_but_our_own_lines_reaches_the_screen(ran):
    *_, done = ran
    assert done.stdout == ""
    assert not re.search(r"[Ww]arning|Traceback|JPEGLib|TIFF|PIL|\x1b", done.stderr), done.stderr
    assert len(done.stderr.splitlines()) < 10


@pytest.mark.parametrize("share", [0.05, 0.35])  # found while reading headers, and while reading pixels
def test_too_many_refused_files_are_a_failure_with_both_numbers(ran, tmp_path, share):
    folder, made, _ = ran
    params(tmp_path, folder / "photos", share)
    done = bmask(tmp_path, "ingest")
    assert done.returncode == 3
    said = r"(\d+) of (\d+) photos are refused, more than the share ingest\.max_rejected (\S+) \(masked/.* raise ingest"
    refused, found, stated = re.search(said, done.stderr.splitlines()[-1]).groups()
    assert int(found) == len(made) + 2 * SOUND
    assert share * int(found) < int(refused) <= len(rejected(folder))
    assert float(stated) == share
    assert not (tmp_path / "results/ingest").exists()


def manifest(folder: Path) -> set[str]:
    return set((folder / "results/ingest/manifest.csv").read_text().split("\n"))


@pytest.mark.parametrize("form", ["tar", pytest.param("zip", marks=pytest.mark.slow)])
def test_an_archive_of_the_corpus_gives_the_same_rows(ran, tmp_path, form):
    folder, made, _ = ran
    files = [case for case in made if not case.make]
    if form == "tar":
        with tarfile.open(tmp_path / "photos", "w:gz") as archive:
            archive.add(folder / "photos/unmasked", "unmasked")
            for path in (folder / "photos/masked").glob("sound*"):
                archive.add(path, f"masked/{path.name}")
            for case in files:
                info = tarfile.TarInfo("masked/" + os.fsdecode(case.name))
                info.size = len(case.content)
                archive.addfile(info, io.BytesIO(case.content))
    else:
        files = [case for case in files if case.name.isascii()]
        with zipfile.ZipFile(tmp_path / "photos", "w") as archive:
            for path in sorted((folder / "photos").glob("*/sound*")):
                archive.write(path, f"{path.parent.name}/{path.name}")
            for case in files:
                archive.writestr("masked/" + case.name.decode(), case.content)
    params(tmp_path, "photos", 0.9)
    done = bmask(tmp_path, "ingest")
    assert done.returncode == 0, done.stderr
    expected = {name_of(case) for case in files}
    assert set(rejected(tmp_path)) == {name for name in rejected(folder) if name in expected}
    if form == "tar":
        assert Dataset.open(tmp_path / "results/ingest").digest == Dataset.open(folder / "results/ingest").digest
        missing = manifest(folder) - manifest(tmp_path)
        assert len(missing) == len(made) - len(files)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are for one user."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def as_nobody(function: Callable[[], list]) -> list:
    """Calls the function as a user without rights, since root may read everything."""
    if os.getuid():
        return function()
    here, there = os.pipe()
    if not (child := os.fork()):
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(there, json.dumps(function()).encode())
        os._exit(0)
    os.close(there)
    with open(here) as answer:
        given = answer.read()
    os.waitpid(child, 0)
    return json.loads(given)


def test_what_may_not_be_read_is_refused_by_name(open_folder):
    sound(open_folder, 3)
    locked = open_folder / "masked/locked"
    locked.mkdir()
    (locked / "inside.png").write_bytes(b"1")
    (open_folder / "masked/sound 001.png").chmod(0)
    locked.chmod(0)
    try:
        photos = as_nobody(lambda: [[p.entry.name, p.reason] for p in map(inspect, scan(open_folder)) if p.reason])
    finally:
        locked.chmod(0o755)
    assert photos == [
        ["locked", "cannot be searched (Permission denied)"],
        ["sound 001.png", "cannot be read (Permission denied)"],
    ]


def test_a_domain_that_may_not_be_searched_is_told(open_folder):
    sound(open_folder, 1)
    (open_folder / "masked").chmod(0)

    def told() -> list[str]:
        with pytest.raises(DataError) as caught:
            scan(open_folder)
        return [str(caught.value)]

    try:
        (message,) = as_nobody(told)
    finally:
        (open_folder / "masked").chmod(0o755)
    assert message == f"{open_folder}/masked cannot be searched (Permission denied); check its permissions"


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path):
    sound(tmp_path, 1)
    os.mkfifo(tmp_path / "masked/pipe.jpg")
    begun = time.monotonic()
    (photo,) = [photo for photo in map(inspect, scan(tmp_path)) if photo.reason]
    assert photo.reason == "is not a regular file, or is a broken link"
    assert time.monotonic() - begun < 60
