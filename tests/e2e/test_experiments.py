"""DVC experiments and MLflow: a queued experiment runs in a temporary folder, but its runs stay in MLflow."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from bmask.tracking.location import working_folder
from workspace import ROOT, TINY, Workspace

QUEUED, CHANGE = "patient-heron", "models.cyclegan.schedule.lr=0.002"


def test_a_queued_experiment_works_for_the_repository_it_is_a_copy_of(tmp_path, monkeypatch):
    copied = tmp_path / "repository/.dvc/tmp/exps/tmpabc"
    for folder in (copied / ".dvc", copied / "sub/deep", tmp_path / "repository/sub"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    for place, meant in {copied: "", copied / "sub/deep": "sub/deep", tmp_path / "repository/sub": "sub"}.items():
        monkeypatch.chdir(place)
        assert working_folder() == tmp_path / "repository" / meant
    monkeypatch.chdir(tmp_path)
    assert working_folder() == tmp_path  # no repository at all
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.chdir(copied)
    assert working_folder() == copied


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one training and its champion, all committed."""
    work = Workspace(tmp_path_factory.mktemp("experiments"))
    shutil.copy(ROOT / ".gitignore", work.folder)
    params = copy.deepcopy(TINY)
    del params["models"]["attentiongan"]
    work.write(params)
    work.env |= {f"GIT_{role}_{key}": "t@t" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    work.run("dvc", "repro")
    work.run("git", "add", "--all")
    work.run("git", "commit", "-q", "-m", "base")
    return work


def client(work: Workspace) -> MlflowClient:
    return MlflowClient(f"sqlite:///{work.folder}/mlflow.db")


def run_of(work: Workspace, experiment: str) -> Run:
    (run,) = client(work).search_runs(["1"], f"tags.dvc_experiment = '{experiment}'")
    return run


@pytest.mark.slow
def test_a_queued_experiment_keeps_its_runs_under_its_name_and_leaves_the_champion(workspace: Workspace):
    workspace.run("dvc", "exp", "run", "--queue", "--name", QUEUED, "-S", CHANGE)
    workspace.run("dvc", "queue", "start")
    end = time.monotonic() + 300
    while "Success" not in (status := workspace.run("dvc", "queue", "status")):
        assert "Failed" not in status, workspace.run("dvc", "queue", "logs", QUEUED)
        assert time.monotonic() < end, status
        time.sleep(1)
    run = run_of(workspace, QUEUED)
    assert run.info.run_name == f"cyclegan ({QUEUED})"
    assert run.info.status == "FINISHED"
    assert Path(run.info.artifact_uri).is_relative_to(workspace.folder / "mlruns")
    assert {"losses.csv", "run.json"} <= {item.path for item in client(workspace).list_artifacts(run.info.run_id)}
    aliases = client(workspace).get_registered_model("bmask-unmasker").aliases
    assert int(aliases["champion"]) == 1
    assert client(workspace).get_model_version("bmask-unmasker", "2").run_id == run.info.run_id
    (workspace.folder / "photo.png").write_bytes((ROOT / "docs/before-after.png").read_bytes())
    workspace.run("bmask", "unmask", "photo.png", "face.png", "--model", "models:/bmask-unmasker/2")
