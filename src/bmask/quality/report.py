"""The report: one HTML file that needs nothing but a browser: what was measured, how, and what it looks like."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bmask.files import write_bytes
from bmask.html import charts
from bmask.html.page import as_yaml, page
from bmask.quality.gate import pick
from bmask.quality.leaderboard import COLUMNS, Entry, best, shown_columns, slice_rates
from bmask.quality.scores import Interval, primary_name

if TYPE_CHECKING:
    from bmask.data.split.dataset import Split
    from bmask.params import Params
    from bmask.quality.judge import Judge

STRIP = 8  # photos in before_after.png


def report(
    params: Params, split: Split, part: str, entries: list[Entry], judge: Judge, checks: dict[str, Any], trained: Path
) -> str:
    """The page as text. `checks` is the judge's checks.json; `trained` holds <model>/losses.csv. Pictures of people are
    left out when the split is private."""
    leader = headline(entries, params)
    return page(
        "quality/report.html",
        leader=leader,
        over_floors=_over_floors(entries, params) is not None,
        params=params,
        summary=split.summary,
        part=part,
        entries=entries,
        photos=len(entries[0].scores.names),
        groups=len(np.unique(entries[0].scores.groups)),
        table=_table(entries),
        primary=_label(primary_name(leader.scores, params.register_.primary)),
        ceiling=_ceiling(split, part, judge),
        slices=slice_rates(entries, params.evaluate.bootstrap, params.evaluate.seed),
        checks=checks,
        sections=[] if split.private else _pictures(split, part, entries, leader, params.evaluate.pictures),
        losses=_losses(entries, trained),
        sources=as_yaml(params.model_dump(mode="json", by_alias=True)),
    )


def headline(entries: list[Entry], params: Params) -> Entry:
    """The trained system that the gate would choose; if none clears the floors, the one with the best unmask rate."""
    chosen = _over_floors(entries, params)
    rivals = [entry for entry in entries if entry.name == chosen] or [entry for entry in entries if entry.trained]
    return max(rivals or entries, key=lambda entry: entry.found["unmask_rate"].value)


def _over_floors(entries: list[Entry], params: Params) -> str | None:
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


def _ceiling(split: Split, part: str, judge: Judge) -> dict[str, float]:
    """What the judge says of real faces: no system can be expected to score above that."""
    shares = {"real unmasked photos": (judge.unmasked(split.photos("unmasked", part)) > 0.5).mean()}
    if (truth := split.truth(part)) is not None:
        shares["the true faces behind the masks"] = (judge.unmasked(truth[0]) > 0.5).mean()
    return {what: float(share) for what, share in shares.items()}


def _pictures(split: Split, part: str, entries: list[Entry], leader: Entry, rows: int) -> list[dict[str, Any]]:
    """Two sections: the first photos of the part, and those where the leader fares worst, by slice and overall."""
    scores = leader.scores
    hardest = hardest_photos(scores.photos["probability"], scores.slices)[: max(1, rows // 2)]
    twins = _twins(split, part, scores.names, leader.rendered.photos.shape[1])
    plan = {
        "The first test photos": [(i, "") for i in range(min(max(1, rows - len(hardest)), len(scores.names)))],
        f"The hardest for {leader.name}, slice by slice, then overall": hardest,
    }
    return [
        {"title": title, "rows": [_row(index, note, entries, twins) for index, note in chosen]}
        for title, chosen in plan.items()
    ]


def hardest_photos(probability: NDArray[np.float64], slices: NDArray[np.str_]) -> list[tuple[int, str]]:
    """(index, note): the photo of each slice that looks least unmasked, then all others from the worst on."""
    labels = [set(filter(None, text.split(";"))) for text in slices]
    order = np.argsort(probability, kind="stable")
    chosen: dict[int, str] = {}
    for label in sorted(set().union(*labels)):
        index = next((int(i) for i in order if label in labels[i] and i not in chosen), None)
        if index is not None:
            chosen[index] = label
    return [*chosen.items(), *((int(i), "") for i in order if i not in chosen)]


def _row(index: int, note: str, entries: list[Entry], twins: NDArray[np.uint8] | None) -> dict[str, Any]:
    """The cells of one photo: before; then attention and after for each system; then the true face."""
    cells = [{"caption": "before", "picture": entries[0].rendered.photos[index]}]
    for entry in entries:
        if entry.name == "identity":  # its picture stands there already
            cells[0]["probability"] = entry.scores.photos["probability"][index]
            continue
        if entry.trained and entry.rendered.attention is not None:
            cells.append({"caption": "attention", "picture": entry.rendered.attention[index], "kind": "attention"})
        probability = entry.scores.photos["probability"][index]
        cells.append({"caption": entry.name, "picture": entry.rendered.images[index], "probability": probability})
    if twins is not None:
        cells.append({"caption": "true face", "picture": twins[index]})
    for cell in cells:
        cell["address"] = charts.data_address(cell.pop("picture"))
    return {"index": index, "note": note, "cells": cells}


def _twins(split: Split, part: str, names: NDArray, size: int) -> NDArray[np.uint8] | None:
    from bmask.data.split.dataset import resize

    truth = split.truth(part)
    return None if truth is None else resize(truth[0], size)


def _losses(entries: list[Entry], trained: Path) -> dict[str, str]:
    """An SVG for each trained system that has a losses.csv with numbers."""
    curves = {e.name: charts.read_losses(trained / e.name / "losses.csv") for e in entries if e.trained}
    return {name: charts.loss_chart(steps, losses) for name, (steps, losses) in curves.items() if losses}


def before_after(path: Path, params: Params, split: Split, part: str, entries: list[Entry]) -> None:
    """before_after.png: the first STRIP test photos before, their attention, after by the leader, and the truth."""
    leader = headline(entries, params)
    photos, images, attention = leader.rendered
    rows = [("before", photos), ("after", images)]
    if attention is not None:
        rows.insert(1, ("attention", attention))
    if (twins := _twins(split, part, leader.scores.names, photos.shape[1])) is not None:
        rows.append(("true face", twins))
    write_bytes(path, charts.strip([(label, list(pictures[:STRIP])) for label, pictures in rows]))
