"""`bmask unmask` from and to a real S3 server: as from folder to folder, resumable, through a folder of one portion."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bmask.cli import app
from bmask.errors import DataError
from bmask.serving import objects
from bmask.serving.files import unmask_files
from bmask.serving.unmasker import Unmasker
from tiny import write_generator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def unmasker(tmp_path_factory):
    return Unmasker(write_generator(tmp_path_factory.mktemp("generator")), threshold=0.3)


@pytest.fixture
def given(s3, tmp_path) -> dict[str, bytes]:
    """Objects below photos/in: seven photos of three formats, some in folders, one in a format that becomes a PNG; a
    file that is none, clutter, and a video."""
    found = {}
    rng = np.random.default_rng(3)
    for number, name in enumerate(["a.png", "b/a.jpg", "b/ü.jpg", "c d.webp", "e.gif", "f.png", "g.jpg"]):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((60 + number, 40))
        form = {"jpg": "JPEG"}.get(name.rpartition(".")[2], name.rpartition(".")[2].upper())
        small.save(content := io.BytesIO(), form)
        found[name] = content.getvalue()
    others = {"no photo.jpg": b"hello", ".DS_Store": b"x", "clip.mp4": b"x"}
    for name, content in {**found, **others}.items():
        s3.client().put_object(Bucket="photos", Key=f"in/{name}", Body=content)
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    return found


def results(s3, prefix: str) -> dict[str, bytes]:
    names = [name for name in s3.names("photos") if name.startswith(prefix)]
    client = s3.client()
    return {
        name.removeprefix(prefix): client.get_object(Bucket="photos", Key=name)["Body"].read() for name in names
    }  # fmt: skip


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def local(given, unmasker, tmp_path) -> dict[str, bytes]:
    """What the same photos become from folder to folder."""
    unmask_files(tmp_path / "in", tmp_path / "expected", unmasker, attention=True)
    found = sorted((tmp_path / "expected").rglob("*"))
    return {path.relative_to(tmp_path / "expected").as_posix(): path.read_bytes() for path in found if path.is_file()}


def test_from_prefix_to_prefix_is_as_from_folder_to_folder(s3, given, local, unmasker, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "PORTION", 3)
    report = tmp_path / "done.csv"
    left_out = objects.unmask_objects("s3://photos/in", "s3://photos/out/", unmasker, attention=True, report=report)
    assert results(s3, "out/") == local
    assert len(left_out) == 1
    assert "s3://photos/in/no photo.jpg" in left_out[0]
    told = {row["photo"]: row for row in rows(report)}
    assert told["s3://photos/in/b/ü.jpg"]["result"] == "s3://photos/out/b/ü.jpg"
    assert told["s3://photos/in/e.gif"]["result"] == "s3://photos/out/e.gif.png"
    assert told["s3://photos/in/no photo.jpg"]["outcome"] == "left out"
    assert len(told) == len(given) + 1


@pytest.mark.parametrize("ends", [("s3://photos/in", "out"), ("in", "s3://photos/out")], ids=["fetch", "send"])
def test_one_end_may_be_a_folder(s3, local, unmasker, tmp_path, monkeypatch, ends):
    monkeypatch.chdir(tmp_path)
    objects.unmask_objects(*ends, unmasker, attention=True)
    if ends[1] == "out":
        found = {path.relative_to("out").as_posix(): path.read_bytes() for path in objects.Path("out").rglob("*.*")}
    else:
        found = results(s3, "out/")
    assert found == local


def test_it_goes_on_where_it_was_stopped(s3, local, given, unmasker, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "PORTION", 2)
    sent: list[str] = []
    send = objects.Prefix.send

    def failing(self, path, name):
        if len(sent) >= 5:
            raise DataError("the server is gone")
        sent.append(name)
        send(self, path, name)

    monkeypatch.setattr(objects.Prefix, "send", failing)
    report = tmp_path / "done.csv"
    with pytest.raises(DataError, match="is gone"):
        objects.unmask_objects("s3://photos/in", "s3://photos/out", unmasker, attention=True, report=report)
    for row in rows(report):  # what the report tells is there
        assert row["outcome"] == "left out" or row["result"].removeprefix("s3://photos/out/") in results(s3, "out/")
    monkeypatch.setattr(objects.Prefix, "send", send)
    fetched: list[str] = []
    save = objects.Prefix.save
    monkeypatch.setattr(
        objects.Prefix, "save", lambda self, item, path: (fetched.append(item.name), save(self, item, path))
    )
    again = tmp_path / "again.csv"
    objects.unmask_objects("s3://photos/in", "s3://photos/out", unmasker, True, resume=True, report=again)
    assert results(s3, "out/") == local
    assert 0 < len(fetched) < len(given) + 1
    assert sum(row["outcome"] == "there already" for row in rows(again)) == len(given) + 1 - len(fetched)


def test_results_inside_the_source_are_no_photos_and_the_source_itself_is_refused(s3, given, unmasker):
    for _ in range(2):
        objects.unmask_objects("s3://photos/in", "s3://photos/in/done", unmasker)
    assert set(results(s3, "in/done/")) == {f"{name}.png" if name.endswith("gif") else name for name in given}
    with pytest.raises(DataError, match="overwritten"):
        objects.unmask_objects("s3://photos/in", "s3://photos/in/", unmasker)
    with pytest.raises(DataError, match="holds no photos"):
        objects.unmask_objects("s3://photos/nothing", "s3://photos/out", unmasker)


def test_the_command_takes_addresses(s3, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = write_generator(tmp_path / "generator")
    done = CliRunner().invoke(app, ["unmask", "s3://photos/in", "s3://photos/out", "--model", str(generator)])
    assert done.exit_code == 3  # one was left out
    assert len(results(s3, "out/")) == len(given)
