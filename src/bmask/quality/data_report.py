"""The data report: what ingest found, took and refused, and whether the domains differ by more than the mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmask.data.dataset import DOMAINS, PARTS, open_array, resize
from bmask.data.manifest import Photo
from bmask.data.slices import RULES
from bmask.quality import charts
from bmask.quality.cues import FEWEST, cues, told_apart
from bmask.quality.page import as_yaml, page
from bmask.sections import Ingest

SAMPLE = 500  # training photos of each domain that are measured
ON_SHEET = 24  # photos of each domain and part that are shown
LARGEST = 96  # px, of a photo that is shown
NAMED = 50  # refused files that are named
SIDES = {float(np.log2(side)): str(side) for side in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)}


def data_report(
    settings: Ingest, folder: Path, photos: list[Photo], summary: dict[str, Any], guessed: dict[str, list]
) -> str:
    """The page as text. Private photos are neither shown nor named.

    Args:
        folder: holds the split's arrays. photos: all that were found. summary: as in summary.json.
        guessed: what `assign_slices` returned.
    """
    used = [photo for photo in photos if photo.part]
    sample = {domain: _sample([p for p in used if (p.entry.domain, p.part) == (domain, "train")]) for domain in DOMAINS}
    arrays = {domain: open_array(folder / f"{domain}_train.npy") for domain in DOMAINS}
    squares = {domain: arrays[domain][[photo.index for photo in sample[domain]]] for domain in DOMAINS}
    refused = [photo for photo in photos if not photo.group]
    return page(
        "data_report.html",
        settings=settings,
        summary=summary,
        used=len(used),
        groups=len({photo.group for photo in used}),
        rows=[_row(domain, photos) for domain in DOMAINS],
        told=_told(sample, squares),
        fewest=FEWEST,
        sampled={domain: len(sample[domain]) for domain in DOMAINS},
        sizes=_sizes(used, settings.load_size),
        light=_light(squares),
        refused=refused[:NAMED],
        more_refused=max(0, len(refused) - NAMED),
        labels=_labels(used),
        rules=_rules(used, guessed),
        own_labels=any(photo.entry.slices for photo in used),
        sheets=[] if settings.private else _sheets(folder),
        sources=as_yaml({"ingest": settings.model_dump(mode="json")}),
    )


def _sample(photos: list[Photo]) -> list[Photo]:
    """At most SAMPLE of them, evenly spaced."""
    return photos[:: max(1, -(-len(photos) // SAMPLE))]


def _row(domain: str, photos: list[Photo]) -> dict[str, Any]:
    mine = [photo for photo in photos if photo.entry.domain == domain]
    parts = Counter(photo.part for photo in mine)
    grouped = [photo for photo in mine if photo.group]
    groups = {part: len({photo.group for photo in grouped if photo.part == part}) for part in PARTS}
    return {
        "domain": domain,
        "found": len(mine),
        "refused": len(mine) - len(grouped),
        "aside": sum(not photo.part for photo in grouped),
        "parts": {part: (parts[part], groups[part]) for part in PARTS},
    }


def _told(sample: dict[str, list[Photo]], squares: dict[str, NDArray[np.uint8]]) -> list[tuple[str, str, float]]:
    """(cue, what it is, accuracy), the files' sizes first."""
    photos = [photo for domain in DOMAINS for photo in sample[domain]]
    masked = np.array([photo.entry.domain == "masked" for photo in photos])
    groups = np.array([photo.group for photo in photos])
    sizes = np.array([(p.width, p.height, p.width / p.height) for p in photos])
    found = cues(np.concatenate([squares[domain] for domain in DOMAINS]))
    accuracies = told_apart({"size": sizes, **found}, masked, groups)
    what = {
        "size": "width and height of the files, before matching",
        "spectrum": "sharpness, noise, framing: power by spatial frequency",
        "compression": "traces of JPEG's blocks",
        "border": "frames, bars, padding: the outermost lines",
    }
    return [(name, meaning, accuracies[name]) for name, meaning in what.items()]


def _sizes(used: list[Photo], load_size: int) -> dict[str, Any]:
    """Charts and percentiles of what the files bring and what is kept of it."""
    short = {d: np.array([min(p.width, p.height) for p in used if p.entry.domain == d], float) for d in DOMAINS}
    shape = {d: np.array([p.width / p.height for p in used if p.entry.domain == d]) for d in DOMAINS}
    kept = {d: np.array([p.side for p in used if p.entry.domain == d], float) for d in DOMAINS}
    logs = {domain: np.log2(sides) for domain, sides in short.items()}
    ends = [np.floor(min(map(np.min, logs.values()))), np.ceil(max(map(np.max, logs.values())))]
    shapes = {-1.0: "1:2", 0.0: "1:1", 1.0: "2:1"}
    least = min(load_size - 1, *(sides.min() for sides in kept.values()))
    plots = {
        "Shorter side of the file, px": charts.histogram(logs, *ends, _within(SIDES, *ends)),
        "Width : height of the file": charts.histogram(_each(np.log2, shape), -1.5, 1.5, shapes),
        "Resolution kept, px": charts.histogram(kept, least, load_size, {least: f"{least:.0f}", load_size: load_size}),
    }
    rows = [
        (what, domain, np.percentile(own[domain], [10, 50, 90]), form)
        for what, own, form in (
            ("Shorter side of the file, px", short, "%.0f"),
            ("Width : height", shape, "%.2f"),
            ("Resolution kept, px", kept, "%.0f"),
        )
        for domain in DOMAINS
    ]
    return {"plots": plots, "rows": rows}


def _within(ticks: dict[float, str], low: float, high: float) -> dict[float, str]:
    """Those that lie there; every other one where they would touch."""
    there = {place: label for place, label in ticks.items() if low <= place <= high}
    return dict(list(there.items())[:: 1 if len(there) <= 5 else 2])


def _each(function: Any, values: dict[str, NDArray]) -> dict[str, NDArray]:
    return {name: function(own) for name, own in values.items()}


def _light(squares: dict[str, NDArray[np.uint8]]) -> dict[str, Any]:
    """Charts of brightness, contrast and colour of whole pictures."""
    lab = {domain: np.array([_lab(photo) for photo in photos]) for domain, photos in squares.items()}
    plots = {
        "Brightness (mean L*)": (0, 0, 100, {0: "black", 50: "50", 100: "white"}),
        "Contrast (deviation of L*)": (1, 0, 40, {0: "0", 20: "20", 40: "40"}),
        "Green to red (mean a*)": (2, -20, 40, {-20: "green", 0: "0", 40: "red"}),
        "Blue to yellow (mean b*)": (3, -30, 40, {-30: "blue", 0: "0", 40: "yellow"}),
    }
    return {
        title: charts.histogram({d: lab[d][:, column] for d in DOMAINS}, low, high, ticks)
        for title, (column, low, high, ticks) in plots.items()
    }


def _lab(photo: NDArray[np.uint8]) -> list[float]:
    """Mean L*, its deviation, mean a*, mean b*."""
    import cv2

    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    light, red, yellow = cv2.reduce(lab, 0, cv2.REDUCE_SUM)[0] / len(lab)  # lab.mean(0), in a fifth of its time
    return [light, lab[:, 0].std(), red, yellow]


def _labels(used: Iterable[Photo]) -> list[tuple[str, dict[str, int]]]:
    """(label, {part: photos}) of the masked photos, as evaluation will report them."""
    counts = Counter((label, photo.part) for photo in used for label in photo.slices)
    return [(label, {part: counts[label, part] for part in PARTS}) for label in sorted({label for label, _ in counts})]


def _rules(used: list[Photo], guessed: dict[str, list]) -> list[dict[str, Any]]:
    """Each rule, how many photos it labels and, where the source has labels that say it too, how often it is right."""
    masked = sorted((p for p in used if p.entry.domain == "masked"), key=lambda p: (p.part, p.index))
    own = [set(photo.entry.slices) for photo in masked]
    said = [set(labels) for part in sorted(guessed) for labels in guessed[part]]
    rows = []
    for rule in RULES:
        says = np.array([rule.label in labels for labels in said])
        true = np.array([bool(labels & set(rule.truth)) for labels in own])
        row = {"rule": rule, "photos": int(says.sum()), "true": int(true.sum()), "right": int((says & true).sum())}
        rows.append(row)
    return rows


def _sheets(folder: Path) -> list[tuple[str, list[str]]]:
    """(domain and part, pictures as data addresses): the first ON_SHEET of each, in the order of the arrays."""
    sheets = []
    for domain in DOMAINS:
        for part in PARTS:
            photos = open_array(folder / f"{domain}_{part}.npy")[:ON_SHEET]
            shown = resize(photos, min(LARGEST, photos.shape[1]))
            sheets.append((f"{domain}, {part}", [charts.data_address(photo) for photo in shown]))
    return sheets
