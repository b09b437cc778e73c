"""All systems side by side: their scores with intervals, as a table for people, for DVC and for spreadsheets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmask.files import write_text
from bmask.quality.scores import LOWER_IS_BETTER, NEUTRAL, Interval, Scores, photo_interval


@dataclass(frozen=True)
class Entry:
    """One system on the leaderboard."""

    name: str
    trained: bool  # else a baseline
    scores: Scores
    found: dict[str, Interval]  # every score with its interval


@dataclass(frozen=True)
class Column:
    """How a score is shown."""

    name: str
    label: str
    meaning: str
    form: str  # of a number, as str.format takes it

    @property
    def better(self) -> str:
        return "" if self.name in NEUTRAL else "lower" if self.name in LOWER_IS_BETTER else "higher"

    def show(self, value: float) -> str:
        return self.form.format(value) if math.isfinite(value) else "–"


CHANCE = 0.5  # accuracy of guessing; a classifier with a lower accuracy cannot separate the photos either
MAX_NUMBERS = 25  # in DVC's tables
# The most important first: distance to the truth, what is left of masks, change elsewhere, realism.
HEADLINES = (
    *("paste_distance", "residue_rate", "paste_outside", "realism", "region_psnr", "region_ssim"),
    *("bare_untouched", "kid", "judge_kid"),
)
_REAL = "distance to real unmasked photos"
_PASTED = "for masks pasted on unmasked photos, against the original face"
COLUMNS = (
    Column("paste_distance", "Distance to truth", f"perceptual (0 the true face, 1 a mask), {_PASTED}", "{:.3f}"),
    Column("residue_rate", "Mask left", "share of the masked photos in which a mask still shows", "{:.1%}"),
    Column("residue", "Residue", "mean opacity of the remaining masks over their area", "{:.3f}"),
    Column("grade", "Grade", "how bad the masks' areas look, from 0 for a photo to 1 for an opaque mask", "{:.3f}"),
    Column(
        "realism",
        "Classifier accuracy",
        "of a classifier that separates generated from real lower faces; 50 % is best",
        "{:.1%}",
    ),
    Column("paste_psnr", "Pasted PSNR", f"inside the mask, {_PASTED}, dB", "{:.1f}"),
    Column("paste_ssim", "Pasted SSIM", f"inside the mask, {_PASTED}", "{:.3f}"),
    Column(
        "paste_sharpness",
        "Sharpness",
        "gradient energy inside pasted masks, divided by the true face's; 0.8 to 1.25 is good",
        "{:.2f}",
    ),
    Column("paste_outside", "Pasted outside", "mean change outside pasted masks, grey levels of 255", "{:.2f}"),
    Column("paste_iou", "Pasted IoU", "overlap of the attention with pasted masks", "{:.2f}"),
    Column("bare_untouched", "Bare untouched", "share of an unmasked photo's pixels that stay identical", "{:.1%}"),
    Column(
        "cutout_outside", "Outside masks", "mean change outside the masks of real photos, grey levels of 255", "{:.2f}"
    ),
    Column("cutout_area", "Attention per mask", "attention divided by the area of real masks", "{:.2f}"),
    Column("cutout_iou", "Mask IoU", "overlap of the attention with real masks", "{:.2f}"),
    Column("unmask_rate", "Unmask rate", "share of the photos in which no mask shows afterwards", "{:.1%}"),
    Column("kid", "KID", f"kernel {_REAL}, on Inception features; unbiased for small sets", "{:.4f}"),
    Column("judge_kid", "Judge KID", f"kernel {_REAL}, on features of this report's own judge", "{:.3f}"),
    Column("frechet", "FID", f"Frechet {_REAL}, on Inception features; too high for small sets", "{:.1f}"),
    Column("judge_frechet", "Judge Frechet", f"Frechet {_REAL}, on features of this report's own judge", "{:.2f}"),
    Column("upper_ssim", "Upper SSIM", "similarity of the picture's upper 45 % to the input; 1 is identical", "{:.3f}"),
    Column("region_distance", "Face distance", "perceptual, to the true face inside the true mask region", "{:.3f}"),
    Column("region_psnr", "Face PSNR", "against the true face, inside the true mask region, dB", "{:.1f}"),
    Column("region_ssim", "Face SSIM", "against the true face, inside the true mask region", "{:.3f}"),
    Column("outside_mae", "Outside error", "mean change outside the true mask region, grey levels of 255", "{:.2f}"),
    Column("untouched", "Untouched", "share of pixels that are identical to the input's", "{:.0%}"),
    Column("attention", "Attention", "mean of the attention mask above its threshold", "{:.2f}"),
)


def shown_columns(entries: list[Entry]) -> list[Column]:
    """The columns that at least one system has."""
    return [column for column in COLUMNS if any(column.name in entry.found for entry in entries)]


def best(entries: list[Entry], column: Column) -> str | None:
    """The trained system that leads a column; None if the column is not ranked or nothing was trained."""
    trained = [entry for entry in entries if entry.trained and math.isfinite(_value(entry, column))]
    if not trained or not column.better:
        return None
    return (max if column.better == "higher" else min)(trained, key=lambda entry: _value(entry, column)).name


def _value(entry: Entry, column: Column) -> float:
    value = entry.found[column.name].value if column.name in entry.found else math.nan
    return max(value, CHANCE) if column.name == "realism" and math.isfinite(value) else value


def all_scores(entries: list[Entry]) -> dict[str, dict[str, float]]:
    """{system: {score, score_low, score_high}}, finite numbers only, rounded to six digits."""
    return {entry.name: dict(_flat(entry.found)) for entry in entries}


def intervals_of(numbers: dict[str, float]) -> dict[str, Interval]:
    """The scores of a system as `all_scores` gives them, with NaN where an end is missing."""
    names = [name for name in numbers if not name.endswith(("_low", "_high"))]
    ends = ("", "_low", "_high")
    return {name: Interval(*(numbers.get(name + end, math.nan) for end in ends)) for name in names}


def headlines(entries: list[Entry], most: int = MAX_NUMBERS) -> dict[str, dict[str, float]]:
    """What DVC compares between experiments, {system: {score: value}}: as many HEADLINES of each trained system as fit
    into `most` numbers. Baselines, which never change on the same photos, are shown only if nothing was trained."""
    shown = [entry for entry in entries if entry.trained] or entries
    scores = all_scores(shown)
    each = max(1, most // len(shown))
    return {
        name: {key: own[key] for key in [key for key in HEADLINES if key in own][:each]} for name, own in scores.items()
    }


def _flat(found: dict[str, Interval]) -> Iterator[tuple[str, float]]:
    for name, interval in found.items():
        for suffix, value in zip(("", "_low", "_high"), interval, strict=True):
            if math.isfinite(value):
                yield name + suffix, float(f"{value:.6g}")


def slice_rates(
    entries: list[Entry], resamples: int, seed: int
) -> list[tuple[str, int, dict[str, dict[str, Interval]]]]:
    """(slice, photos, {score: {system: interval}}), first for the photos without a label, then for each label."""
    labels = [set(filter(None, text.split(";"))) for text in entries[0].scores.slices]
    rows = []
    for label in (None, *sorted(set().union(*labels))):
        among = np.array([label in own if label else not own for own in labels])
        if not among.any():
            continue
        names = [name for name in ("residue_rate", "region_ssim") if name in entries[0].scores.photos]
        rates = {n: {e.name: photo_interval(e.scores, n, resamples, seed, among) for e in entries} for n in names}
        rows.append((label or "no label", int(among.sum()), rates))
    return rows


def write_leaderboard(path: Path, entries: list[Entry]) -> None:
    """A row per system with all its scores and their intervals' ends."""
    rows = [{"system": e.name, "kind": "trained" if e.trained else "baseline", **dict(_flat(e.found))} for e in entries]
    _write_csv(path, rows)


def write_photo_scores(path: Path, entries: list[Entry]) -> None:
    """A row per system and masked test photo."""
    rows = []
    for entry in entries:
        scores = entry.scores
        for i, (name, group, labels) in enumerate(zip(scores.names, scores.groups, scores.slices, strict=True)):
            values = {key: f"{column[i]:.6g}" for key, column in scores.photos.items() if math.isfinite(column[i])}
            rows.append({"system": entry.name, "name": name, "group": group, "slices": labels, **values})
    _write_csv(path, rows)


def _write_csv(path: Path, rows: list[dict]) -> None:
    fields = list(dict.fromkeys(field for row in rows for field in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
