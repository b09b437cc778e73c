"""The whole pipeline in containers: Docker's API, a real MLflow server, a user without rights, a read-only root.

`make pipeline-containers` builds the image, names it in BMASK_IMAGE and runs this; it is too slow for every change.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from bmask.kubeflow.local import run
from bmask.params import Params, parse_params
from servers import serving
from workspace import ROOT, TINY

IMAGE = os.environ.get("BMASK_IMAGE", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not IMAGE, reason="BMASK_IMAGE names no image")]


@pytest.fixture
def kept_until_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps containers until kfp has read the exit code; for removed ones, podman 4 answers 500 instead of 404."""
    from docker.models.containers import Container, ContainerCollection

    start, wait = ContainerCollection.run, Container.wait

    def run(self: Any, *args: Any, auto_remove: bool = False, **options: Any) -> Container:
        return start(self, *args, **options)

    def wait_and_remove(self: Container, **options: Any) -> dict:
        ended = wait(self, **options)
        self.remove()
        return ended

    monkeypatch.setattr(ContainerCollection, "run", run)
    monkeypatch.setattr(Container, "wait", wait_and_remove)


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    with serving(command, "/health", folder, {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}) as address:
        yield address


def params() -> Params:
    return parse_params(yaml.safe_load(os.environ["BMASK_PARAMS"]) if "BMASK_PARAMS" in os.environ else TINY)


def test_the_pipeline_runs_in_containers_as_nobody(tmp_path: Path, mlflow_server: str, monkeypatch, kept_until_asked):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    evaluation = run(params(), tmp_path / "run", caching=False, image=IMAGE)
    scores = json.loads((evaluation / "scores.json").read_text())
    assert {"cyclegan", "attentiongan", "mean_face"} <= set(scores)
    assert (evaluation / "report" / "report.html").stat().st_uid == 10001 or os.getuid() != 0
    client = MlflowClient(mlflow_server)
    versions = client.search_model_versions("name = 'bmask-unmasker'")
    assert len(versions) == 1
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["bmask.model"] for run in children} == {"cyclegan", "attentiongan"}
    assert {run.data.tags["git_sha"] for run in children} == {IMAGE.rpartition(":")[2]}
