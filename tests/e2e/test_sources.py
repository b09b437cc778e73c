"""The same photos from a folder, archives, a real S3 server and git revisions give one split; failures are reported."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bmask.data.sources import objects
from bmask.data.sources.fetching import fetched
from bmask.data.sources.revisions import fetched_revision, pin_revision
from bmask.data.split.dataset import Dataset
from bmask.errors import DataError
from bmask.params import Params, parse_params
from bmask.stages.ingest import ingest
from repository import Repository
from s3 import OWNER, READER, free_ports

COUNT = 40  # of each domain


def draw(folder: Path, seed: int = 0, count: int = COUNT) -> Path:
    for domain in ("masked", "unmasked"):
        for number in range(count):
            noise = np.random.default_rng([seed, number, len(domain)]).integers(0, 256, (5, 5, 3), np.uint8)
            path = folder / domain / "älbum" / f"{seed} {number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).resize((24, 24), Image.Resampling.BICUBIC).save(path)
    return folder


def settings(source: Path | str, s3: dict | None = None, **ingest_options) -> Params:
    tree = {"source": str(source), "load_size": 20, "validation": 0.3, **ingest_options}
    return parse_params({"ingest": tree, "train": {"image_size": 16}, "s3": s3 or {}})


def dataset_of(params: Params, folder: Path) -> Dataset:
    out = folder / "results"
    ingest(params, out)
    return Dataset.open(out)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("source") / "photos")


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory) -> Dataset:
    return dataset_of(settings(photos), tmp_path_factory.mktemp("expected"))


def refused(params: Params, tmp_path: Path) -> str:
    with pytest.raises(DataError) as caught:
        ingest(params, tmp_path / "refused")
    message = str(caught.value)
    assert "\n" not in message
    assert not any(secret in message for _, secret in (OWNER, READER))
    assert not (tmp_path / "refused").exists()
    return message


def rows(dataset: Dataset) -> list[str]:
    return (dataset.folder / "manifest.csv").read_text().splitlines()


def packed(photos: Path, path: Path) -> Path:
    """Packs the folder's content into an archive of the kind that `path` names."""
    if path.suffix == ".zip":
        shutil.make_archive(str(path.with_suffix("")), "zip", photos)
    else:
        with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
            archive.add(photos, "photos")  # inside a folder, as is common
    return path


SLOW = [pytest.param(f"photos.tar{ending}", marks=pytest.mark.slow) for ending in ("", ".bz2", ".xz")]


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", *SLOW])
def test_an_archive_gives_the_manifest_of_its_folder(photos, expected, tmp_path, name):
    dataset = dataset_of(settings(packed(photos, tmp_path / name)), tmp_path)
    assert rows(dataset) == rows(expected)
    assert dataset.digest == expected.digest
    assert dataset.summary["source"] == str(tmp_path / name)


def test_an_archive_in_a_bucket_and_in_a_revision_gives_the_manifest_of_its_folder(s3, photos, expected, tmp_path):
    repository = Repository(tmp_path / "repository")
    packed(photos, repository.folder / "photos.tar.gz")
    s3.client().upload_file(str(repository.folder / "photos.tar.gz"), "photos", "v1/photos.tar.gz")
    repository.run("dvc", "init", "-q")
    repository.run("dvc", "add", "-q", "photos.tar.gz")
    kept = repository.commit()
    for source, options in (
        ("s3://photos/v1/photos.tar.gz", {}),
        ("photos.tar.gz", {"repository": str(repository.folder)}),
    ):
        dataset = dataset_of(settings(source, **options), tmp_path)
        assert rows(dataset) == rows(expected)
        assert dataset.digest == expected.digest
    assert dataset.summary["revision"] == kept


def test_what_an_archive_hides_is_refused_by_name_and_the_rest_is_the_split_of_the_folder(
    photos, expected, tmp_path, capsys
):
    (tmp_path / "outside.png").write_bytes(b"mine")
    path = packed(photos, tmp_path / "photos.tar")
    with tarfile.open(path, "a") as archive:
        for name in ("photos/masked/../../outside.png", f"{tmp_path}/outside.png", "../outside.png"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("photos/masked/link\n.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside.png")
        archive.addfile(link)
    dataset = dataset_of(settings(path), tmp_path)
    assert dataset.digest == expected.digest
    assert (tmp_path / "outside.png").read_bytes() == b"mine"
    with open(dataset.folder / "rejected.csv", newline="") as file:
        reasons = {(row["domain"], row["name"]): row["reason"] for row in csv.DictReader(file)}
    assert len(reasons) == 4
    assert "link to" in reasons["masked", "link\\n.png"]
    assert "leads out of its folder" in reasons["masked", "../../outside.png"]
    assert "absolute path" in reasons["", f"{tmp_path}/outside.png"]
    assert f"refused 4 of {2 * COUNT + 4}" in capsys.readouterr().err
    message = refused(settings(path, max_rejected=0.04), tmp_path)
    assert f"4 of {2 * COUNT + 4} photos are refused, more than the share ingest.max_rejected 0.04" in message


# S3


def test_photos_below_a_prefix_give_the_split_of_their_folder(s3, photos, expected, tmp_path):
    s3.upload(photos, "photos", "v1")
    s3.upload(photos / "masked", "photos", "v10/other")  # same beginning, but not below the prefix
    s3.client().put_object(Bucket="photos", Key="v1/masked/", Body=b"")  # a folder's marker
    dataset = dataset_of(settings("s3://photos/v1/"), tmp_path)
    assert dataset.digest == expected.digest
    assert dataset.names("masked", "test") == expected.names("masked", "test")
    assert dataset.summary["source"] == "s3://photos/v1/"
    assert dataset.summary["revision"] == ""


def test_the_params_name_the_server_and_a_reader_may_read(s3, photos, expected, tmp_path, monkeypatch):
    s3.upload(photos, "photos", "v1")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), READER, strict=True):
        monkeypatch.setenv(name, value)
    for checksums in ("when_required", "when_supported"):
        server = {"endpoint": s3.endpoint, "region": "us-east-1", "path_style": True, "checksums": checksums}
        assert dataset_of(settings("s3://photos/v1", server), tmp_path).digest == expected.digest


def test_more_objects_than_a_listing_holds_are_all_found(s3):
    client, names = s3.client(), [f"{number:04d}" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: client.put_object(Bucket="photos", Key=f"many/{name}", Body=b""), names))
    assert objects.Prefix("s3://photos/many", Params().s3, "ingest.source").names() == names


@pytest.mark.parametrize("name", ["../out.png", "masked//a.png", "./a.png", "/etc/a.png"])
def test_no_key_leads_out_of_the_folder(s3, name, monkeypatch):
    s3.client().put_object(Bucket="photos", Key="v1/masked/good.png", Body=b"1")
    (good,) = objects.Prefix("s3://photos/v1", Params().s3, "").objects()
    hostile = objects.Object(name, 1, good.etag)  # this server does not keep such keys, others do
    monkeypatch.setattr(objects.Prefix, "objects", lambda self: [good, hostile])
    with fetched("s3://photos/v1", Params().s3, "ingest.source") as listing:
        assert list(listing.files) == ["masked/good.png"]
        ((refused, reason),) = listing.refused
    assert refused == name
    assert "path" in reason


def test_what_is_missing_is_named(s3, photos, tmp_path):
    assert "no objects below it; put the photos there" in refused(settings("s3://photos/v2"), tmp_path)
    message = refused(settings("s3://nobodys-bucket/v1"), tmp_path)
    assert "there is no bucket nobodys-bucket at http://127.0.0.1:" in message
    assert "correct ingest.source" in message
    s3.upload(photos, "photos", "v1")
    message = refused(settings("s3://photos/v1", masked="mask"), tmp_path)
    assert "s3://photos/v1 has no folder mask (folders there: masked, unmasked); set ingest.masked" in message
    assert "write it like s3://bucket/prefix" in refused(settings("s3:///v1"), tmp_path)


def test_wrong_keys_are_told_apart_and_no_secret_is_told(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    message = refused(settings("s3://photos/v1"), tmp_path)
    assert "the secret does not belong to the access key; set AWS_SECRET_ACCESS_KEY" in message
    assert "another-secret" not in message
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "does not know the access key; set AWS_ACCESS_KEY_ID" in refused(settings("s3://photos/v1"), tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "there are no credentials; set AWS_ACCESS_KEY_ID" in refused(settings("s3://photos/v1"), tmp_path)


def test_a_server_that_is_down_is_named(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    port = free_ports(1)[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{OWNER[1]}@127.0.0.1:{port}")
    message = refused(settings("s3://photos/v1"), tmp_path)
    assert f"nothing answers at http://127.0.0.1:{port}; start the server, or correct s3.endpoint" in message


def test_who_may_not_write_is_told(s3, monkeypatch):
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), READER, strict=True):
        monkeypatch.setenv(name, value)
    prefix = objects.Prefix("s3://photos/v1", Params().s3, "train.checkpoints")
    with pytest.raises(DataError, match=r"train\.checkpoints s3://photos/v1: .* not the right to write a\.txt"):
        prefix.put("a.txt", b"text")
    assert not s3.names("photos")


# Revisions


def test_each_revision_of_a_dvc_folder_gives_its_own_split(s3, photos, expected, tmp_path, monkeypatch):
    repository = Repository(tmp_path / "repository")
    shutil.copytree(photos, repository.folder / "data/faces")
    repository.run("dvc", "init", "-q")
    remote = "[core]\n remote = store\n['remote \"store\"']\n url = s3://photos/dvc\n"
    (repository.folder / ".dvc/config").write_text(remote)
    commits = []
    for seed in (None, 1):
        if seed is not None:
            draw(repository.folder / "data/faces", seed, 10)
        repository.run("dvc", "add", "-q", "data/faces")
        commits.append(repository.commit())
        repository.run("git", "tag", f"v{len(commits)}")
    repository.run("dvc", "push", "-q", "--all-tags")
    for path in (".dvc/cache", "data/faces"):  # a fresh clone lacks them
        shutil.rmtree(repository.folder / path)
    before = sorted(repository.folder.rglob("*"))

    one = settings("data/faces", repository=str(repository.folder), revision="v1")
    dataset = dataset_of(one, tmp_path)
    assert dataset.digest == expected.digest
    assert dataset.summary["revision"] == commits[0]
    assert dataset.summary["source"] == "data/faces"
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # the remote names no server, so that of the params is used
    head = settings("data/faces", {"endpoint": s3.endpoint}, repository=f"file://{repository.folder}")
    other = dataset_of(head, tmp_path)
    assert other.digest != expected.digest
    assert other.summary["revision"] == commits[1]
    assert other.summary["counts"] != expected.summary["counts"]
    assert sorted(repository.folder.rglob("*")) == before

    stored = s3.names("photos")
    s3.client().delete_object(Bucket="photos", Key=next(name for name in stored if not name.endswith(".dir")))
    assert "No storage files available: 'data/faces/" in refused(head, tmp_path)
    s3.empty("photos")
    message = refused(one.model_copy(update={"s3": head.s3}), tmp_path)
    assert f"the files of data/faces at {commits[0]} cannot be fetched" in message
    assert "`dvc push` them there" in message
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    assert "Forbidden" in refused(head, tmp_path)


@pytest.mark.parametrize(
    "hostile",
    ["../evil.png", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a/../../../evil.png", "/evil.png"))],
)
def test_a_list_of_files_that_climbs_out_writes_nothing_outside(tmp_path, hostile, monkeypatch):
    repository = Repository(tmp_path / "repository")
    (repository.folder / "faces/masked").mkdir(parents=True)
    (repository.folder / "faces/masked/a.png").write_bytes(b"a photo")
    repository.run("dvc", "init", "-q")
    repository.run("dvc", "add", "-q", "faces")
    (listed,) = repository.folder.glob(".dvc/cache/files/md5/*/*.dir")
    content = json.dumps([{**json.loads(listed.read_text())[0], "relpath": hostile}]).encode()
    digest = hashlib.md5(content).hexdigest()
    forged = listed.parents[1] / digest[:2] / f"{digest[2:]}.dir"
    forged.parent.mkdir(exist_ok=True)
    forged.write_bytes(content)
    tracked = repository.folder / "faces.dvc"
    tracked.write_text(re.sub(r"md5: \w+\.dir", f"md5: {digest}.dir", tracked.read_text()))
    repository.commit()
    (tmp_path / "x/y").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "x/y"))
    with (
        contextlib.suppress(DataError),
        fetched_revision(str(repository.folder), "", "faces", Params().s3) as (_, found),
    ):
        assert not found.files
    assert not list(tmp_path.rglob("evil.png"))
    assert not Path("/evil.png").exists()


def test_a_link_in_a_revision_is_not_followed_out_of_it(tmp_path):
    repository = Repository(tmp_path / "repository")
    (repository.folder / "faces").mkdir()
    (tmp_path / "secret").write_text("mine")
    (repository.folder / "faces/link.png").symlink_to(tmp_path / "secret")
    (repository.folder / "faces/linked").symlink_to(tmp_path)
    repository.commit()
    with fetched_revision(str(repository.folder), "", "faces", Params().s3) as (_, found):
        assert sorted(found.files) == ["link.png", "linked"]
        assert not [path for path in found.files.values() if path.is_symlink() or path.read_text() == "mine"]


@pytest.fixture(scope="module")
def plain(photos, tmp_path_factory) -> Repository:
    """A repository of two commits, without DVC."""
    repository = Repository(tmp_path_factory.mktemp("plain") / "repository")
    shutil.copytree(photos, repository.folder / "faces")
    repository.first = repository.commit()
    repository.run("git", "tag", "-a", "v1", "-m", "the first")
    draw(repository.folder / "faces", 1, 3)
    repository.second = repository.commit()
    draw(repository.folder / "faces", 2, 3)  # not committed
    return repository


WITHOUT_GIT = """
import shutil, sys
from bmask.stages.ingest import ingest
from bmask.params import parse_params
assert shutil.which("git") is None
ingest(parse_params({"ingest": {"source": "faces", "repository": sys.argv[1], "revision": sys.argv[2], "load_size": 20,
    "validation": 0.3}, "train": {"image_size": 16}}), sys.argv[3])
"""


def test_a_folder_that_git_keeps_needs_neither_dvc_nor_a_git_binary(plain, expected, tmp_path):
    (tmp_path / "bin").mkdir()
    for repository in (str(plain.folder), f"file://{plain.folder}"):
        arguments = (repository, "v1", str(tmp_path / "out"))
        subprocess.run(
            [sys.executable, "-c", WITHOUT_GIT, *arguments],
            env={**os.environ, "PATH": str(tmp_path / "bin")},
            check=True,
            timeout=300,
        )
        dataset = Dataset.open(tmp_path / "out")
        assert dataset.digest == expected.digest
        assert dataset.summary["revision"] == plain.first


def test_a_revision_is_pinned_to_its_whole_commit(plain):
    for repository in (str(plain.folder), f"file://{plain.folder}"):
        assert pin_revision(repository, "v1") == plain.first
        assert pin_revision(repository, plain.first) == plain.first
        assert pin_revision(repository, "main") == plain.second
        assert pin_revision(repository) == plain.second


def test_what_a_repository_has_not_is_named(plain, tmp_path):
    here = str(plain.folder)
    with pytest.raises(DataError, match=r"ingest\.revision: .* has no commit, tag or branch v9; push it"):
        pin_revision(here, "v9")
    with pytest.raises(DataError, match=r"has no commit, tag or branch v9; push it"):
        pin_revision(f"file://{here}", "v9")
    for place in (str(tmp_path / "nowhere"), str(tmp_path), f"file://{tmp_path}"):
        with pytest.raises(DataError, match=r"ingest\.repository: .* cannot be read as a git repository"):
            pin_revision(place, "v1")
    assert f"has no folder or archive mask at {plain.first}" in refused(
        settings("mask", repository=here, revision="v1"), tmp_path
    )
