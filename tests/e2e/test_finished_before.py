"""Finished trainings are taken back from MLflow, or from a checkpoint of the last epoch."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import mlflow
import pytest

from bmask.files import read_json, write_json
from bmask.gan.generator_file import FILE
from bmask.tracking.outputs import MODEL_ID, ensure_logged
from bmask.tracking.resolving import resolve
from logged import run_of, runs, train_here
from tiny import tiny_params, write_augment, write_dataset

pytestmark = pytest.mark.usefixtures("one_thread")
TAKEN = "unmasker: MLflow holds this training finished; its outputs are fetched from run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lose(folder: Path) -> None:
    """Deletes results and checkpoints, as in a new pod."""
    shutil.rmtree(folder)
    shutil.rmtree("checkpoints")


@pytest.mark.parametrize("private", [False, True])
def test_a_finished_training_comes_back_to_the_byte_and_nothing_is_trained(private, store, workplace, capsys):
    write_dataset(workplace / "results/ingest", private=private)
    folder = train_here(tiny_params())
    before, run = contents(folder), run_of(store, folder)
    assert any(name.startswith("samples/") for name in before) != private
    lose(folder)
    capsys.readouterr()
    assert train_here(tiny_params()) == folder
    assert contents(folder) == before
    assert (folder / "samples").is_dir()
    assert f"{TAKEN} {run.info.run_id}" in capsys.readouterr().err
    assert not Path("checkpoints").exists()
    assert len(runs(store)) == 1
    assert store.get_run(run.info.run_id).data.to_dictionary() == run.data.to_dictionary()


def test_on_a_cluster_the_run_of_the_task_points_at_it(store, monkeypatch):
    folder = train_here(tiny_params())
    run = run_of(store, folder)
    lose(folder)
    monkeypatch.setenv("KFP_RUN_ID", "another-pipeline-run")
    given = store.create_run(run.info.experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    train_here(tiny_params())
    assert store.get_run(given.info.run_id).data.tags["bmask.training_run"] == run.info.run_id
    assert not Path("checkpoints").exists()


def test_with_other_sample_settings_it_comes_back_as_it_was_trained(store):
    folder = train_here(tiny_params())
    before = contents(folder)
    lose(folder)
    train_here(tiny_params(train={"sample_every": 2}))
    assert not Path("checkpoints").exists()
    assert contents(folder) == before


def test_photos_that_became_private_come_back_without_samples(store, workplace):
    folder = train_here(tiny_params())
    lose(folder)
    write_dataset(workplace / "results/ingest", private=True)
    train_here(tiny_params())
    assert not Path("checkpoints").exists()
    assert not list((folder / "samples").iterdir())
    assert read_json(folder / "run.json")["private"] is True


def remove_losses(client, run) -> None:
    (Path(run.info.artifact_uri) / "losses.csv").unlink()


def change_losses(client, run) -> None:
    path = Path(run.info.artifact_uri) / "losses.csv"
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))


def change_generator(client, run) -> None:
    path = Path(mlflow.artifacts.download_artifacts(f"models:/{run.data.tags[MODEL_ID]}")) / "artifacts" / FILE
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def delete_model(client, run) -> None:
    client.delete_logged_model(run.data.tags[MODEL_ID])


def be_incomplete(client, run) -> None:
    client.delete_tag(run.info.run_id, "bmask.complete")


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (remove_losses, "some of its files are gone"),
        (change_losses, "losses.csv is damaged"),
        pytest.param(change_generator, "generator.safetensors is damaged", marks=pytest.mark.slow),
        pytest.param(delete_model, "some of its files are gone", marks=pytest.mark.slow),
        pytest.param(be_incomplete, "", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_not_whole_or_another_is_not_taken(trouble, why, store, capsys):
    folder = train_here(tiny_params())
    before = contents(folder)
    trouble(store, run_of(store, folder))
    lose(folder)
    capsys.readouterr()
    train_here(tiny_params())
    told = capsys.readouterr().err
    assert TAKEN not in told
    assert f"is trained again, since its outputs cannot be fetched from MLflow ({why})" in told or not why
    assert Path("checkpoints").exists()
    assert contents(folder)["losses.csv"] == before["losses.csv"]
    shutil.rmtree(folder)
    train_here(tiny_params())  # the outputs in MLflow are complete again
    assert TAKEN in capsys.readouterr().err
    assert contents(folder)["losses.csv"] == before["losses.csv"]


def test_where_only_the_test_photos_changed_it_comes_back_with_their_digest(store, capsys):
    folder = train_here(tiny_params())
    run = run_of(store, folder)
    summary = Path("results/ingest/summary.json")
    write_json(summary, read_json(summary) | {"digest": "other-photos"})
    lose(folder)
    train_here(tiny_params())
    told = capsys.readouterr().err
    assert f"{TAKEN} {run.info.run_id}\n" in told
    assert "it was computed fp32 on cpu in 1 process of 1 thread" in told
    assert not Path("checkpoints").exists()
    taken = contents(folder)
    ensure_logged(folder)
    logged = store.get_run(run.info.run_id)
    assert logged.data.tags["data_digest"] == "other-photos"
    assert Path(resolve(f"models:/{logged.data.tags[MODEL_ID]}")).read_bytes() == taken[FILE]
    trained = contents(train_again_alone(folder))
    assert trained[FILE] == taken[FILE]


def train_again_alone(folder: Path) -> Path:
    """Repeats the training after all runs in MLflow are deleted."""
    for run in runs(mlflow.MlflowClient()):
        mlflow.MlflowClient().delete_run(run.info.run_id)
    shutil.rmtree(folder)
    return train_here(tiny_params())


def test_a_place_that_cannot_be_written_is_no_fault_of_mlflow(store, workplace):
    folder = train_here(tiny_params())
    lose(folder)
    shutil.rmtree(folder.parent)
    folder.parent.write_text("a file")
    with pytest.raises(OSError, match="results/train"):
        train_here(tiny_params())
    assert not Path("checkpoints").exists()


def test_another_training_is_not_taken(store, workplace):
    lose(train_here(tiny_params()))
    train_here(tiny_params(lr=2e-3))
    assert Path("checkpoints").exists()
    write_augment(workplace / "results/augment", digest="other-copies")
    train_here(tiny_params())
    assert len(runs(store)) == 3


def test_a_checkpoint_at_its_last_epoch_gives_the_outputs_without_a_step(new_store, capsys):
    new_store("first")
    folder = train_here(tiny_params())
    before = contents(folder)
    (latest,) = Path("checkpoints").glob("*/latest.npz")
    written = latest.stat().st_mtime_ns
    shutil.rmtree(folder)
    new_store("second")
    train_here(tiny_params())
    told = capsys.readouterr().err
    assert "going on from epoch 2 of 2" in told
    assert TAKEN not in told
    assert latest.stat().st_mtime_ns == written
    assert {**contents(folder), "run.json": b""} == {**before, "run.json": b""}


def test_a_store_that_never_answers_is_asked_once_at_the_start_and_once_at_the_end(workplace, monkeypatch, capsys):
    before, asked = mlflow.get_tracking_uri(), []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            while True:
                try:
                    asked.append(silent.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        folder = train_here(tiny_params())
    assert (folder / FILE).exists()
    assert len(asked) == 2
    assert "unmasker is trained anyway and logged at the end" in capsys.readouterr().err
    mlflow.set_tracking_uri(before)
