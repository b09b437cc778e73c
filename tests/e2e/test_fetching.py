"""Fetching from a real S3 server that breaks off, dies and comes back: no partial or stale file counts as complete."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from bmask.data.sources import fetching, objects, revisions
from bmask.data.sources.fetching import fetched
from bmask.data.sources.listing import Listing
from bmask.data.sources.revisions import fetched_revision
from bmask.errors import DataError
from bmask.params import Params
from repository import Repository
from s3 import WRITER, Server, free_ports, s3_server
from tiny import full_disk

SETTINGS = Params().s3
URL = "s3://photos/v1"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def kept(tmp_path):
    """Call it for the fetched files that are kept for the next run."""
    return lambda: [path for path in (tmp_path / "tmp").glob("bmask-*/*/[!.]*") if path.is_file()]


def put(s3: Server, count: int, size: int = 1000) -> dict[str, bytes]:
    photos = {f"masked/{number:03}.png": os.urandom(size) for number in range(count)}
    for name, content in photos.items():
        s3.client().put_object(Bucket="photos", Key=f"v1/{name}", Body=content)
    return photos


def contents(listing: Listing) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in listing.files.items()}


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The names of the requested objects."""
    names, save = [], objects.Prefix.save

    def noted(self, item, path):
        names.append(item.name)
        save(self, item, path)

    monkeypatch.setattr(objects.Prefix, "save", noted)
    return names


def test_what_an_interrupted_run_has_fetched_is_not_asked_for_again(s3, asked, kept, capsys):
    photos = put(s3, 30)
    with pytest.raises(KeyboardInterrupt), fetched(URL, SETTINGS, "ingest.source"):
        raise KeyboardInterrupt
    assert len(kept()) == len(photos)
    assert "run the same command again to continue" in capsys.readouterr().err
    for path in kept()[:3]:
        path.unlink()
    half, empty = kept()[:2]
    half.write_bytes(half.read_bytes()[:500])
    empty.write_bytes(b"")
    s3.client().put_object(Bucket="photos", Key="v1/masked/029.png", Body=photos["masked/000.png"][::-1])  # same size
    photos["masked/029.png"] = photos["masked/000.png"][::-1]
    asked.clear()
    with fetched(URL, SETTINGS, "ingest.source") as listing:
        assert contents(listing) == photos
    assert "masked/029.png" in asked
    assert 5 <= len(asked) <= 6
    assert kept() == []
    assert f"{len(photos) - len(asked)} of {len(photos)} objects are here from an" in capsys.readouterr().err


KILLED = """
import sys
from bmask.data.sources.fetching import fetched
from bmask.params import Params
with fetched(sys.argv[1], Params().s3, "ingest.source"):
    pass
"""


def test_a_fetch_that_is_killed_goes_on_with_what_is_missing(s3, asked, kept):
    photos = put(s3, 60, 200_000)
    process = subprocess.Popen([sys.executable, "-c", KILLED, URL], stderr=subprocess.DEVNULL)
    while len(kept()) < 5:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(kept())
    with fetched(URL, SETTINGS, "ingest.source") as listing:
        assert contents(listing) == photos
    assert len(asked) == len(photos) - there
    assert kept() == []


@pytest.mark.parametrize("tracked", [False, True], ids=["git", "dvc"])
def test_a_revision_that_was_interrupted_goes_on_with_what_is_missing(tracked, tmp_path, monkeypatch, kept):
    repository = Repository(tmp_path / "repository")
    photos = {f"masked/{number:02}.png": os.urandom(1000) for number in range(40)}
    for name, content in photos.items():
        path = repository.folder / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if tracked:
        repository.run("dvc", "init", "-q")
        repository.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
        repository.run("dvc", "add", "-q", "faces")
        repository.run("dvc", "push", "-q")
        shutil.rmtree(repository.folder / ".dvc/cache")
        shutil.rmtree(repository.folder / "faces")
    commit, asked, save = repository.commit(), [], revisions._Inside.save

    def noted(self, item, path):
        asked.append(item.name)
        if interrupted and len(asked) > 15:
            raise KeyboardInterrupt
        save(self, item, path)

    monkeypatch.setattr(revisions._Inside, "save", noted)
    interrupted = True
    with pytest.raises(KeyboardInterrupt), fetched_revision(str(repository.folder), "main", "faces", SETTINGS):
        pass
    there = len(kept())
    assert 0 < there < len(photos)
    asked.clear()
    interrupted = False
    with fetched_revision(str(repository.folder), "main", "faces", SETTINGS) as (found, listing):
        assert found == commit
        assert contents(listing) == photos
    assert len(asked) == len(photos) - there
    assert kept() == []


def test_a_disk_that_is_full_while_objects_come_is_named_with_the_way_out(s3, tmp_path):
    put(s3, 2, size=3000)
    with full_disk(2000), pytest.raises(DataError) as told, fetched(URL, SETTINGS, "ingest.source"):
        pass
    assert f": {tmp_path}/tmp/bmask-" in str(told.value)
    assert str(told.value).endswith("File too large; make room there, or set TMPDIR to a folder with more room")


def test_a_disk_that_is_full_is_told_and_not_the_remote(tmp_path, kept):
    repository = Repository(tmp_path / "repository")
    (repository.folder / "faces").mkdir()
    (repository.folder / "faces/large.png").write_bytes(os.urandom(8 << 20))
    repository.commit()
    fetching = fetched_revision(str(repository.folder), "", "faces", SETTINGS)
    with (
        full_disk(4 << 20),
        pytest.raises(DataError, match=r"faces of .* cannot be stored in .*make room there"),
        fetching,
    ):
        pass
    assert kept() == []


def test_two_that_fetch_the_same_do_not_disturb_each_other(s3, kept):
    photos = put(s3, 5)
    with ExitStack() as stack:
        one = stack.enter_context(fetched(URL, SETTINGS, "ingest.source"))
        with fetched(URL, SETTINGS, "ingest.source") as other:
            assert contents(other) == photos
            assert not {*one.files.values()} & {*other.files.values()}
        assert contents(one) == photos
    assert kept() == []


def test_a_folder_that_somebody_else_may_write_is_not_trusted(s3, tmp_path):
    put(s3, 1)
    home = tmp_path / "tmp" / f"bmask-{os.getuid()}"
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(DataError, match="can be written by others; remove it, or set TMPDIR"):
        with fetched(URL, SETTINGS, "ingest.source"):
            pass
    home.rmdir()
    home.symlink_to(tmp_path)
    with pytest.raises(DataError, match="can be written by others"), fetched(URL, SETTINGS, "ingest.source"):
        pass


def test_what_no_photo_can_be_is_refused_and_not_fetched(s3, asked, monkeypatch):
    photos = put(s3, 2)
    for name in ("huge.tif", "film.mp4"):
        s3.client().put_object(Bucket="photos", Key=f"v1/masked/{name}", Body=bytes(5000))
    monkeypatch.setattr(fetching, "MAX_BYTES", 4000)
    with fetched(URL, SETTINGS, "ingest.source") as listing:
        assert contents(listing) == photos
        assert listing.refused == [("masked/huge.tif", "has 5000 bytes; a photo has at most 4000")]
        assert listing.videos == ["masked/film.mp4"]
    assert sorted(asked) == sorted(photos)


def test_an_object_that_changes_after_the_listing_is_not_mixed_in(s3, tmp_path):
    put(s3, 1)
    prefix = objects.Prefix(URL, SETTINGS, "ingest.source")
    (item,) = prefix.objects()
    put(s3, 1)
    with pytest.raises(DataError, match="an object changed meanwhile; wait until nothing writes there, and try again"):
        prefix.save(item, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_who_may_not_list_or_read_is_told_what_to_do(s3, monkeypatch, tmp_path):
    put(s3, 1)
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), WRITER, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match="has not the right to list objects there; give it that right or use another"):
        with fetched(URL, SETTINGS, "ingest.source"):
            pass
    prefix = objects.Prefix(URL, SETTINGS, "ingest.source")
    with pytest.raises(DataError, match=r"has not the right to read masked/000\.png there"):
        prefix.fetch("masked/000.png", tmp_path)
    assert not (tmp_path / "masked").exists() or not list((tmp_path / "masked").iterdir())


# A server that dies


def restarted(folder: Path, ports: list[int], monkeypatch) -> Server:
    for name, value in Server(f"http://127.0.0.1:{ports[0]}").environment().items():
        monkeypatch.setenv(name, value)
    return s3_server(folder, ports)


@pytest.fixture
def mortal(tmp_path, monkeypatch):
    """Each call starts a server with the same address and data."""
    ports = free_ports(4)
    return lambda: restarted(tmp_path / "mortal", ports, monkeypatch)


def test_a_server_that_dies_in_the_middle_and_comes_back_gives_everything(mortal, monkeypatch):
    with mortal() as server:
        server.empty("photos")
        photos = put(server, 40, 300_000)
        time.sleep(1)  # the server writes its journal to the disk
    begun, goon, save = threading.Event(), threading.Event(), objects.Prefix.save

    def slow(self, item, path):
        if item.name >= "masked/010.png":
            begun.set()
            goon.wait(60)
        save(self, item, path)

    monkeypatch.setattr(objects.Prefix, "save", slow)
    got: dict[str, bytes] = {}

    def fetch():
        with fetched(URL, SETTINGS, "ingest.source") as listing:
            got.update(contents(listing))

    with mortal():
        thread = threading.Thread(target=fetch)
        thread.start()
        assert begun.wait(60)
    goon.set()  # the server is dead while the workers ask
    time.sleep(1)
    with mortal():
        thread.join(120)
    assert got == photos


@pytest.mark.slow
def test_a_server_that_stays_dead_is_told_and_the_next_run_goes_on(mortal, monkeypatch, asked, kept):
    with mortal() as server:
        server.empty("photos")
        photos = put(server, 20)
        time.sleep(1)
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    monkeypatch.setattr(fetching, "WORKERS", 1)
    with ExitStack() as stack, monkeypatch.context() as patched:
        server, save = stack.enter_context(mortal()), objects.Prefix.save

        def deadly(self, item, path):
            if item.name == "masked/012.png":
                stack.close()
            save(self, item, path)

        patched.setattr(objects.Prefix, "save", deadly)
        ready(server)
        with pytest.raises(DataError, match=r"ingest\.source s3://photos/v1: nothing answers at http://127\.0\.0\.1"):
            with fetched(URL, SETTINGS, "ingest.source"):
                pass
    assert len(kept()) == 12
    asked.clear()
    with mortal() as server:
        ready(server)
        with fetched(URL, SETTINGS, "ingest.source") as listing:
            assert contents(listing) == photos
    assert len(asked) == 8


def ready(server: Server) -> None:
    """Waits until a server that has just started returns its objects; the client retries."""
    server.client().get_object(Bucket="photos", Key="v1/masked/000.png")


def test_an_answer_that_breaks_off_goes_on_where_it_was(s3, tmp_path, monkeypatch):
    """A proxy passes at most 100,000 bytes of an answer."""
    content = os.urandom(350_000)
    s3.client().put_object(Bucket="photos", Key="v1/masked/a.png", Body=content)
    port = int(s3.endpoint.rpartition(":")[2])
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket, most: int) -> None:
        while most > 0 and (data := source.recv(min(65536, most))):
            most -= len(data)
            target.sendall(data)
        for end in (source, target):
            with ExitStack() as stack:
                stack.callback(end.close)
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            for pair in ((client, server, 1 << 30), (server, client, 100_000)):
                threading.Thread(target=quietly, args=pair, daemon=True).start()

    def quietly(*pair) -> None:
        try:
            carry(*pair)
        except OSError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        prefix = objects.Prefix(URL, SETTINGS, "ingest.source")
        (item,) = prefix.objects()
        prefix.save(item, tmp_path / "whole")
        assert (tmp_path / "whole").read_bytes() == content
        monkeypatch.setattr(objects, "ATTEMPTS", 2)
        with pytest.raises(DataError, match="breaks off its answers; check the server and the network"):
            prefix.save(item, tmp_path / "half")
        assert [path.name for path in tmp_path.glob("*half*")] == []
    finally:
        listener.close()
