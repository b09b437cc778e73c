"""The cache of faces outlives runs, kills and other writers, and nothing depends on it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys

import pytest

from bmask.faces import cache as module
from bmask.faces.cache import Cache


def test_what_is_put_is_there_for_the_next_one_until_the_finder_changes(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "faces.sqlite"
    with Cache(path) as cache:
        assert cache.get("a") is None
        cache.put([("a", (0.5, 1.25, -3.0)), ("none", ())])
    with Cache(path) as cache:
        assert cache.get("a") == (0.5, 1.25, -3.0)
        assert cache.get("none") == ()
        monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
        assert cache.get("a") is None


def test_a_killed_writer_leaves_whole_rows_and_no_lock(tmp_path):
    path = tmp_path / "faces.sqlite"
    code = f"""
from bmask.faces.cache import Cache
from pathlib import Path
import time
cache = Cache(Path({str(path)!r}))
for n in range(10**6):
    cache.put([(f"{{n}}-{{i}}", (n, i)) for i in range(50)])
    time.sleep(0.02)
    if n == 3:
        print("written", flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout and writer.stdout.readline() == "written\n"
    with Cache(path) as beside:
        beside.put([("mine", (1.0,))])  # while the other process writes
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with Cache(path) as cache:
        assert cache.get("mine") == (1.0,)
        assert [cache.get(f"2-{i}") for i in range(50)] == [(2, i) for i in range(50)]
        cache.put([("after", ())])
        assert cache.get("after") == ()
    with sqlite3.connect(path) as base:
        counts = base.execute("SELECT COUNT(*) FROM found WHERE sha256 LIKE '%-%' GROUP BY json_extract(face, '$[0]')")
        assert {count for (count,) in counts} == {50}


@pytest.mark.parametrize("trouble", ["damaged", "a file in its place"])
def test_a_cache_that_cannot_be_used_is_told_once_and_done_without(tmp_path, capsys, trouble):
    path = tmp_path / "cache" / "faces.sqlite"
    if trouble == "damaged":
        path.parent.mkdir()
        path.write_bytes(b"no database at all" * 100)
    else:
        path.parent.write_text("")
    with Cache(path) as cache:
        cache.put([("a", (1.0,))])
        assert cache.get("a") is None
    told = capsys.readouterr()
    assert (told.out + told.err).count("found faces are not cached") == 1
