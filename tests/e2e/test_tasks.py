"""A task as a cluster starts it: command, arguments and environment of the compiled pipeline, in a process of its own.

The downloads and uploads of kfp's launcher are not tested here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bmask.kubeflow.compiling import build_pipeline, write_pipeline
from bmask.params import load_params

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The container of each task of the pipeline that params.yaml compiles to."""
    path = tmp_path_factory.mktemp("pipeline") / "unmask.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        write_pipeline(build_pipeline(load_params("params.yaml"), "bmask:local"), path)
    executors = next(yaml.safe_load_all(path.read_text()))["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def run(container: dict[str, Any], folder: Path, artifacts: dict[str, str], **parameters: Any) -> tuple[int, str]:
    """Runs a task; returns exit code and stderr. `artifacts` are the types of its inputs, whose files are missing."""

    def listed(kinds: dict[str, str]) -> dict:
        return {
            name: {"artifacts": [{"name": name, "uri": str(folder / name), "type": {"schemaTitle": kind}}]}
            for name, kind in kinds.items()
        }

    told = {
        "inputs": {"parameterValues": parameters, "artifacts": listed(artifacts)},
        "outputs": {
            "outputFile": str(folder / "outputs.json"),
            "artifacts": listed({"dataset": "system.Dataset", "trained": "system.Model"}),
        },
    }
    command = [*container["command"], *container["args"]]
    command = [json.dumps(told) if part == "{{$}}" else part for part in command]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would get the GPU that it was promised")
def test_a_training_without_its_gpu_ends_before_it_reads_anything(shipped, tmp_path: Path):
    sections = {"model": {"name": "cyclegan"}, "ingest": {}, "train": {}, "s3": {}}
    code, said = run(shipped["train"], tmp_path, dict.fromkeys(("dataset", "augmented"), "system.Dataset"), **sections)
    assert code == 4
    assert said.splitlines()[-1].startswith("bmask: cluster.gpus requested 1 GPU, but torch sees none;")
    assert "Traceback" not in said


def test_what_a_user_can_mend_ends_a_task_with_the_sentence_and_the_code_of_the_command(shipped, tmp_path: Path):
    code, said = run(shipped["ingest"], tmp_path, {}, ingest={"source": "nowhere"}, s3={})
    assert code == 3
    assert said.splitlines()[-1].startswith("bmask: ingest.source: there is no folder or archive nowhere;")
    assert "Traceback" not in said
