"""One new file in gan/systems/ and nothing else: trained, killed, resumed, scored, registered, served."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import bmask
from newcomer import FOLDER, write_inputs
from servers import serving
from tiny import pictures, tiny_params, write_augment, write_dataset

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working folder with small results of ingest, and a copy of the package with the new file."""
    folder = tmp_path_factory.mktemp("newcomer")
    package = folder / "src/bmask"
    shutil.copytree(Path(bmask.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FOLDER / "novel.py", package / "gan/systems/novel.py")
    write_dataset(folder / "results/ingest")
    write_augment(folder / "results/augment")
    write_inputs(folder / "results/masks")
    params = tiny_params({"plain": {"system": "cyclegan"}}, epochs=40, constant_epochs=20, batch_size=4)
    tree = params.model_dump(mode="json", by_alias=True)
    schedule = tree["models"]["plain"]["schedule"]
    tree["models"] = {"novel": {"network": {"system": "novel"}, "schedule": schedule}}
    tree["judge"] |= {"filters": 4, "steps": 4, "min_clean": 0, "min_found": 0, "max_fooled": 1}
    tree["evaluate"] |= {"bootstrap": 20, "pictures": 2, "baselines": ["identity"]}
    tree["register"] |= {"max_residue_rate": 1, "max_grade": 1, "max_paste_outside": 255}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return folder


def environment(place: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
    return {**kept, **store, "PATH": programs, "PYTHONPATH": str(place / "src"), "OMP_NUM_THREADS": "1"}


def command(place: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bmask", *words], cwd=place, env=environment(place), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_a_killed_training_of_it_ends_with_the_bits_of_one_that_was_not(place):
    command(place, "train", "novel")
    trained = place / "results/train/novel"
    networks = ("generator.safetensors", "discriminators.safetensors")
    assert {path.name for path in trained.iterdir()} == {*networks, "losses.csv", "run.json", "samples"}
    whole = {name: (trained / name).read_bytes() for name in (*networks, "losses.csv")}
    shutil.rmtree(place / "checkpoints")
    shutil.rmtree(trained)
    (place / "mlflow.db").unlink()
    with subprocess.Popen(
        [sys.executable, "-m", "bmask", "train", "novel"], cwd=place, env=environment(place), stderr=subprocess.DEVNULL
    ) as child:
        end = time.monotonic() + 120
        while not list(place.glob("checkpoints/novel-*/previous.npz")) and time.monotonic() < end:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert "going on from epoch" in command(place, "train", "novel")
    assert {name: (trained / name).read_bytes() for name in whole} == whole


def test_it_is_scored_registered_and_serves(place, tmp_path):
    if not (place / "results/train/novel").exists():
        command(place, "train", "novel")
    data_page = place / "results/report/ingest/report.html"
    data_page.parent.mkdir(parents=True)
    data_page.write_text("the report of ingest")  # no ingest ran here
    for stage in (["judge"], ["evaluate"], ["report", "evaluate"], ["register"]):
        command(place, *stage)
    assert json.loads((place / "results/register/decision.json").read_text())["model"] == "novel"
    photo = Image.fromarray(pictures(1, 48, masked=True, seed=3)[0])
    photo.save(place / "photo.png")
    command(place, "champion", "set", "1")
    command(place, "unmask", "photo.png", "face.png")
    face = np.asarray(Image.open(place / "face.png"))
    assert face.shape == (48, 48, 3)

    bare = {key: value for key, value in environment(place).items() if key != "PYTHONPATH"}
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    served = [mlflow, "models", "serve", "-m", "models:/bmask-unmasker@champion", "--env-manager", "local"]
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    body = json.dumps({"inputs": {"image": [base64.b64encode(buffer.getvalue()).decode()]}}).encode()
    with serving(served, "/ping", tmp_path, bare) as address:
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request, timeout=60))["predictions"][0]
    again = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["image"]))))
    assert np.array_equal(again, face)
