"""`bmask unmask` on ten thousand photos: as much memory as for one thousand, and a line in the report for each."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny import write_generator

pytestmark = pytest.mark.slow

MEASURED = """
import sys
from bmask.cli import main
from bmask.training.health import peak_memory
try:
    main()
finally:
    print(f"peak {peak_memory() * 1024:.1f}")
"""


def unmask(generator: Path, photos: Path, out: Path, report: Path) -> float:
    """The peak memory of `bmask unmask`, MB."""
    command = [sys.executable, "-c", MEASURED, "unmask", str(photos), str(out), "--model", str(generator)]
    done = subprocess.run(
        [*command, "--report", str(report)], capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split("peak ")[1])


def test_ten_times_as_many_photos_take_hardly_more_memory(tmp_path):
    generator, peaks = write_generator(tmp_path), []
    for count in (1000, 10_000):
        photos, out, report = (tmp_path / f"{count} {what}" for what in ("photos", "out", "report.csv"))
        photos.mkdir()
        for number in range(count):
            coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
            cv2.imwrite(str(photos / f"{number:05}.jpg"), cv2.resize(coarse, (160, 120)))
        peaks.append(unmask(generator, photos, out, report))
        with report.open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == count
        assert len(list(out.iterdir())) == count
    print(f"{peaks[0]:.0f} MB with 1,000 photos, {peaks[1]:.0f} MB with 10,000")
    assert peaks[1] - peaks[0] < 30
