"""The page about the systems: leaderboard, slices, pictures, losses. Only the stage that logs it depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bmask.files import fresh_folder, write_bytes, write_text

if TYPE_CHECKING:
    from bmask.params import Params


def report_evaluate(
    params: Params, dataset_folder: Path, train_folder: Path, judge_folder: Path, evaluate_folder: Path, out: Path
) -> None:
    """Writes `report.html` (self-contained), `losses/<model>/<loss>.csv` (plotted by DVC) and `before_after.png` of the
    best system. Leaves pictures of people out if the dataset is private. Measures nothing.

    Raises:
        DataError: a file is missing in these folders.
    """
    from bmask.data.split.dataset import Dataset
    from bmask.quality.report import before_after, evaluation_report, loss_tables

    summary = Dataset.open(dataset_folder).summary
    folders = (Path(train_folder), Path(judge_folder), Path(evaluate_folder))
    with fresh_folder(Path(out)) as folder:
        write_text(folder / "report.html", evaluation_report(params, summary, *folders))
        for name, table in loss_tables(params.models, Path(train_folder)).items():
            write_text(folder / "losses" / f"{name}.csv", table)
        if not summary["private"]:
            write_bytes(folder / "before_after.png", before_after(params, Path(evaluate_folder)))
