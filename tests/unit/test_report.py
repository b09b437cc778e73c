"""The report chooses its pictures honestly and marks what leads."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from bmask.html import charts
from bmask.params import Params
from bmask.quality.leaderboard import COLUMNS, Entry, best, metrics, slice_rates
from bmask.quality.report import hardest_photos, headline
from bmask.quality.scores import Interval, Scores


def made(name: str, rate: float, kid: float, trained: bool = True, n: int = 60) -> Entry:
    """The unmask rate is exact; kid is what the table shows."""
    scores = Scores(
        names=np.array([f"{i}.png" for i in range(n)]),
        groups=np.array([f"g{i}" for i in range(n)]),
        slices=np.array([("cap", "skin;cap", "")[i % 3] for i in range(n)]),
        photos={"unmask_rate": (np.arange(n) < rate * n).astype(float), "upper_ssim": np.full(n, 0.95)},
        features=np.random.default_rng(0).normal(kid, 1, (n, 4)),
        real=np.random.default_rng(1).normal(0, 1, (n, 4)),
        real_groups=np.array([f"r{i}" for i in range(n)]),
        prefix="judge_",
    )
    found = {"unmask_rate": Interval(rate, rate, rate), "judge_kid": Interval(kid, kid, kid)}
    return Entry(name, trained, None, scores, found)


COLUMN = {column.name: column for column in COLUMNS}


def test_the_headline_is_what_the_gate_would_choose():
    entries = [made("loud", 0.95, 0.9), made("real", 0.9, 0.2), made("timid", 0.2, 0.0), made("paste", 1, 0, False)]
    assert headline(entries, Params()).name == "real"
    assert headline([made("weak", 0.2, 0.1), made("weaker", 0.1, 0)], Params()).name == "weak"
    assert headline([made("paste", 0.5, 0, False)], Params()).name == "paste"


def test_the_best_of_a_column_is_a_trained_system_and_lower_wins_where_lower_is_better():
    entries = [made("a", 0.9, 0.5), made("b", 0.8, 0.1), made("baseline", 1.0, 0.0, trained=False)]
    assert best(entries, COLUMN["unmask_rate"]) == "a"
    assert best(entries, COLUMN["judge_kid"]) == "b"
    assert best(entries, COLUMN["attention"]) is None and best(entries[2:], COLUMN["unmask_rate"]) is None


def test_the_hardest_photos_are_one_of_each_slice_and_then_the_worst_of_all():
    probability = np.array([0.9, 0.2, 0.8, 0.1, 0.05, 0.3])
    slices = np.array(["cap", "cap", "skin", "skin;cap", "", ""])
    assert hardest_photos(probability, slices) == [(3, "cap"), (2, "skin"), (4, ""), (1, ""), (5, ""), (0, "")]


def test_slices_count_a_photo_under_each_of_its_labels():
    rows = slice_rates([made("a", 0.5, 0)], 50, 0)
    assert [(label, count) for label, count, _ in rows] == [("no label", 20), ("cap", 40), ("skin", 20)]
    assert rows[1][2]["unmask_rate"]["a"].value == 0.5


def test_numbers_that_are_not_finite_stay_out_of_the_metrics():
    entry = made("a", 0.5, 0.1)
    entry.found["outside_ssim"] = Interval(float("nan"), float("nan"), float("nan"))
    assert set(metrics([entry])["a"]) == {
        f"{name}{end}" for name in ("unmask_rate", "judge_kid") for end in ("", "_low", "_high")
    }


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
