"""`bmask unmask` from and to a real S3 server: results as between folders, resumable, one portion on disk at a time."""

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
    """Objects below photos/in: seven photos of four formats, some in folders, one of which becomes a PNG; a file that
    is no photo, clutter, and a video."""
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
    """The results of the same photos from folder to folder."""
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
    for row in rows(report):  # every result in the report exists
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


def test_results_inside_the_source_are_no_photos(s3, given, unmasker):
    for _ in range(2):
        objects.unmask_objects("s3://photos/in", "s3://photos/in/done", unmasker)
    assert set(results(s3, "in/done/")) == {f"{name}.png" if name.endswith("gif") else name for name in given}


@pytest.mark.parametrize(
    ("src", "dst", "sentence"),
    [
        ("s3://photos/in", "s3://photos//in/", "would be overwritten"),
        ("s3://photos/in/b", "s3://photos/in", "would be overwritten"),  # in/b/b/a.jpg to in/b/a.jpg
        ("s3://photos/nothing", "s3://photos/out", "holds no photos"),
    ],
)
def test_photos_are_never_overwritten(s3, given, unmasker, src, dst, sentence):
    s3.client().put_object(Bucket="photos", Key="in/b/b/a.jpg", Body=given["b/a.jpg"])
    before = results(s3, "in/")
    with pytest.raises(DataError, match=sentence):
        objects.unmask_objects(src, dst, unmasker)
    assert results(s3, "") == {f"in/{name}": content for name, content in before.items()}


@pytest.mark.parametrize("resume", [False, True])
def test_of_two_photos_with_one_result_the_second_is_left_out(s3, given, unmasker, monkeypatch, resume):
    monkeypatch.setattr(objects, "PORTION", 1)
    s3.client().put_object(Bucket="photos", Key="in/e.gif.png", Body=given["a.png"])
    for again in range(1 + resume):
        left_out = objects.unmask_objects("s3://photos/in", "s3://photos/out", unmasker, resume=bool(again))
        assert any("in/e.gif.png would be written over the result of another photo" in line for line in left_out)


def test_a_name_that_storage_cannot_have_is_left_out_and_an_object_may_be_called_like_a_folder(
    s3, given, unmasker, tmp_path
):
    (tmp_path / "in" / "caf\udce9.png").write_bytes(given["a.png"])
    (tmp_path / "in" / ("long" * 60 + ".png")).write_bytes(given["a.png"])
    left_out = objects.unmask_objects(str(tmp_path / "in"), "s3://photos/out", unmasker)
    assert any("caf\\xe9.png has a name that is no UTF-8" in line for line in left_out)
    s3.client().put_object(Bucket="photos", Key="in/b", Body=given["a.png"])
    left_out = objects.unmask_objects("s3://photos/in", "s3://photos/more", unmasker)
    assert "more/b.png" in s3.names("photos")
    assert [line for line in left_out if "no photo" not in line] == []


def test_an_object_that_vanishes_is_left_out_and_a_server_that_refuses_ends_it(
    s3, given, unmasker, tmp_path, monkeypatch
):
    save, gone = objects.Prefix.save, []

    def vanishing(self, item, path):
        if not gone:
            gone.append(item.name)
            self.client.delete_object(Bucket="photos", Key=f"in/{item.name}")
        save(self, item, path)

    monkeypatch.setattr(objects.Prefix, "save", vanishing)
    left_out = objects.unmask_objects("s3://photos/in", "s3://photos/out", unmasker)
    assert any(f"in/{gone[0]} cannot be fetched" in line for line in left_out)
    assert len(results(s3, "out/")) == len(given) - 1
    report = tmp_path / "done.csv"

    def refused(self, item, path):
        raise DataError("the session token has expired")

    monkeypatch.setattr(objects.Prefix, "save", refused)
    with pytest.raises(DataError, match="expired"):
        objects.unmask_objects("s3://photos/in", "s3://photos/later", unmasker, report=report)
    assert rows(report) == []


def test_a_report_is_no_photo(given, unmasker, tmp_path):
    photo = tmp_path / "in" / "a.png"
    with pytest.raises(DataError, match=r"ends in \.csv"):
        objects.unmask_objects(str(tmp_path / "in"), "s3://photos/out", unmasker, report=photo)
    assert photo.read_bytes() == given["a.png"]
    report = tmp_path / "in" / "done.csv"
    for _ in range(2):
        assert len(objects.unmask_objects(str(tmp_path / "in"), "s3://photos/out", unmasker, report=report)) == 1


def test_the_command_takes_addresses(s3, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = write_generator(tmp_path / "generator")
    done = CliRunner().invoke(app, ["unmask", "s3://photos/in", "s3://photos/out", "--model", str(generator)])
    assert done.exit_code == 3  # one was left out
    assert len(results(s3, "out/")) == len(given)
