"""Two folders of photos become a dataset that leaks nothing, gives nothing away and stays the same."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import ks_2samp

from bmask.data.reading.matching import matched_sides
from bmask.data.records import DOMAINS, SPLITS
from bmask.data.sources.opening import scan
from bmask.data.split.dataset import Dataset
from bmask.errors import DataError, ParamsError
from bmask.params import Params, parse_params
from bmask.stages.ingest import ingest

SIZE = 24
COUNT = 70  # of each domain


def picture(seed: int, height: int, width: int) -> Image.Image:
    """A picture with the spectrum of a photo."""
    noise = np.random.default_rng(seed).normal(size=(4, height, width, 3))
    total = sum(gaussian_filter(layer, (s, s, 0)) * s for layer, s in zip(noise, (12, 6, 3, 1), strict=True))
    return Image.fromarray(np.uint8(np.clip(128 + 50 * total / total.std(), 0, 255)))


def settings(source: Path, **ingest_options) -> Params:
    tree = {"source": str(source), "load_size": SIZE, "validation": 0.2, **ingest_options}
    return parse_params({"ingest": tree, "train": {"image_size": 16}})


def manifest(out: Path) -> list[dict[str, str]]:
    with open(out / "manifest.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def splits(out: Path) -> dict[str, str]:
    return {f"{row['domain']}/{row['name']}": row["split"] for row in manifest(out)}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Masked photos are small and upright, unmasked ones large and wide, as in the real set."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(COUNT):
        form = ("png", "jpg", "webp", "bmp")[number % 4]
        for domain, seed, (height, width) in (
            ("masked", number, (18 + number, 16 + number // 2)),
            ("unmasked", 1000 + number, (60 + number, 80 + number)),
        ):
            path = folder / domain / f"photo {number:02} müller.{form}"
            path.parent.mkdir(exist_ok=True)
            picture(seed, height, width).save(path, **({"quality": 95} if form != "png" else {}))
    return folder


@pytest.fixture(scope="module")
def dataset(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results") / "ingest"
    ingest(settings(source), out)
    return out


@pytest.fixture
def copy(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copy"))


def test_every_photo_is_in_one_split_and_the_arrays_hold_what_the_manifest_says(dataset):
    opened, rows = Dataset.open(dataset), manifest(dataset)
    assert len(rows) == 2 * COUNT
    for domain in DOMAINS:
        counts = opened.summary["counts"][domain]
        assert all(counts.values())
        assert sum(counts.values()) == COUNT
        for split in SPLITS:
            photos = opened.photos(domain, split)
            assert photos.shape == (counts[split], SIZE, SIZE, 3)
            assert photos.dtype == np.uint8
            indices = [int(row["index"]) for row in rows if (row["domain"], row["split"]) == (domain, split)]
            assert sorted(indices) == list(range(len(photos)))


def test_a_row_of_an_array_shows_the_photo_that_the_manifest_names(source, dataset):
    opened = Dataset.open(dataset)
    for name, row in zip(opened.names("unmasked", "test"), opened.photos("unmasked", "test"), strict=True):
        photo = Image.open(source / "unmasked" / name).convert("RGB")
        side, left, top = min(photo.size), (photo.width - min(photo.size)) // 2, (photo.height - min(photo.size)) // 2
        expected = photo.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BOX)
        assert np.corrcoef(np.asarray(expected).ravel(), row.ravel())[0, 1] > 0.97


def test_a_sheet_is_there_to_be_looked_at_and_no_sheet_of_private_photos(source, dataset, tmp_path):
    assert Image.open(dataset / "contact_sheet.png").width > 200
    ingest(settings(source, private=True), tmp_path / "private")
    assert not list((tmp_path / "private").glob("*.png"))
    assert Dataset.open(tmp_path / "private").private


def test_the_digest_follows_the_photos_and_not_their_names_times_or_order(source, dataset, tmp_path):
    renamed = tmp_path / "renamed"
    for number, domain in enumerate(DOMAINS):
        for turn, path in enumerate(sorted((source / domain).iterdir(), reverse=True)):
            target = renamed / f"x{number}" / ("sub" if turn % 2 else ".") / f"{turn:03}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            os.utime(target, (turn, turn))
    ingest(settings(renamed, masked="x0", unmasked="x1"), tmp_path / "out")
    one, other = Dataset.open(dataset), Dataset.open(tmp_path / "out")
    assert one.digest == other.digest
    np.testing.assert_array_equal(one.photos("masked", "train"), other.photos("masked", "train"))


def test_live_photos_and_sidecars_change_nothing_and_are_no_refused_photos(dataset, copy, tmp_path, capsys):
    for path in sorted((copy / "masked").iterdir()):
        for ending in (".mov", ".AAE", ".jpg.json"):
            path.with_suffix(ending).write_bytes(b"no photo")
        thumb = copy / "masked" / "@eaDir" / path.name / "SYNOPHOTO_THUMB_M.jpg"
        thumb.parent.mkdir(parents=True)
        shutil.copy(path, thumb)
    shutil.make_archive(str(tmp_path / "packed"), "zip", copy)
    for number, place in enumerate((copy, tmp_path / "packed.zip")):
        ingest(settings(place), tmp_path / f"out{number}")
        assert (tmp_path / f"out{number}" / "manifest.csv").read_bytes() == (dataset / "manifest.csv").read_bytes()
        assert Dataset.open(tmp_path / f"out{number}").digest == Dataset.open(dataset).digest
        said = capsys.readouterr().err
        assert f"masked: videos left aside: {COUNT} (photo 00 müller.mov, ...)" in said
        assert "refused 0" not in said


def test_another_photo_or_another_treatment_is_another_digest(source, dataset, copy, tmp_path):
    digests = {Dataset.open(dataset).digest}
    for options in ({"load_size": SIZE + 4}, {"jpeg_quality": 50}, {"fit": "pad"}, {"test": 0.4}):
        ingest(settings(source, **options), tmp_path / "out")
        digests.add(Dataset.open(tmp_path / "out").digest)
    picture(5000, 50, 50).save(copy / "masked" / "new.png")
    ingest(settings(copy), tmp_path / "out")
    digests.add(Dataset.open(tmp_path / "out").digest)
    assert len(digests) == 6


def test_added_photos_leave_the_old_ones_where_they_are(dataset, copy, tmp_path):
    for number in range(30):
        picture(7000 + number, 40, 50).save(copy / "masked" / f"stranger {number}.png")
        picture(8000 + number, 40, 50).save(copy / "unmasked" / f"stranger {number}.png")
    ingest(settings(copy), tmp_path / "out")
    after = splits(tmp_path / "out")
    assert all(after[name] == split for name, split in splits(dataset).items())


def test_copies_lie_in_the_split_of_their_picture_even_across_domains(dataset, copy, tmp_path):
    originals = sorted((copy / "unmasked").iterdir())[:30]
    for number, path in enumerate(originals):
        photo = Image.open(path).convert("RGB")
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy / "unmasked" / f"mirrored {number}.png")
        photo.save(copy / "unmasked" / f"squeezed {number}.jpg", quality=40)
        if number % 3 == 0:
            photo.resize((photo.width * 3 // 4, photo.height * 3 // 4)).save(copy / "masked" / f"wrong {number}.png")
    shutil.copy(originals[0], copy / "unmasked" / "the same file.png")
    out = tmp_path / "out"
    ingest(settings(copy), out)
    groups: dict[str, set[str]] = {}
    for row in manifest(out):
        groups.setdefault(row["group"], set()).update({row["split"]} - {""})
    assert all(len(group) == 1 for group in groups.values())
    after, of = splits(out), {f"{row['domain']}/{row['name']}": row["group"] for row in manifest(out)}
    joined = [of[f"unmasked/{p.name}"] == of[f"unmasked/mirrored {n}.png"] == of[f"unmasked/squeezed {n}.jpg"]
              for n, p in enumerate(originals)]  # fmt: skip
    assert np.mean(joined) > 0.9
    assert of["unmasked/the same file.png"] == of[f"unmasked/{originals[0].name}"]
    for name, split in splits(dataset).items():
        assert after[name] in (split, "")
    summary = Dataset.open(out).summary["groups"]
    assert summary["in_both_domains"] >= 8
    assert 3 <= summary["largest"] <= 6
    assert summary["set_aside"] == sum(row["split"] == "" for row in manifest(out))
    assert all("near-duplicate of" in row["reason"] for row in manifest(out) if not row["split"])


def sharpness(photos: np.ndarray) -> np.ndarray:
    """Share of each photo's variance that a blur of one pixel takes away."""
    grey = photos.astype(float).mean(-1)
    return (grey - gaussian_filter(grey, (0, 1, 1))).var((1, 2)) / grey.var((1, 2))


def test_matching_gives_both_domains_the_same_sharpness(tmp_path):
    draw = np.random.default_rng(0)
    for domain, low in (("masked", 16), ("unmasked", 50)):  # white noise: the smaller its pixels, the sharper
        (tmp_path / "noise" / domain).mkdir(parents=True)
        for number, side in enumerate(draw.integers(low, low + 60, 60)):
            photo = Image.fromarray(draw.integers(0, 256, (side, side + 9, 3), np.uint8))
            photo.save(tmp_path / "noise" / domain / f"{number}.png")
    ingest(settings(tmp_path / "noise", load_size=72), tmp_path / "matched")
    ingest(settings(tmp_path / "noise", load_size=72, match_resolution=False), tmp_path / "as is")

    def unlike(folder: Path) -> float:  # 0 alike, 1 apart
        opened = Dataset.open(folder)
        return ks_2samp(*(sharpness(opened.photos(domain, "train")) for domain in DOMAINS)).statistic

    assert unlike(tmp_path / "as is") > 0.5 > 0.3 > unlike(tmp_path / "matched")


SIDES = st.lists(st.integers(16, 900), min_size=1, max_size=60).map(lambda sides: np.array(sides, float))


@given(SIDES, SIDES)
def test_matched_sides_have_one_distribution_and_ask_nobody_for_more_than_he_brings(a, b):
    kept = matched_sides({"masked": a, "unmasked": b})
    for brought, domain in ((a, "masked"), (b, "unmasked")):
        assert (kept[domain] <= brought + 1e-9).all()
        order = np.argsort(brought, kind="stable")
        assert (np.diff(kept[domain][order]) >= -1e-9).all()  # the sharper photo stays the sharper one
    if len(a) == len(b):
        np.testing.assert_allclose(np.sort(kept["masked"]), np.minimum(np.sort(a), np.sort(b)))
        np.testing.assert_allclose(np.sort(kept["masked"]), np.sort(kept["unmasked"]))


def test_clutter_is_passed_over_and_what_is_no_photo_is_refused_with_its_reason(dataset, copy, tmp_path):
    masked = copy / "masked"
    for name in (".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (masked / name).write_bytes(b"clutter")
    (masked / "notes.txt").write_text("not a photo")
    (masked / "short.jpg").write_bytes((masked / "photo 61 müller.jpg").read_bytes()[:1500])
    Image.new("RGB", (8, 8)).save(masked / "tiny.png")
    (masked / "gone.png").symlink_to("nowhere.png")
    ingest(settings(copy), tmp_path / "out")
    reasons = {row["name"]: row["reason"] for row in manifest(tmp_path / "out") if row["reason"]}
    assert set(reasons) == {"notes.txt", "short.jpg", "tiny.png", "gone.png"}
    assert "no picture" in reasons["notes.txt"]
    assert "is incomplete" in reasons["short.jpg"]
    assert "8x8 px" in reasons["tiny.png"]
    assert "broken link" in reasons["gone.png"]
    with open(tmp_path / "out" / "rejected.csv", newline="", encoding="utf-8") as file:
        assert {row["name"]: row["reason"] for row in csv.DictReader(file)} == reasons
    assert Dataset.open(tmp_path / "out").summary["rejected"] == 4
    assert Dataset.open(tmp_path / "out").digest == Dataset.open(dataset).digest


def test_too_many_refused_photos_stop_the_stage_and_leave_nothing_behind(copy, tmp_path):
    for number in range(20):
        (copy / "unmasked" / f"bad {number:02}.jpg").write_bytes(b"no")
    out = tmp_path / "results" / "ingest"
    with pytest.raises(DataError, match=r"20 of 160 photos.*unmasked/bad 00\.jpg is no picture.*raise ingest\.max_"):
        ingest(settings(copy), out)
    assert list(out.parent.iterdir()) == []
    ingest(settings(copy, max_rejected=0.2), out)
    assert Dataset.open(out).summary["rejected"] == 20


def test_a_source_without_one_sound_photo_says_so(tmp_path):
    for domain in DOMAINS:
        (tmp_path / "source" / domain).mkdir(parents=True)
        (tmp_path / "source" / domain / "bad.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"none of 0 masked photos is in train; add photos"):
        ingest(settings(tmp_path / "source", max_rejected=1.0), tmp_path / "out")


def test_names_may_be_of_any_script_and_even_of_no_encoding(copy, tmp_path):
    names = ["маска №1.png", "顔/写真.png", "naïve 😷.png", 'quote", comma.png']
    for number, name in enumerate(names):
        (copy / "masked" / name).parent.mkdir(exist_ok=True)
        picture(9000 + number, 30, 30).save(copy / "masked" / name)
    raw = os.fsencode(copy / "masked") + b"/caf\xe9.png"
    content = io.BytesIO()
    picture(9100, 30, 30).save(content, "PNG")
    with open(raw, "wb") as file:
        file.write(content.getvalue())
    ingest(settings(copy), tmp_path / "out")
    assert {*names, "caf\\xe9.png"} <= {row["name"] for row in manifest(tmp_path / "out")}


def test_folders_that_are_missing_empty_or_shared_are_named(source, tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*elsewhere"):
        scan(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no folder mask \(folders there: masked, unmasked\); set ingest\.masked"):
        scan(source, "mask")
    (tmp_path / "masked").mkdir()
    (tmp_path / "unmasked").mkdir()
    with pytest.raises(DataError, match="masked is empty"):
        scan(tmp_path)
    with pytest.raises(ParamsError, match="share photos"):
        scan(source, "masked", "masked")


def test_linked_folders_are_searched_and_circles_are_not(source, tmp_path):
    for domain in DOMAINS:
        (tmp_path / domain).mkdir()
        (tmp_path / domain / "linked").symlink_to(source / domain)
        (tmp_path / domain / "circle").symlink_to(tmp_path / domain)
    assert len(scan(tmp_path)) == 2 * COUNT


def test_an_empty_split_is_refused_with_a_remedy(source, tmp_path):
    with pytest.raises(DataError, match=r"is in test; add photos .* raise ingest\.test"):
        ingest(settings(source, test=0.0), tmp_path / "out")
    with pytest.raises(DataError, match=r"is in train; .* lower ingest\.test"):
        ingest(settings(source, test=1.0), tmp_path / "out")


@pytest.fixture(scope="module")
def paired(source, tmp_path_factory) -> Path:
    """The source with truth: the mask is a blue block in the lower half, its twin is the photo without the block."""
    folder = tmp_path_factory.mktemp("paired")
    shutil.copytree(source / "unmasked", folder / "unmasked")
    rows = []
    for number in range(COUNT):
        twin = picture(number, 60, 40 + number)
        block = (twin.width // 2 - 12, 30, twin.width // 2 + 8, 50)
        region = Image.new("L", twin.size)
        region.paste(255, block)
        photo = twin.copy()
        photo.paste((30, 60, 220), block)
        for place, image in (("masked", photo), ("truth/twin", twin), ("truth/region", region)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            image.save(folder / place / f"{number}.png")
        rows.append(f"{number}.png,{'block;even' if number % 2 == 0 else 'block'}\n")
    (folder / "truth" / "slices.csv").write_text("name,slices\n" + "".join(rows))
    return folder


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_truth_is_framed_like_its_photo(paired, tmp_path, fit):
    ingest(settings(paired, fit=fit, load_size=48), tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    for split in ("validation", "test"):
        photos = dataset.photos("masked", split).astype(int)
        twins, regions = dataset.truth(split)
        assert len(photos) == len(twins) == len(regions)
        assert set(np.unique(regions)) == {0, 255}
        blue = np.abs(photos - (30, 60, 220)).max(-1) < 25
        assert ((regions > 0) == blue).mean() > 0.97
        away = gaussian_filter((regions > 0).astype(float), (0, 2, 2)) < 0.01
        assert np.abs(photos - twins)[away].mean() < 1.5
    numbers = [int(Path(name).stem) for name in dataset.names("masked", "test")]
    assert dataset.slices("test") == [{"block", "even"} if number % 2 == 0 else {"block"} for number in numbers]
    assert not list((tmp_path / "out").glob("truth_train*"))


def test_truth_that_does_not_fit_is_named(paired, tmp_path):
    broken = Path(shutil.copytree(paired, tmp_path / "broken"))
    for path in (broken / "truth" / "region").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"region.*truth of \d+\.png cannot be decoded"):
        ingest(settings(broken), tmp_path / "out")
    for path in (paired / "truth" / "region").iterdir():
        Image.new("L", (30, 30)).save(broken / "truth" / "region" / path.name)
    with pytest.raises(DataError, match="30x30 px, but the photo is"):
        ingest(settings(broken), tmp_path / "out")


def test_it_ends_with_counts_that_a_person_can_check(source, tmp_path, capsys):
    ingest(settings(source), tmp_path / "out")
    lines = capsys.readouterr().err
    for domain in DOMAINS:
        counts = Dataset.open(tmp_path / "out").summary["counts"][domain]
        expected = rf"^{domain} +{COUNT} +0 +0 +{COUNT} +{counts['train']} +{counts['validation']} +{counts['test']} "
        assert re.search(expected, lines, re.MULTILINE)
    assert Dataset.open(tmp_path / "out").digest in lines
