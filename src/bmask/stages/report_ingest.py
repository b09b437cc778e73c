"""The page about the photos: what ingest found, took and refused. Only the stage that logs it depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bmask.files import fresh_folder, write_text

if TYPE_CHECKING:
    from bmask.params import Params


def report_ingest(params: Params, dataset_folder: Path, out: Path) -> None:
    """Writes `report.html` (self-contained). Private photos are neither shown nor named.

    Raises:
        DataError: there is no usable dataset in `dataset_folder`.
    """
    from bmask.data.report.report import data_report

    with fresh_folder(Path(out)) as folder:
        write_text(folder / "report.html", data_report(params.ingest, Path(dataset_folder)))
