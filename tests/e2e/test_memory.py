"""Memory: trainings that do not fit, because the system refuses memory as a container's limit or a small machine does,
and how little memory more photos take."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tiny import tiny_params, write_augment, write_dataset

# Limits memory to that of the libraries and N MB more: enough to start, too little for the batch.
LIMITED = """
import resource, sys
import torch._dynamo, mlflow, bmask.stages.train, bmask.cli  # what a training imports, before the limit falls
torch.set_num_threads(1)
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + int(sys.argv.pop(1)) * 2**20,) * 2)
bmask.cli.main()
"""


@pytest.fixture
def crowded(workplace: Path) -> Path:
    """A working folder whose model needs some 500 MB for a batch of 8."""
    write_dataset(workplace / "results/ingest", load_size=72)
    write_augment(workplace / "results/augment", load_size=72)
    network = {"system": "attentiongan", "scheme": 2, "masks": 4, "filters": 16, "blocks": 2}
    tree = tiny_params({"large": network}, epochs=1, constant_epochs=1, batch_size=8).model_dump(
        mode="json", by_alias=True
    )
    tree["ingest"]["load_size"], tree["train"]["image_size"] = 72, 64
    (workplace / "params.yaml").write_text(yaml.safe_dump(tree))
    return workplace


def test_a_batch_that_does_not_fit_ends_with_numbers_a_remedy_and_exit_code_4(crowded: Path, store):
    """Through the command line, in its own process, which may map 250 MB more than its libraries."""
    command = [sys.executable, "-c", LIMITED, "250", "train", "large"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 4, done.stderr[-3000:]
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("bmask: ")]
    assert re.search(r"models\.large: 8 photos of 64 px at a time take more memory than cpu has", told)
    held = re.search(r"\((\d+\.\d) GB were taken\)", told)
    assert 0.3 < float(held[1]) < 3
    assert "raise schedule.accumulate_steps (the same gradients)" in told
    assert "lower train.image_size, network.filters or network.blocks" in told
    assert "Traceback" not in done.stderr
    assert not list(crowded.glob("results/train/*"))
    (run,) = store.search_runs(["1"])
    assert run.info.status == "FAILED"
    assert run.data.tags["bmask.failure"] in told


def test_a_dry_run_that_does_not_fit_says_the_same(crowded: Path):
    command = [sys.executable, "-c", LIMITED, "250", "train", "large", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 4, done.stderr[-3000:]
    assert "models.large: 8 photos of 64 px at a time take more memory than cpu has" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_remedy_that_the_message_names_helps(crowded: Path, store):
    """In 8 parts the same training fits where the whole batch did not."""
    whole = yaml.safe_load((crowded / "params.yaml").read_text())
    whole["models"]["large"]["schedule"]["accumulate_steps"] = 8
    (crowded / "params.yaml").write_text(yaml.safe_dump(whole))
    command = [sys.executable, "-c", LIMITED, "250", "train", "large"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((crowded / "results/train/large/run.json").read_text())["steps"] == 1


PEAK = """
import sys
from bmask.stages.ingest import ingest
from bmask.params import parse_params
from bmask.training.health import peak_memory
ingest(parse_params({"ingest": {"source": sys.argv[1], "load_size": 32}, "train": {"image_size": 16}}), sys.argv[2])
print(peak_memory() * 1024)
"""


def draw_noise(folder: Path, count: int) -> None:
    for domain in ("masked", "unmasked"):
        (folder / domain).mkdir(parents=True)
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
        photo = cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / ("masked", "unmasked")[number % 2] / f"{number:06}.jpg"), photo)


@pytest.mark.slow
def test_six_times_as_many_photos_take_hardly_more_memory(tmp_path):
    """With the rows of the manifest in memory it took 38 MB more."""
    peaks = []
    for count in (2000, 12_000):
        draw_noise(tmp_path / f"{count}", count)
        command = [sys.executable, "-c", PEAK, str(tmp_path / f"{count}"), str(tmp_path / "out" / f"{count}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        peaks.append(float(done.stdout))
    print(f"{peaks[0]:.0f} MB with 2,000 photos, {peaks[1]:.0f} MB with 12,000")
    assert peaks[1] < peaks[0] + 20
