"""The pipeline at a small scale, as a user runs it: `dvc repro` on drawn faces, then again, then with one change."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from workspace import TINY, Workspace


def ran(output: str) -> set[str]:
    """The stages that DVC ran or found in its run cache."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("pipeline"))
    made.first = made.run("dvc", "repro")
    return made


def test_one_command_leads_from_photos_to_a_champion(workspace: Workspace):
    stages = {"ingest", "augment", "masks", *(f"train@{model}" for model in TINY["models"]), "judge", "evaluate"}
    assert ran(workspace.first) == stages | {"register"} | {"report_ingest", "report_evaluate"}
    metrics = workspace.json("results/evaluate/scores.json")
    assert {*TINY["models"], "identity", "mean_face", "telea"} <= set(metrics)
    decision = workspace.json("results/register/decision.json")
    assert decision["promoted"]
    assert decision["champion"] == 1
    assert "cyclegan" in workspace.run("dvc", "metrics", "show")
    assert "champion" in workspace.run("bmask", "champion")


def test_kubeflow_gives_the_same_bits_and_the_same_leaderboard(workspace: Workspace, tmp_path: Path):
    """Kubeflow's pipeline has its own checkpoints and store, so it reuses nothing."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    command = ["bmask", "pipeline", "run", "--folder", str(tmp_path / "run")]
    command += ["--set", f"train.checkpoints={tmp_path}/checkpoints"]
    workspace.run(*command, env={"MLFLOW_TRACKING_URI": store})
    (evaluation,) = tmp_path.glob("run/*/evaluate/evaluation")
    ours, theirs = workspace.folder / "results", evaluation
    for name in ("scores.json", "leaderboard.csv", "scores.csv", "pictures.npz"):
        assert (theirs / name).read_bytes() == (ours / "evaluate" / name).read_bytes(), name
    trained = {json.loads((p / "run.json").read_text())["model"]: p for p in tmp_path.glob("run/*/*/train/trained")}
    assert set(trained) == set(TINY["models"])
    for model, folder in trained.items():
        for name in {path.name for path in folder.glob("*.safetensors")} | {"losses.csv"}:
            assert (folder / name).read_bytes() == (ours / "train" / model / name).read_bytes(), (model, name)
    runs = MlflowClient(store).search_runs(["1"])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs} == {None, parent.info.run_id}
    assert len({run.data.tags["kfp_run_id"] for run in runs}) == 1
    assert len(runs) == len(trained) + 1

    before = set(tmp_path.glob("run/unmask-*"))
    workspace.run(*command, env={"MLFLOW_TRACKING_URI": store})
    (again,) = set(tmp_path.glob("run/unmask-*")) - before
    assert [task.name for task in again.iterdir()] == ["register"]  # the others came from the cache


def test_experiments_are_compared_in_a_table_that_can_be_read_and_in_plots_of_the_losses(workspace: Workspace):
    workspace.run("git", "add", "--all")
    workspace.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "first")
    table = workspace.run("dvc", "exp", "show", "--csv", "--sha")
    header, first = list(csv.reader(table.splitlines()))[:2]
    columns = [name for name in header if name.partition(".")[0] in TINY["models"]]
    assert "cyclegan.residue_rate" in columns and 2 * 5 <= len(columns) <= 25
    assert not [name for name in header if name.endswith(("_low", "_high"))]
    assert all(first[header.index(name)] for name in columns)
    for command in ("show", "diff"):
        plots = json.loads(workspace.run("dvc", "plots", command, "--json"))
        assert not plots.get("errors")
        for model in TINY["models"]:
            (drawn,) = plots["data"][f"results/report/evaluate/losses/{model}/total.csv"]
            rows = list(csv.DictReader((workspace.folder / f"results/train/{model}/losses.csv").open()))
            points = [point for point in drawn["content"]["data"]["values"] if point["rev"] == "workspace"]
            assert [int(point["step"]) for point in points] == [int(row["step"]) for row in rows]


def test_with_nothing_changed_only_register_runs_and_registers_nothing(workspace: Workspace):
    before = workspace.json("results/register/decision.json")
    assert ran(workspace.run("dvc", "repro")) == {"register"}
    assert workspace.json("results/register/decision.json") == before


def test_the_champion_unmasks_a_folder_from_the_command_line(workspace: Workspace):
    workspace.run("bmask", "draw", "faces", "--masked", "2", "--unmasked", "1", "--size", "48")
    workspace.run("bmask", "unmask", "faces/masked", "out", "--attention")
    assert len(list((workspace.folder / "out").glob("*.png"))) == 4


def test_changing_one_weight_trains_that_model_alone(workspace: Workspace):
    changed = json.loads(json.dumps(TINY))
    changed["models"]["attentiongan"]["network"]["w_cycle"] = 9.0
    workspace.write(changed)
    cyclegan = (workspace.folder / "results/train/cyclegan/generator.safetensors").read_bytes()
    assert ran(workspace.run("dvc", "repro")) == {"train@attentiongan", "evaluate", "report_evaluate", "register"}
    assert (workspace.folder / "results/train/cyclegan/generator.safetensors").read_bytes() == cyclegan


@pytest.mark.slow
def test_trainings_that_are_gone_from_the_disk_come_back_from_mlflow_to_the_byte(workspace: Workspace):
    trained, lock = workspace.folder / "results/train", (workspace.folder / "dvc.lock").read_bytes()

    def contents() -> dict[Path, bytes]:
        return {path.relative_to(trained): path.read_bytes() for path in trained.glob("*/**/*") if path.is_file()}

    before = contents()
    shutil.rmtree(trained)
    shutil.rmtree(workspace.folder / "checkpoints")
    workspace.run("dvc", "repro", "--force", "--single-item", *(f"train@{model}" for model in TINY["models"]))
    assert contents() == before
    assert (workspace.folder / "dvc.lock").read_bytes() == lock
    assert not (workspace.folder / "checkpoints").exists()  # nothing was trained


@pytest.mark.slow
def test_a_clone_whose_outputs_came_from_the_cache_logs_them_again(workspace: Workspace):
    for name in ("mlflow.db", "mlruns", "mlartifacts", "checkpoints"):
        path = workspace.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(workspace.folder / "results")
    assert ran(workspace.run("dvc", "repro")) <= {"register"}
    assert "attentiongan" in workspace.run("bmask", "log")
    assert workspace.json("results/register/decision.json")["champion"] == 1
