"""The report chooses its pictures honestly and marks what leads."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from bmask.html import charts
from bmask.params import parse_params
from bmask.quality.leaderboard import COLUMNS, Entry, all_scores, best, headlines, intervals_of, slice_rates
from bmask.quality.pictures import hardest_photos
from bmask.quality.report import headline
from bmask.quality.scores import Interval, Scores


def made(name: str, rate: float, kid: float, trained: bool = True, n: int = 60) -> Entry:
    """The unmask rate is exact; kid is what the table shows."""
    scores = Scores(
        names=np.array([f"{i}.png" for i in range(n)]),
        groups=np.array([f"g{i}" for i in range(n)]),
        slices=np.array([("cap", "skin;cap", "")[i % 3] for i in range(n)]),
        photos={
            "residue_rate": (np.arange(n) >= rate * n).astype(float),
            "grade": np.zeros(n),
            "upper_ssim": np.full(n, 0.95),
        },
        unmasked={"paste_outside": np.zeros(n)},
        features=np.random.default_rng(0).normal(kid, 1, (n, 4)),
        real=np.random.default_rng(1).normal(0, 1, (n, 4)),
        real_groups=np.array([f"r{i}" for i in range(n)]),
        prefix="judge_",
    )
    found = {"residue_rate": Interval(1 - rate, 1 - rate, 1 - rate), "judge_kid": Interval(kid, kid, kid)}
    return Entry(name, trained, scores, found)


COLUMN = {column.name: column for column in COLUMNS}


def test_the_headline_is_what_the_gate_would_choose():
    entries = [made("loud", 0.95, 0.9), made("real", 0.9, 0.2), made("timid", 0.2, 0.0), made("paste", 1, 0, False)]
    params = parse_params({"register": {"primary": "kid"}})
    assert headline(entries, params).name == "real"
    assert headline([made("weak", 0.2, 0.0), made("weaker", 0.1, 0.5)], params).name == "weak"
    assert headline([made("paste", 0.5, 0, False)], params).name == "paste"


def test_the_best_of_a_column_is_a_trained_system_and_lower_wins_where_lower_is_better():
    entries = [made("a", 0.9, 0.5), made("b", 0.8, 0.1), made("baseline", 1.0, 0.0, trained=False)]
    assert best(entries, COLUMN["residue_rate"]) == "a"
    assert best(entries, COLUMN["judge_kid"]) == "b"
    assert best(entries, COLUMN["attention"]) is None and best(entries[2:], COLUMN["residue_rate"]) is None


def test_the_hardest_photos_are_one_of_each_slice_and_then_the_worst_of_all():
    badness = 1 - np.array([0.9, 0.2, 0.8, 0.1, 0.05, 0.3])
    slices = np.array(["cap", "cap", "skin", "skin;cap", "", ""])
    assert hardest_photos(badness, slices) == [(3, "cap"), (2, "skin"), (4, ""), (1, ""), (5, ""), (0, "")]


def test_slices_count_a_photo_under_each_of_its_labels():
    rows = slice_rates([made("a", 0.5, 0)], 50, 0)
    assert [(label, count) for label, count, _ in rows] == [("no label", 20), ("cap", 40), ("skin", 20)]
    assert rows[1][2]["residue_rate"]["a"].value == 0.5


def test_numbers_that_are_not_finite_stay_out_of_the_metrics():
    entry = made("a", 0.5, 0.1)
    entry.found["outside_ssim"] = Interval(float("nan"), float("nan"), float("nan"))
    assert set(all_scores([entry])["a"]) == {
        f"{name}{end}" for name in ("residue_rate", "judge_kid") for end in ("", "_low", "_high")
    }


def test_intervals_survive_the_way_through_a_file_and_a_missing_end_is_no_number():
    entry = made("a", 0.5, 0.1)
    entry.found["kid"] = Interval(0.25, float("nan"), float("nan"))
    read = intervals_of(json.loads(json.dumps(all_scores([entry])))["a"])
    assert read["residue_rate"] == Interval(0.5, 0.5, 0.5)
    assert read["kid"].value == 0.25 and np.isnan(read["kid"].low) and np.isnan(read["kid"].high)


@pytest.mark.parametrize("systems", [1, 3, 8, 40])
def test_the_table_of_experiments_has_no_more_than_25_columns_and_says_first_what_decides(systems):
    entries = [made(f"s{i}", 0.5, 0.1) for i in range(systems)]
    for entry in entries:
        entry.found.update(dict.fromkeys(("region_ssim", "outside_mae", "region_psnr"), Interval(1, 1, 1)))
        entry.found["upper_ssim"] = entry.found["untouched"] = Interval(1, 1, 1)
    entries += [made(name, 0.1, 9, trained=False) for name in ("identity", "mean_face", "telea")]
    shown = headlines(entries)
    assert set(shown) == {f"s{i}" for i in range(systems)}  # baselines are the same in every experiment
    assert sum(map(len, shown.values())) <= max(25, systems)
    assert all(next(iter(own)) == "residue_rate" for own in shown.values())
    assert set(headlines(entries[systems:])) == {"identity", "mean_face", "telea"}  # no models: baselines are shown


def test_pictures_survive_the_way_into_the_page():
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    address = charts.data_address(photo)
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))), photo)
    attention = charts.data_address(np.array([[0.0, 1.0]], np.float32))
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(attention.split(",")[1]))), [[0, 255]])


def test_losses_with_gaps_are_read_and_drawn_and_a_missing_file_is_no_error(tmp_path):
    (tmp_path / "losses.csv").write_text("step,epoch,cycle,identity\n20,1,0.5,\n40,2,0.4,nan\n60,3,broken,0.1\n")
    steps, losses = charts.read_losses(tmp_path / "losses.csv")
    assert steps.tolist() == [20, 40, 60] and np.isnan(losses["cycle"][2]) and losses["identity"][2] == 0.1
    chart = charts.loss_chart(steps, losses)
    assert chart.startswith("<svg") and "cycle" in chart and "identity" in chart
    assert charts.read_losses(tmp_path / "nothing.csv")[1] == {}
