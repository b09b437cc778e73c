"""The data report: what ingest found, took and refused, and whether the domains differ by more than the mask."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bmask.data.arrays import ArrayFile
from bmask.data.catalog import ASIDE, FACELESS, GROUPS, REFUSED, USED, Catalog, several
from bmask.data.records import DOMAINS, SPLITS, Photo
from bmask.data.report.cues import MIN_PHOTOS, cues, told_apart
from bmask.data.split.dataset import Dataset, open_array, resize
from bmask.data.split.manifest import read_manifest
from bmask.data.split.slices import RULES
from bmask.html import charts
from bmask.html.page import as_yaml, page

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

SAMPLE = 500  # training photos of each domain that are measured
ON_SHEET = 24  # photos of each domain and split that are shown
MAX_SIDE = 96  # px, of a photo that is shown
MAX_REFUSED = 50  # refused files that are listed
SIDES = {float(np.log2(side)): str(side) for side in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)}


def data_report(settings: Ingest, folder: Path) -> str:
    """The HTML page about the dataset in `folder`. Private photos are neither shown nor named.

    Raises DataError if the folder is no dataset, or a file of it is missing.
    """
    summary = Dataset.open(folder).summary
    with Catalog() as catalog:
        catalog.add(read_manifest(folder))
        return _page(settings, folder, catalog, summary)


def _page(settings: Ingest, folder: Path, catalog: Catalog, summary: dict[str, Any]) -> str:
    sample = {domain: _sample(catalog, f"domain = '{domain}' AND split = 'train'") for domain in DOMAINS}
    squares = {domain: _squares(folder / f"{domain}_train.npy", sample[domain]) for domain in DOMAINS}
    refused = catalog.count(REFUSED)
    return page(
        "data/report/report.html",
        settings=settings,
        summary=summary,
        used=catalog.count(USED),
        groups=catalog.count(USED, GROUPS),
        rows=_rows(catalog),
        told=_told(sample, squares),
        min_photos=MIN_PHOTOS,
        sampled={domain: len(sample[domain]) for domain in DOMAINS},
        sizes=_sizes(catalog, settings.load_size),
        light=_light(squares),
        refused=list(islice(catalog.photos(REFUSED), MAX_REFUSED)),
        more_refused=max(0, refused - MAX_REFUSED),
        labels=_labels(catalog),
        rules=_rules(catalog),
        own_labels=bool(catalog.count(f"{USED} AND labels != ''")),
        sheets=[] if settings.private else _sheets(folder),
        sources=as_yaml({"ingest": settings.model_dump(mode="json")}),
    )


def _sample(catalog: Catalog, where: str) -> list[Photo]:
    """At most SAMPLE photos, evenly spaced in the order of the arrays."""
    numbers = catalog.column("number", np.int64, where, '"index"')
    return list(catalog.at(numbers[:: max(1, -(-len(numbers) // SAMPLE))]))


def _squares(path: Path, photos: list[Photo]) -> NDArray[np.uint8]:
    """uint8 (n, S, S, 3), not memory-mapped: that would also load the neighbours of each square."""
    with ArrayFile.existing(path) as array:
        return array.read_rows(np.array([photo.index for photo in photos]))


def _rows(catalog: Catalog) -> list[dict[str, Any]]:
    found, refused, aside, lost = (catalog.counts("domain", where) for where in ("1", REFUSED, ASIDE, FACELESS))
    photos, groups = (catalog.counts("domain, split", USED, of) for of in ("*", GROUPS))
    return [
        {
            "domain": domain,
            "found": found[domain],
            "refused": refused[domain],
            "aside": aside[domain],
            "no_face": lost[domain],
            "splits": {split: (photos[domain, split], groups[domain, split]) for split in SPLITS},
        }
        for domain in DOMAINS
    ]


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


def _sizes(catalog: Catalog, load_size: int) -> dict[str, Any]:
    """Charts and percentiles of the files' sizes and of the resolution that is kept."""
    short, shape, kept = (
        {domain: catalog.column(field, float, f"{USED} AND domain = '{domain}'") for domain in DOMAINS}
        for field in ("MIN(width, height)", "CAST(width AS REAL) / height", "side")
    )
    logs = {domain: np.log2(sides) for domain, sides in short.items()}
    low, high = np.floor(min(map(np.min, logs.values()))), np.ceil(max(map(np.max, logs.values())))
    if low == high:  # all files have one side, a power of two: place it in the middle
        low, high = low - 1, high + 1
    shapes = {-1.0: "1:2", 0.0: "1:1", 1.0: "2:1"}
    least = min(load_size - 1, *(sides.min() for sides in kept.values()))
    whole = {float(least): f"{least:.0f}", float(load_size): str(load_size)}
    plots = {
        "Shorter side of the file, px": charts.histogram(logs, low, high, _within(SIDES, low, high)),
        "Width : height of the file": charts.histogram(_each(np.log2, shape), -1.5, 1.5, shapes),
        "Resolution kept, px": charts.histogram(kept, least, load_size, whole),
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
    """The ticks from low to high, or every other one if they would touch."""
    there = {place: label for place, label in ticks.items() if low <= place <= high}
    return dict(list(there.items())[:: 1 if len(there) <= 5 else 2])


def _each(function: Any, values: dict[str, NDArray]) -> dict[str, NDArray]:
    return {name: function(own) for name, own in values.items()}


def _light(squares: dict[str, NDArray[np.uint8]]) -> dict[str, Any]:
    """Charts of brightness, contrast and colour of whole pictures."""
    lab = {domain: np.array([_lab(photo) for photo in photos]) for domain, photos in squares.items()}
    plots: dict[str, tuple[int, float, float, dict[float, str]]] = {
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
    light, red, yellow = cv2.reduce(lab, 0, cv2.REDUCE_SUM)[0] / len(lab)  # lab.mean(0), but five times as fast
    return [light, lab[:, 0].std(), red, yellow]


def _labels(catalog: Catalog) -> list[tuple[str, dict[str, int]]]:
    """(label, {split: photos}) of the masked photos, as evaluation will report them."""
    counts: Counter[tuple[str, str]] = Counter()
    for (labels, split), photos in catalog.counts("slices, split", USED).items():
        counts.update({(label, split): photos for label in several(labels)})
    return [
        (label, {split: counts[label, split] for split in SPLITS}) for label in sorted({label for label, _ in counts})
    ]


def _rules(catalog: Catalog) -> list[dict[str, Any]]:
    """Each rule, how many photos it labels and how often it is right, if the source's labels show it."""
    rows: list[dict[str, Any]] = [{"rule": rule, "photos": 0, "true": 0, "right": 0} for rule in RULES]
    for (guessed, labels), photos in catalog.counts("guessed, labels", f"{USED} AND domain = 'masked'").items():
        for row in rows:
            says = row["rule"].label in several(guessed)
            true = not set(row["rule"].truth).isdisjoint(several(labels))
            row["photos"] += photos * says
            row["true"] += photos * true
            row["right"] += photos * (says and true)
    return rows


def _sheets(folder: Path) -> list[tuple[str, list[str]]]:
    """(domain and split, pictures as data URLs): the first ON_SHEET of each, in the order of the arrays."""
    sheets = []
    for domain in DOMAINS:
        for split in SPLITS:
            photos = open_array(folder / f"{domain}_{split}.npy")[:ON_SHEET]
            shown = resize(photos, min(MAX_SIDE, photos.shape[1]))
            sheets.append((f"{domain}, {split}", [charts.data_address(photo) for photo in shown]))
    return sheets
