"""`make` on other machines: it says what is missing before it starts, and passes pip's settings to uv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with the Makefile and what it reads, already set up with the programs that run the tests."""
    for name in ("Makefile", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv/ready").touch()
    return tmp_path


def make(folder: Path, *arguments: str, code: int = 0, before: tuple[str, ...] = (), **variables: str) -> str:
    """The stdout and stderr of `make`."""
    inherited = ("MAKE", "MFLAGS", "MLFLOW_", "PIP_", "UV_", "USER", "LOGNAME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    done = subprocess.run(
        [*before, "make", *arguments], cwd=folder, env=kept | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def pipeline(checkout) -> Path:
    """A DVC pipeline of one stage."""
    (checkout / "dvc.yaml").write_text("stages: {one: {cmd: date > out, outs: [out]}}")
    (checkout / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", checkout / ".dvc")
    return checkout


def test_the_pipeline_runs_in_an_unpacked_zip_without_git(pipeline):
    assert "no .git here" in make(pipeline, "repro")
    assert (pipeline / "out").is_file()


def test_the_pipeline_runs_under_a_user_without_a_name(pipeline, nameless):
    subprocess.run(["git", "init", "-q", "."], cwd=pipeline, check=True)
    make(pipeline, "repro", before=tuple(nameless))
    assert (pipeline / "out").is_file()


# uv gets pip's settings.

PIP_CONF = """
[global]
index-url = https://me:pass%40word@packages.example.com/simple
extra-index-url =
    https://one.example.com/simple
    https://two.example.com/simple
trusted-host = packages.example.com
cert = /etc/company.pem
[install]
find-links = /wheels /more/wheels
"""


@pytest.fixture
def uv(tmp_path):
    """Calls tools/uv.py with a fake `uv` that prints its arguments and variables, the real pip and a pip.conf."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), tmp_path)
    fake = tmp_path / "bin/uv"
    fake.write_text('#!/bin/sh\necho "$@"; env')
    fake.chmod(0o755)
    (tmp_path / "pip.conf").write_text(PIP_CONF)

    def call(**variables: str) -> tuple[str, dict[str, str]]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "SSL_"))}
        kept |= {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PYTHONPATH": sysconfig.get_path("purelib")}
        command = [tmp_path / "bin/python", ROOT / "tools/uv.py", "pip", "install", "-r", "some.txt"]
        done = subprocess.run(command, env=kept | variables, capture_output=True, text=True, check=True)
        assert "pass" not in done.stderr
        arguments, *lines = done.stdout.splitlines()
        return arguments, dict(line.split("=", 1) for line in lines if "=" in line)

    return call


def test_uv_gets_the_index_that_pip_knows_and_no_secret_among_its_arguments(uv):
    arguments, variables = uv()
    assert arguments == "pip install -r some.txt"
    expected = {
        "UV_DEFAULT_INDEX": "https://me:pass%40word@packages.example.com/simple",
        "UV_INDEX": "https://one.example.com/simple https://two.example.com/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "packages.example.com",
        "UV_FIND_LINKS": "/wheels,/more/wheels",
        "SSL_CERT_FILE": "/etc/company.pem",
    }
    assert {name: variables.get(name) for name in expected} == expected


def test_pips_own_variables_come_before_its_file_and_uvs_before_both(uv):
    _, variables = uv(PIP_INDEX_URL="https://other.example.com/simple", UV_FIND_LINKS="/mine")
    assert variables["UV_DEFAULT_INDEX"] == "https://other.example.com/simple"
    assert variables["UV_FIND_LINKS"] == "/mine"


def test_make_installs_with_uv_through_pips_settings(checkout):
    (checkout / ".venv/ready").unlink()
    shown = make(checkout, "--dry-run", "setup")
    assert shown.count("tools/uv.py pip install") == 2
    assert "/uv pip install" not in shown
