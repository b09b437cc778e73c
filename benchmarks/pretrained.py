"""The scores of any generator as it is served, such as the network that ships: a row of docs/results.md for each.

    python benchmarks/pretrained.py [GENERATOR ...] [--results results]

Needs the results of `dvc repro masks judge`. A generator has not seen their test photos if it was trained
on the same dataset (`dataset` says so). Rates come with 95 % intervals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pairing import table
from seeds import SCORES

from bmask.data.split.dataset import Dataset
from bmask.quality.as_served import score_as_served
from bmask.quality.scores import RATES, intervals
from bmask.serving.unmasker import Unmasker

SHIPPED = "src/bmask_weights/photos-128/generator.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", nargs="*", default=[SHIPPED])
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    dataset, rows = Dataset.open(args.results / "ingest"), []
    for generator in args.generators:
        unmasker = Unmasker(generator)
        folders = args.results / "judge", args.results / "masks"
        found = intervals(score_as_served(unmasker, dataset, "test", unmasker.size, *folders, ()), 500, 5)
        row: dict[str, object] = {"generator": generator}
        row["dataset"] = "its own" if unmasker.about.get("data_digest") == dataset.digest else "another"
        for name in SCORES:
            value, low, high = found[name]
            row[name] = f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if name in RATES else "")
        rows.append(row)
    print(table(rows))


if __name__ == "__main__":
    main()
