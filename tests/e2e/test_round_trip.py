"""Photos by version, artifacts in object storage: DVC, S3, an MLflow server and the Kubeflow pipeline, all real."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from repository import Repository
from s3 import Server
from servers import serving
from workspace import TINY, Workspace


@pytest.fixture
def mlflow_server(s3: Server, tmp_path: Path) -> Iterator[str]:
    """Keeps runs in SQLite and artifacts in the bucket, and serves both, as in deploy/."""
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--serve-artifacts", "--artifacts-destination", "s3://photos/mlflow", "--workers", "1"]
    here = {**os.environ, "MLFLOW_S3_ENDPOINT_URL": s3.endpoint, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with serving(command, "/health", folder, here) as address:
        yield address


def drawn(workspace: Workspace, repository: Repository) -> None:
    faces = TINY["ingest"]["drawn"]
    counts = ["--masked", str(faces["masked"]), "--unmasked", str(faces["unmasked"]), "--size", str(faces["size"])]
    workspace.run("bmask", "draw", str(repository.folder / "photos"), *counts)


@pytest.mark.slow
def test_a_revision_in_s3_becomes_a_champion_in_s3(s3: Server, mlflow_server: str, tmp_path: Path):
    params = copy.deepcopy(TINY)
    del params["models"]["cyclegan"]
    (tmp_path / "elsewhere").mkdir()
    workspace = Workspace(tmp_path / "elsewhere")
    workspace.write(params)

    photos = Repository(tmp_path / "photos")
    drawn(workspace, photos)
    photos.run("dvc", "init", "-q")
    photos.run("dvc", "remote", "add", "-d", "store", "s3://photos/dvc")
    photos.run("dvc", "remote", "modify", "store", "endpointurl", s3.endpoint)
    photos.run("dvc", "add", "-q", "photos")
    commit = photos.commit()
    photos.run("git", "tag", "v1")
    photos.run("dvc", "push", "-q")
    photos.run("rm", "-rf", "photos", ".dvc/cache")  # from here on, photos come from the bucket

    given = {"MLFLOW_TRACKING_URI": mlflow_server, **s3.environment()}
    settings = {"ingest.repository": str(photos.folder), "ingest.revision": "v1", "ingest.source": "photos"}
    settings["train.checkpoints"] = "s3://photos/checkpoints"
    changes = [part for item in settings.items() for part in ("--set", "=".join(item))]
    workspace.run("bmask", "pipeline", "run", "--folder", "out", *changes, env=given)

    (summary,) = workspace.folder.glob("out/*/ingest/dataset/summary.json")
    assert json.loads(summary.read_text())["revision"] == commit
    stored = s3.names("photos")
    assert [name for name in stored if name.startswith("mlflow/") and name.endswith("generator.safetensors")]
    assert [name for name in stored if name.startswith("checkpoints/") and name.endswith("latest.npz")]
    client = MlflowClient(mlflow_server)
    (version,) = client.search_model_versions("name = 'bmask-unmasker'")
    trained = client.get_run(version.run_id)
    assert trained.data.tags["data_revision"] == commit
    assert "mlflow.parentRunId" in trained.data.tags

    empty = tmp_path / "somewhere"
    empty.mkdir()
    workspace.run("bmask", "draw", str(empty / "faces"), "--masked", "2", "--unmasked", "1", "--size", "48")
    workspace.folder = empty  # knows only the addresses of MLflow and of the storage behind it
    workspace.run("bmask", "unmask", "faces/masked", "out", env={"MLFLOW_TRACKING_URI": mlflow_server})
    assert len(list((empty / "out").glob("*.png"))) == 2
