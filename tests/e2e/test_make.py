"""What `make` does on machines that are not ours: what it needs is said before the work, what pip knows uv is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with the Makefile and what it reads, set up already; its programs are those that run the tests."""
    for name in ("Makefile", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv/ready").touch()
    return tmp_path


def make(folder: Path, *arguments: str, code: int = 0, **variables: str) -> str:
    """What `make` says, stdout and stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "MLFLOW_"))}
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=kept | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_serving_before_there_is_a_champion_ends_with_a_sentence_and_starts_no_server(checkout):
    said = make(checkout, "serve", code=2)
    told = [line for line in said.splitlines() if not line.startswith("make: ")]
    assert len(told) == 1, said
    assert told[0].startswith("bmask: there is no model models:/bmask-unmasker@champion")
    assert "Error 3" in said
