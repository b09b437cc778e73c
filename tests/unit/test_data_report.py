"""The report about the photos: what was found, taken and refused, and nothing of private photos."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.data.catalog import Catalog
from bmask.data.records import DOMAINS, SPLITS, Entry, Photo
from bmask.data.report import report as data_report
from bmask.data.split.dataset import Dataset
from bmask.data.split.slices import RULES
from bmask.html.charts import histogram
from bmask.params import Params, parse_params
from bmask.stages.ingest import ingest
from bmask.stages.report_ingest import report_ingest


def run(source: Path, out: Path, **options) -> str:
    params = parse_params({"ingest": {"source": str(source), "load_size": 48, "max_rejected": 0.2, **options}})
    ingest(params, out)
    return written(params, out)


def written(params: Params, dataset: Path) -> str:
    """The report that the stage writes from the dataset alone."""
    report_ingest(params, dataset, dataset.with_name(f"{dataset.name}-report"))
    return (dataset.with_name(f"{dataset.name}-report") / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def embedded_page(embedded) -> str:
    return written(Params(), embedded)


@pytest.fixture(scope="module")
def source(few_faces, tmp_path_factory) -> Path:
    """Drawn faces without truth, some of them refused."""
    folder = tmp_path_factory.mktemp("reported") / "photos"
    shutil.copytree(few_faces, folder, ignore=shutil.ignore_patterns("truth"))
    for number in range(4):
        (folder / "masked" / f"<i>Anna Müller {number}.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def page(source, tmp_path_factory) -> tuple[str, Dataset]:
    out = tmp_path_factory.mktemp("out") / "ingest"
    return run(source, out), Dataset.open(out)


def test_it_says_how_many_photos_are_where(page):
    text, dataset = page
    for domain in DOMAINS:
        row = re.search(rf"<tr><td><b>{domain}</b></td>.*?</tr>", text, re.DOTALL)[0]
        shown = [int(number) for number in re.findall(r"<b>(\d+)</b>", row)]
        assert shown == [dataset.summary["counts"][domain][split] for split in SPLITS]
        for split in SPLITS:
            assert f"{len(set(dataset.groups(domain, split)))} groups" in row
    assert dataset.digest in text


def test_refused_files_are_named_with_their_reason_and_names_cannot_break_the_page(page):
    text, dataset = page
    assert dataset.summary["rejected"] == 4
    assert "<i>" not in text
    assert text.count("&lt;i&gt;Anna Müller") == 4
    assert "is no picture that can be read" in text


def test_every_rule_is_stated_with_the_number_of_photos_it_labels(page):
    text, dataset = page
    labels = [label for split in SPLITS for own in dataset.slices(split) for label in own]
    assert labels
    for rule in RULES:
        row = re.search(rf"<b>{rule.label.replace('_', ' ')}</b></td>.*?</tr>", text, re.DOTALL)[0]
        assert re.search(r"<td>(\d+)</td>", row)[1] == str(labels.count(rule.label))


def test_it_needs_nothing_but_a_browser_and_shows_photos_of_each_split(page):
    text, dataset = page
    for address in ("http://", "https://", 'src="/', "<link", "<script"):
        assert address not in text, address
    shown = sum(min(24, count) for domain in DOMAINS for count in dataset.summary["counts"][domain].values())
    assert text.count("data:image/png;base64,") == shown


def test_private_photos_are_neither_shown_nor_named(source, tmp_path):
    text = run(source, tmp_path / "out", private=True)
    assert "data:image" not in text
    assert "Müller" not in text and "face_0" not in text
    assert "is no picture that can be read" in text


def test_the_same_photos_give_the_same_page(source, page, tmp_path):
    assert run(source, tmp_path / "again") == page[0]


def test_a_source_with_labels_shows_how_often_the_rules_are_right(embedded_page):
    assert re.search(r"skin coloured mask</b>.*?\d+ of \d+</td><td>\d+ of \d+", embedded_page, re.DOTALL)
    assert "several people" in embedded_page


def test_it_says_how_well_the_domains_are_told_apart_unless_there_are_too_few_photos(embedded_page, page):
    shown = re.findall(r">(size of the file|spectrum|compression|border)</span>.*?<span>([\d.]+)%</span>",
                       embedded_page, re.DOTALL)  # fmt: skip
    assert len(shown) == 4 and all(35 < float(share) < 65 for _, share in shown), shown
    assert "Not measured: it needs 100 training photos of each domain" in page[0]


@given(st.integers(16, 100), st.integers(1, 255), st.integers(0, 10_000))
def test_light_and_colour_are_means_over_the_picture(side, brightest, seed):
    photo = np.random.default_rng(seed).integers(0, brightest, (side, side, 3), np.uint8, endpoint=True)
    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    light, red, yellow = lab.mean(0)
    np.testing.assert_allclose(data_report._lab(photo), [light, lab[:, 0].std(), red, yellow], rtol=1e-6)


def test_files_of_one_size_have_their_place_in_the_middle_of_their_chart():
    with Catalog() as catalog:
        catalog.add(
            Photo(Entry(domain, "a.png", ""), width=256, height=256, split="train", index=0, side=128)
            for domain in DOMAINS
        )
        svg = data_report._sizes(catalog, load_size=128)["plots"]["Shorter side of the file, px"]
    assert 'x="130.0" y="109" text-anchor="middle">256<' in svg
    assert "nan" not in svg


def test_a_histogram_shows_shares_and_counts_what_lies_outside_to_the_ends():
    svg = histogram({"masked": np.array([-5.0, 0.1, 0.2, 9.0])}, 0, 1, {0.0: "0", 1.0: "1"}, bins=2)
    assert 'class="masked" points="0,96 0.0,0.0 130.0,0.0 130.0,64.0 260.0,64.0 260,96"' in svg
    assert histogram({"masked": np.array([])}, 0, 1, {}, bins=2).count("96.0") == 4  # no photos: a flat line
