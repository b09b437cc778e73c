"""What differs on other machines: variables of notebooks and launchers, locales, users without a name."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bmask.gan.device import pick_device
from bmask.training.distributed import joined, launched_processes

CHART = "from bmask.html.charts import loss_chart; from numpy import ones; print(loss_chart(ones(3), {'g': ones(3)}))"
ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def run(folder: Path, *command: str, code: int = 0, **variables: str) -> str:
    """The stdout and stderr of a Python process with further environment variables."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "Qt4Agg"])
def test_the_backend_of_a_notebook_does_not_keep_the_report_from_its_curves(backend, tmp_path):
    assert run(tmp_path, "-c", CHART, MPLBACKEND=backend).startswith("<svg")


def test_the_callers_backend_stays_his(tmp_path):
    program = f"{CHART}; import os; print(os.environ['MPLBACKEND'])"
    assert run(tmp_path, "-c", program, MPLBACKEND="nbagg").endswith("nbagg\n")


LEFT_BEHIND = {
    "empty": {"WORLD_SIZE": "", "RANK": "", "LOCAL_RANK": ""},
    "in part": {"WORLD_SIZE": "4", "LOCAL_RANK": "3"},
    "of a whole job": {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "node1", "MASTER_PORT": "1"},
}


@pytest.mark.parametrize("variables", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_what_another_launcher_left_behind_makes_no_training_of_several_processes(variables, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched_processes() == 1
    with joined(torch.device("cpu")) as world:
        assert (world.rank, world.size) == (0, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto") == torch.device("cuda")


# A locale without UTF-8.


def photos(folder: Path) -> Path:
    """A source with umlauts in its names of folders and files; each folder has a file that is no photo."""
    rng = np.random.default_rng(0)
    for domain in ("mit Mäske", "ohne"):
        (folder / domain).mkdir(parents=True)
        (folder / domain / "kaputt ü 口罩.png").write_bytes(b"no photo")
        for number in range(40):
            content = rng.integers(0, 256, (40 + number, 44, 3), dtype=np.uint8)
            Image.fromarray(content).save(folder / domain / f"müller {number}.png")
    return folder


def packed(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder))
    return archive


def ingested(folder: Path, source: str) -> list[tuple[str, str]]:
    """The files that ingest refuses under an ASCII locale."""
    settings = f"source: {source}, masked: mit Mäske, unmasked: ohne, load_size: 24, validation: 0.3, test: 0.3"
    (folder / "parämeter.yaml").write_text(f"ingest: {{{settings}}}\ntrain: {{image_size: 16}}", encoding="utf-8")
    run(folder, "-m", "bmask", "ingest", "--params", "parämeter.yaml", **ASCII)
    with open(folder / "results/ingest/rejected.csv", encoding="utf-8") as file:
        return [(row["domain"], row["name"]) for row in csv.DictReader(file)]


REFUSED = [("masked", "kaputt ü 口罩.png"), ("unmasked", "kaputt ü 口罩.png")]


def test_an_archive_is_read_with_its_umlauts_under_a_locale_without_them(tmp_path):
    packed(photos(tmp_path / "gepackt"), tmp_path / "größe.zip")
    assert ingested(tmp_path, "größe.zip") == REFUSED


@pytest.mark.slow
def test_a_folder_is_read_with_its_umlauts_under_a_locale_without_them(tmp_path):
    photos(tmp_path / "größe")
    assert ingested(tmp_path, "größe") == REFUSED


@pytest.mark.slow
def test_objects_are_read_with_their_umlauts_under_a_locale_without_them(tmp_path, s3):
    client = s3.client()
    for path in photos(tmp_path / "there").rglob("*.png"):
        client.upload_file(str(path), "photos", f"größe/{path.relative_to(tmp_path / 'there')}")
    assert ingested(tmp_path, "s3://photos/größe") == REFUSED


def test_what_the_locale_cannot_print_is_printed_in_escapes(tmp_path):
    assert "\\xfc" in run(tmp_path, "-m", "bmask", "ingest", "--params", "ü.yaml", code=2, **ASCII)
    shown = run(tmp_path, "-m", "bmask", "draw", "--help", **ASCII)
    assert shown.isascii()


def test_a_closed_standard_output_is_no_error(tmp_path):
    closing = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'bmask', '--help'])"
    assert run(tmp_path, "-c", closing) == ""


# A user id without a name, as in `docker run -u 12345`.


@pytest.mark.slow
def test_a_user_without_a_name_and_a_home_can_ask_mlflow(tmp_path, nameless, store_template):
    (tmp_path / "params.yaml").write_text("{}")
    shutil.copy(store_template, tmp_path / "mlflow.db")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*nameless, sys.executable, "-m", "bmask", "champion"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "bmask-unmasker has no versions yet: run the pipeline first\n"
