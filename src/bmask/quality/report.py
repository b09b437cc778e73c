"""The report: one self-contained HTML file with the scores, how they were measured, and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmask.errors import DataError
from bmask.files import read_json
from bmask.html import charts
from bmask.html.page import as_yaml, page
from bmask.quality.champion_gate import deciding, pick
from bmask.quality.leaderboard import COLUMNS, Entry, best, intervals_of, shown_columns, slice_rates
from bmask.quality.pictures import PICTURES, STRIP, Pictures, seen_badness, shown_photos
from bmask.quality.scores import Interval, Scores, primary_name, primary_value

if TYPE_CHECKING:
    from bmask.params import Params

LEADING_SCORES = ("paste_distance", "residue_rate")  # may head the page; the first that passed the ladder does


def evaluation_report(params: Params, summary: dict[str, Any], train: Path, judge: Path, evaluate: Path) -> str:
    """The page as text, from the files in the stages' folders; `summary` is the dataset's. Pictures of people are
    left out when the dataset is private.

    Raises DataError when a file is missing.
    """
    entries = read_entries(params, evaluate)
    leader = headline(entries, params)
    return page(
        "quality/report.html",
        leader=leader,
        leading=next(column for column in COLUMNS if column.name == leading_score(leader)),
        ladder=_read(evaluate / "ladder.json"),
        within_thresholds=_within_thresholds(entries, params) is not None,
        params=params,
        summary=summary,
        entries=entries,
        photos=len(entries[0].scores.names),
        groups=len(np.unique(entries[0].scores.groups)),
        table=_table(entries),
        primary=_label(primary_name(leader.scores, deciding(leader.scores, params.register_))),
        ceiling=_read(evaluate / "ceiling.json"),
        slices=slice_rates(entries, params.evaluate.bootstrap, params.evaluate.seed),
        checks=_read(judge / "checks.json"),
        sections=[] if summary["private"] else _pictures(evaluate, entries, leader, params.evaluate.pictures),
        losses=_losses(entries, train),
        sources=as_yaml(params.model_dump(mode="json", by_alias=True)),
    )


def before_after(params: Params, evaluate: Path) -> bytes:
    """A PNG: the first STRIP test photos before, their attention, after by the leader, and the truth."""
    leader, pictures = headline(read_entries(params, evaluate), params).name, Pictures.load(evaluate / PICTURES)
    rows = {"before": pictures.photos, "attention": pictures.attention.get(leader)}
    rows |= {"after": pictures.images[leader], "true face": pictures.truth}
    return charts.strip([(label, list(own[:STRIP])) for label, own in rows.items() if own is not None])


def read_entries(params: Params, evaluate: Path) -> list[Entry]:
    """The leaderboard in a folder of evaluate."""
    return [
        Entry(name, name in params.models, Scores.load(evaluate / "scores" / f"{name}.npz"), intervals_of(numbers))
        for name, numbers in _read(evaluate / "scores.json").items()
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes {path.parent} again") from None


def headline(entries: list[Entry], params: Params) -> Entry:
    """The trained system that the gate would choose; if none meets the thresholds, the best in the primary score."""
    chosen = _within_thresholds(entries, params)
    allowed = [entry for entry in entries if entry.name == chosen] or [entry for entry in entries if entry.trained]
    return max(
        allowed or entries, key=lambda entry: primary_value(entry.scores, deciding(entry.scores, params.register_))
    )


def leading_score(entry: Entry) -> str:
    """The first of LEADING_SCORES that passed the ladder, or the last of them."""
    return next((name for name in LEADING_SCORES if name not in entry.scores.unsound), LEADING_SCORES[-1])


def _within_thresholds(entries: list[Entry], params: Params) -> str | None:
    return pick({entry.name: entry.scores for entry in entries if entry.trained}, params.register_, params.evaluate)


def _label(name: str) -> str:
    return next((column.label for column in COLUMNS if column.name == name), name)


def _table(entries: list[Entry]) -> dict[str, Any]:
    """Columns and, for each system, its cells: the value, the interval's ends, and whether it leads the column."""
    columns = shown_columns(entries)
    leaders = {column.name: best(entries, column) for column in columns}
    rows = []
    for entry in entries:
        cells = []
        for column in columns:
            found = entry.found.get(column.name, Interval(math.nan, math.nan, math.nan))
            ends = f"{column.show(found.low)} to {column.show(found.high)}" if math.isfinite(found.low) else ""
            cells.append({"value": column.show(found.value), "ends": ends, "best": leaders[column.name] == entry.name})
        rows.append({"entry": entry, "cells": cells})
    return {"columns": columns, "rows": rows}


def _pictures(evaluate: Path, entries: list[Entry], leader: Entry, rows: int) -> list[dict[str, Any]]:
    """Two sections: photos around the leader's median, and its worst ones, by slice and overall."""
    pictures = Pictures.load(evaluate / PICTURES)
    median, hardest = shown_photos(leader.scores, rows)
    plan = {
        f"Around the median of {leader.name}": dict.fromkeys(median, ""),
        f"The hardest for {leader.name}, slice by slice, then overall": hardest,
    }
    return [
        {"title": title, "rows": [_row(index, note, entries, pictures) for index, note in chosen.items()]}
        for title, chosen in plan.items()
    ]


def _row(index: int, note: str, entries: list[Entry], pictures: Pictures) -> dict[str, Any]:
    """The cells of one photo: before; then attention and after for each system; then the true face."""
    place = int(np.searchsorted(pictures.index, index))
    cells = [{"caption": "before", "picture": pictures.photos[place]}]
    for entry in entries:
        badness = seen_badness(entry.scores)[index]
        if entry.name == "identity":  # its picture is the photo, which is shown already
            cells[0]["badness"] = badness
            continue
        if entry.trained and entry.name in pictures.attention:
            cells.append(
                {"caption": "attention", "picture": pictures.attention[entry.name][place], "kind": "attention"}
            )
        cells.append({"caption": entry.name, "picture": pictures.images[entry.name][place], "badness": badness})
    if pictures.truth is not None:
        cells.append({"caption": "true face", "picture": pictures.truth[place]})
    for cell in cells:
        cell["address"] = charts.data_address(cell.pop("picture"))
    return {"index": index, "note": note, "cells": cells}


def _losses(entries: list[Entry], trained: Path) -> dict[str, str]:
    """An SVG for each trained system that has a losses.csv with numbers."""
    curves = {e.name: charts.read_losses(trained / e.name / "losses.csv") for e in entries if e.trained}
    return {name: charts.loss_chart(steps, losses) for name, (steps, losses) in curves.items() if losses}


def loss_tables(models: Iterable[str], trained: Path) -> dict[str, str]:
    """{model/loss: a CSV of step and value}: one plot each in DVC, because systems have different losses."""
    tables = {}
    for model in models:
        steps, losses = charts.read_losses(trained / model / "losses.csv")
        for name, values in losses.items():
            rows = [
                f"{step:.0f},{value:.6g}" for step, value in zip(steps, values, strict=True) if math.isfinite(value)
            ]
            tables[f"{model}/{name}"] = "\n".join(["step,value", *rows, ""])
    return tables
