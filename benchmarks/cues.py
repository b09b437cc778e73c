"""Measures how well masked and unmasked photos can be told apart without the mask, before and after matching.

    python benchmarks/cues.py PHOTOS [--masked NAME] [--unmasked NAME] [--load-size 72]

PHOTOS holds the two domain folders. Each accuracy is that of a classifier that sees one cue, cross-validated on the
training photos by group of near-duplicates; 50 % is chance. `size` is width and height of the files before matching.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np

from bmask.data.records import DOMAINS
from bmask.data.report.cues import cues, told_apart
from bmask.data.split.dataset import Dataset
from bmask.params import parse_params
from bmask.stages.ingest import ingest

TREATMENTS: dict[str, dict[str, object]] = {
    "as they are": {"match_resolution": False},
    "resolution matched": {},
    "and JPEG 75": {"jpeg_quality": 75},
    "and JPEG 50": {"jpeg_quality": 50},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder with the two domain folders")
    parser.add_argument("--masked", default="masked")
    parser.add_argument("--unmasked", default="unmasked")
    parser.add_argument("--load-size", type=int, default=72)
    given = parser.parse_args()
    source = {"source": given.photos, "masked": given.masked, "unmasked": given.unmasked, "load_size": given.load_size}
    rows = {}
    for name, treatment in TREATMENTS.items():
        with tempfile.TemporaryDirectory() as folder:
            ingest(parse_params({"ingest": {**source, **treatment, "private": True}}), Path(folder) / "split")
            rows[name] = accuracies(Dataset.open(Path(folder) / "split"))
    names = list(rows["as they are"])
    print("".join(["photos".ljust(20), *(name.rjust(13) for name in names)]))
    for name, found in rows.items():
        print("".join([name.ljust(20), *(f"{found[cue]:.3f}".rjust(13) for cue in names)]))


def accuracies(dataset: Dataset) -> dict[str, float]:
    """Balanced accuracy with each cue, and with all cues of the squares together."""
    photos = [dataset.photos(domain, "train") for domain in DOMAINS]
    masked = np.repeat([True, False], [len(own) for own in photos])
    groups = np.concatenate([dataset.groups(domain, "train") for domain in DOMAINS])
    found = [cues(own) for own in photos]
    shown = {name: np.concatenate([own[name] for own in found]) for name in found[0]}
    features = {"size": sizes(dataset), **shown, "all but size": np.hstack(list(shown.values()))}
    return told_apart(features, masked, groups)


def sizes(dataset: Dataset) -> np.ndarray:
    """(N, 3): width, height and their ratio, in the order of the training photos."""
    with open(dataset.folder / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    rows.sort(key=lambda row: (DOMAINS.index(row["domain"]), int(row["index"])))
    return np.array([(int(row["width"]), int(row["height"]), int(row["width"]) / int(row["height"])) for row in rows])


if __name__ == "__main__":
    main()
