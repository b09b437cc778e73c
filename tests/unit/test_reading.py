"""Quick ingest gives the arrays, manifest and digest of the rules applied plainly, one photo at a time."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from bmask.data.arrays import ArrayFile
from bmask.data.catalog import Catalog
from bmask.data.duplicates.signatures import MIRROR, perceptual_hash
from bmask.data.reading import workers
from bmask.data.reading.matching import matched_sides
from bmask.data.reading.squares import scratch_files
from bmask.data.reading.workers import readers
from bmask.data.records import DOMAINS, Entry, Photo
from bmask.data.split.assignment import settle, split_of
from bmask.data.split.dataset import Dataset
from bmask.errors import DataError
from bmask.params import Params, parse_params
from bmask.stages.ingest import ingest
from tiny import full_disk

COUNT = 50  # of each domain
LANCZOS = Image.Resampling.LANCZOS


def picture(seed: int, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (14, 14, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Small and large photos, upright and turned by EXIF, of several formats; near-duplicates; two damaged ones."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(COUNT):
        for domain, width, height in (("masked", 30 + 5 * number, 40 + 4 * number), ("unmasked", 200 - 2 * number, 90)):
            seed = number if domain == "masked" or number % 7 == 0 else 1000 + number
            photo, exif = picture(seed, width, height), Image.Exif()
            exif[0x0112] = 6 if number % 3 == 0 else 1
            path = folder / domain / f"{number:02}.{('jpg', 'png', 'webp')[number % 3]}"
            path.parent.mkdir(exist_ok=True)
            photo.save(path, exif=exif)
    picture(77, 1100, 1300).save(folder / "masked" / "large.jpg")  # decoded at half size, or in full for large squares
    for domain in DOMAINS:
        content = (folder / domain / "48.jpg").read_bytes()
        (folder / domain / "broken.jpg").write_bytes(content[: len(content) * 2 // 3])  # the header is sound
    return folder


def settings(source: Path, **options) -> Params:
    tree = {"source": str(source), "load_size": 40, "validation": 0.2, "private": True, **options}
    return parse_params({"ingest": tree, "train": {"image_size": 16}})


def decoded(path: Path, enough: int) -> Image.Image:
    """The upright photo; a JPEG is decoded at the smallest scale that keeps `enough` px."""
    with Image.open(path) as image:
        shorter = min(image.size)
        image.draft(None, tuple(-(-side * enough // shorter) for side in image.size))
        return ImageOps.exif_transpose(image).convert("RGB")


def distance(one: np.uint64, other: np.uint64) -> int:
    """Bits in which two hashes differ, mirrored or not, whichever is less."""
    return min(int(one ^ other).bit_count(), int(one ^ other ^ MIRROR).bit_count())


def manifest(out: Path) -> list[list[str]]:
    with open(out / "manifest.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def plainly(source: Path, options: Params, out: Path) -> tuple[dict[str, np.ndarray], list[list[str]], str]:
    """Arrays, rows of the manifest, digest; slices do not depend on reading and come from the dataset `out`."""
    slices = {(row[0], row[1]): row[8] for row in manifest(out)}
    wanted, rows, sound = options.ingest, {}, []
    for path in sorted(source.glob("*/*")):
        key = (path.parent.name, path.name)
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            with Image.open(path) as image:
                size = image.size
            size = ImageOps.exif_transpose(Image.open(path)).size
        except OSError:
            rows[key] = [*key, sha, *map(str, size), "", "", "", "", "is incomplete; copy it again"]
            continue
        sound.append((*key, sha, size, path, perceptual_hash(np.asarray(decoded(path, 256).convert("L")))))
    sound.sort(key=lambda photo: (photo[0], photo[2], photo[1]))

    brought = {domain: np.array([min(p[3]) for p in sound if p[0] == domain], float) for domain in DOMAINS}
    sides = np.concatenate([matched_sides(brought)[domain] for domain in DOMAINS])
    groups = list(range(len(sound)))
    for i in range(len(sound)):
        for j in range(i):
            if distance(sound[i][5], sound[j][5]) <= wanted.near_duplicates:
                old, new = groups[i], groups[j]
                groups = [new if group == old else group for group in groups]
    splits = settle(groups, [split_of(photo[5], wanted.test, wanted.validation) for photo in sound])

    arrays: dict[str, list[np.ndarray]] = {}
    listed = []
    for photo, side, group, split in zip(sound, sides, groups, splits, strict=True):
        domain, name, sha, size, path, _ = photo
        members = [other for other, its in zip(sound, groups, strict=True) if its == group]
        called = min(other[2] for other in members)[:12]
        row = [domain, name, sha, *map(str, size), called, split]
        if split:
            kept = min(int(side), wanted.load_size)
            image = decoded(path, max(256, 2 * kept))
            shorter, left, top = min(size), (image.width - min(image.size)) // 2, (image.height - min(image.size)) // 2
            image = image.crop((left, top, left + min(image.size), top + min(image.size)))
            image = image if image.width == kept else image.resize((kept, kept), LANCZOS, reducing_gap=3.0)
            image = image if kept == wanted.load_size else image.resize((wanted.load_size,) * 2, LANCZOS)
            assert kept <= shorter
            array = arrays.setdefault(f"{domain}_{split}", [])
            labels = slices[domain, name]
            listed.append([domain, split, len(array), sha, called, *filter(None, labels.split(";"))])
            rows[domain, name] = [*row, str(len(array)), labels, ""]
            array.append(np.asarray(image))
        else:
            other = next(o for o, its, p in zip(sound, groups, splits, strict=True) if its == group and p)
            stays = splits[sound.index(other)]
            reason = f"set aside: near-duplicate of {other[0]}/{other[1]} in {stays}"
            rows[domain, name] = [*row, "", "", reason]
    stacked = {name: np.stack(array) for name, array in sorted(arrays.items())}
    total = json.dumps(sorted(listed)).encode()
    total += b"".join(f"{name}.npy {array.shape}".encode() + array.tobytes() for name, array in stacked.items())
    return stacked, [row for _, row in sorted(rows.items())], hashlib.sha256(total).hexdigest()


@pytest.mark.parametrize("load_size", [40, 150])
def test_ingest_gives_what_the_rules_read_plainly_give(source, tmp_path, load_size):
    options = settings(source, load_size=load_size)
    ingest(options, tmp_path / "out")
    arrays, rows, digest = plainly(source, options, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert [row[:10] for row in manifest(tmp_path / "out")] == rows
    assert {path.stem for path in (tmp_path / "out").glob("*.npy")} == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(dataset.photos(*name.split("_")), array, err_msg=name)
    assert dataset.digest == digest


def test_every_photo_is_decoded_once_and_again_only_where_a_damaged_one_shifted_its_resolution(
    source, tmp_path, monkeypatch
):
    read, rule = [], workers.read_square

    def counted(photo, options):
        read.append(photo.entry.path)
        return rule(photo, options)

    monkeypatch.setattr(workers, "read_square", counted)
    ingest(settings(source, load_size=150), tmp_path / "out")
    twice = {path for path in read if read.count(path) > 1}
    assert 0 < len(twice) < COUNT
    for domain in DOMAINS:
        (source / domain / "broken.jpg").rename(source.parent / f"{domain}-broken.jpg")
    read.clear()
    try:
        ingest(settings(source, load_size=150), tmp_path / "sound")
        assert len(read) == len(set(read)) == 2 * COUNT + 1
    finally:
        for domain in DOMAINS:
            (source.parent / f"{domain}-broken.jpg").rename(source / domain / "broken.jpg")
    assert Dataset.open(tmp_path / "out").digest == Dataset.open(tmp_path / "sound").digest


def test_a_full_disk_leaves_the_split_of_before_and_nothing_else(source, tmp_path):
    out = tmp_path / "results" / "ingest"
    ingest(settings(source), out)
    before = Dataset.open(out).digest
    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        ingest(settings(source, test=0.3), out)
    assert Dataset.open(out).digest == before
    assert [path.name for path in out.parent.iterdir()] == ["ingest"]


def test_an_array_file_is_the_file_that_numpy_writes(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), np.uint8)
    with ArrayFile(tmp_path / "rows.npy", rows.shape) as array:
        for index in (3, 0, 6, 1, 2, 5, 4):
            array.write(index, rows[index])
        np.testing.assert_array_equal(array.read(5), rows[5])
        np.testing.assert_array_equal(array.read_rows(np.array([6, 2, 2])), rows[[6, 2, 2]])
        with pytest.raises(ValueError, match="does not fit"):
            array.write(7, rows[0])
        with pytest.raises(ValueError, match="does not fit"):
            array.write(0, rows[0, :4])
    buffer = io.BytesIO()
    np.save(buffer, rows)
    assert (tmp_path / "rows.npy").read_bytes() == buffer.getvalue()


def test_an_array_file_that_was_cut_gives_no_rows_of_nothing(tmp_path):
    with ArrayFile(tmp_path / "rows.npy", (4, 1000)) as array:
        os.truncate(tmp_path / "rows.npy", 2000)
        with pytest.raises(OSError, match=r"ends before its last row.*rows\.npy"):
            array.read_rows(np.array([0, 3]))


def test_an_array_file_takes_its_room_at_the_beginning(tmp_path):
    with full_disk(1000), pytest.raises(OSError, match="File too large"):
        ArrayFile(tmp_path / "rows.npy", (100, 8, 8, 3))


def test_a_photo_that_vanishes_while_others_are_read_is_refused_with_its_name(source, tmp_path, monkeypatch):
    look = workers.inspect

    def inspect(entry):
        photo = look(entry)
        if entry.name == "07.png":
            photo.entry = type(entry)(entry.domain, entry.name, str(Path(entry.path).with_name("gone")), entry.slices)
        return photo

    monkeypatch.setattr(workers, "inspect", inspect)
    with pytest.raises(DataError, match=r"masked/07\.png is not a regular file, or is a broken link"):
        ingest(settings(source, max_rejected=0.0), tmp_path / "out")


@pytest.fixture
def worker_processes(monkeypatch):
    monkeypatch.setattr(workers, "MIN_PHOTOS", 0)
    monkeypatch.setattr(workers, "cores", lambda: 2)


def test_processes_give_what_threads_give(source, tmp_path, worker_processes):
    ingest(settings(source, load_size=150), tmp_path / "out")
    _, rows, digest = plainly(source, settings(source, load_size=150), tmp_path / "out")
    assert Dataset.open(tmp_path / "out").digest == digest
    assert [row[:10] for row in manifest(tmp_path / "out")] == rows


KILLER = """
import os, signal
from bmask.data.reading import decoding as photos, photo as reading

def deadly(rule, words):
    def read(content, *more):
        if words in content:
            os.kill(os.getpid(), signal.SIGSEGV)
        return rule(content, *more)
    return read

reading.stored_size = deadly(reading.stored_size, b"kill who looks")
reading.decode_image = deadly(reading.decode_image, b"kill who reads")
"""


def test_a_photo_that_kills_its_decoder_is_refused_by_name_and_the_others_are_read(
    source, tmp_path, worker_processes, monkeypatch
):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    for name, words in (("12.jpg", b"kill who reads"), ("18.jpg", b"kill who looks")):
        with open(copy / "masked" / name, "ab") as file:
            file.write(words)
    (tmp_path / "site" / "sitecustomize.py").parent.mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(KILLER)  # what each new interpreter runs first
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    ingest(settings(copy), tmp_path / "out")
    with open(tmp_path / "out" / "rejected.csv", newline="", encoding="utf-8") as file:
        reasons = {row["name"]: row["reason"] for row in csv.DictReader(file) if "set aside" not in row["reason"]}
    for name in ("12.jpg", "18.jpg"):
        assert reasons.pop(name) == "kills the process that decodes it (SIGSEGV)"
    assert set(reasons) == {"broken.jpg"}


def test_a_reader_that_is_killed_while_it_waits_costs_no_photo(source, tmp_path, worker_processes):
    """A system short of memory kills readers like this."""
    entries = [Entry("masked", name, str(source / "masked" / name)) for name in ("00.jpg", "01.png", "02.webp")]

    def kill_all():
        for worker in reading._workers:
            worker._process.kill()
            worker._process.wait()

    with scratch_files(tmp_path, len(entries), 40) as files, readers(len(entries), settings(source).ingest) as reading:
        kill_all()
        photos = reading.look(entries)
        kill_all()
        reading.open(files)
        for row, photo in enumerate(photos):
            photo.row, photo.side = row, 40
        assert not any(photo.reason for photo in reading.read(photos))
        kill_all()
        assert not any(photo.reason for photo in reading.read(photos))
        assert all(files.squares.read(row).any() for row in range(len(entries)))


@pytest.mark.parametrize("method", ["add", "save"])
def test_when_rows_cannot_be_stored_no_reader_is_started_again(source, tmp_path, worker_processes, monkeypatch, method):
    started, start = [], subprocess.Popen

    def recorded(*args, **options):
        started.append(start(*args, **options))
        return started[-1]

    def full(self, photos, *fields):
        next(iter(photos))
        raise OSError(errno.ENOSPC, "disk is full")

    monkeypatch.setattr(workers.subprocess, "Popen", recorded)
    monkeypatch.setattr(Catalog, method, full)
    with pytest.raises(OSError, match="disk is full"):
        ingest(settings(source), tmp_path / "out")
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_a_full_disk_is_an_error_of_the_stage_and_of_no_photo(source, tmp_path, worker_processes):
    with scratch_files(tmp_path, 1, 40) as files:
        photo = Photo(Entry("masked", "large.jpg", str(source / "masked" / "large.jpg")), row=0, side=40)
        with readers(1, settings(source).ingest) as reading:
            reading.open(files)
            reading.read([photo])
            assert files.squares.read(0).any()
            assert files.signatures.read(0).any()
            with full_disk(100), pytest.raises(OSError, match="File too large"):
                read_again = Photo(photo.entry, row=0, side=40)
                with readers(1, settings(source).ingest) as within:
                    within.open(files)
                    within.read([read_again])
