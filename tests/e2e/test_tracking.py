"""Trainings in MLflow, on real SQLite stores: what a run holds, nothing twice, and what happens without a store."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from mlflow import MlflowClient

from bmask.errors import DataError, ParamsError, TrainingError
from bmask.files import read_json, write_json
from bmask.gan.generator_file import FILE as GENERATOR
from bmask.gan.generator_file import load_generator
from bmask.recipe import DISCRIMINATORS, MASK_GENERATOR
from bmask.stages.train import dry_run
from bmask.tracking.outputs import ensure_logged
from bmask.tracking.runs import find_run, git_sha
from bmask.tracking.store import TrackingError, connect
from bmask.tracking.tracker import log_scores
from bmask.training import checkpoint
from logged import assert_holds, pictures_in, rows_of, run_of, runs, train_here
from servers import free_port
from tiny import LOAD, SIZE, tiny_params, write_augment, write_dataset

pytestmark = pytest.mark.usefixtures("one_thread")

CYCLEGAN = {"cyclegan": {"system": "cyclegan"}}


# What a run holds: many checks of one training.


@pytest.fixture(scope="module")
def trained(tmp_path_factory, store_template):
    """(client, folder of the training): `unmasker`, 3 epochs of 4 steps, trained in a git repository."""
    place, before = tmp_path_factory.mktemp("trained"), mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
            patch.delenv(name, raising=False)
        shutil.copy(store_template, place / "mlflow.db")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")
        commit(place)
        write_dataset(place / "results/ingest")
        write_augment(place / "results/augment")
        folder = place / train_here(tiny_params(epochs=3))
        mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
        yield MlflowClient(), folder
    mlflow.set_tracking_uri(before)


def commit(place: Path) -> None:
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (place / "file").write_text("tracked")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)


def test_a_training_is_one_finished_run_named_like_its_model(trained):
    client, folder = trained
    (run,) = runs(client)
    assert run.info.run_name == "unmasker"
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "bmask"
    assert run.info.run_id == run_of(client, folder).info.run_id


def test_a_run_has_every_param_of_its_training(trained):
    run = run_of(*trained)
    params = tiny_params(epochs=3)
    model = params.models["unmasker"]
    expected = {f"network.{key}": value for key, value in vars(model.network).items()}
    expected |= {f"schedule.{key}": value for key, value in model.schedule.model_dump().items()}
    expected |= {f"train.{key}": value for key, value in params.train.model_dump(exclude={"checkpoints"}).items()}
    assert {key: run.data.params[key] for key in expected} == {key: str(value) for key, value in expected.items()}


def test_a_run_says_which_code_and_which_data_it_comes_from(trained):
    client, folder = trained
    run = run_of(client, folder)
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert run.data.tags["git_sha"] == head.strip()
    assert run.data.tags["data_digest"] == "digest-of-the-split"
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.digest == "digest-of-the-split"
    assert {tag.key: tag.value for tag in given.tags}["mlflow.data.context"] == "training"


def test_a_run_says_which_revision_of_the_data_it_comes_from_where_there_is_one(store, workplace):
    assert "data_revision" not in run_of(store, train_here(tiny_params())).data.tags
    summary = workplace / "results/ingest/summary.json"
    write_json(summary, read_json(summary) | {"revision": "c0ffee"})
    assert run_of(store, train_here(tiny_params(lr=2e-3))).data.tags["data_revision"] == "c0ffee"


def test_a_run_holds_every_loss_at_its_step_once(trained):
    client, folder = trained
    rows = rows_of(folder)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    for name in ("total", "cycle_a", "agan_ab", "tv_ba", "d_a", "dguided_b", "attention_ab", "lr", "epoch"):
        assert name in rows[0]
    assert_holds(client, run_of(client, folder), rows)


def test_a_run_holds_metrics_of_the_system(trained):
    assert any(name.startswith("system/cpu") for name in run_of(*trained).data.metrics)


def test_a_run_shows_the_same_photos_through_time_under_one_key(trained):
    client, folder = trained
    assert pictures_in(client, run_of(client, folder)) == [("samples", 1), ("samples", 2), ("samples", 3)]


def test_a_run_holds_the_generator_as_a_model_with_signature_and_example(trained):
    client, folder = trained
    run = run_of(client, folder)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.name == "unmasker"
    assert model.source_run_id == run.info.run_id
    assert model.model_id == run.data.tags["bmask.model_id"]
    info = mlflow.models.get_model_info(f"models:/{model.model_id}")
    assert info.signature.inputs.input_names() == ["image"]
    assert info.signature.outputs.input_names() == ["image", "attention", "faces"]
    local = Path(mlflow.artifacts.download_artifacts(f"models:/{model.model_id}"))
    assert info.saved_input_example_info
    assert (local / info.saved_input_example_info["artifact_path"]).exists()
    assert not [path for path in local.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin")]
    assert (local / "artifacts" / GENERATOR).read_bytes() == (folder / GENERATOR).read_bytes()


def test_the_folder_of_a_training_explains_itself(trained):
    _, folder = trained
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    sheets = {f"samples/epoch-000{epoch}.png" for epoch in (1, 2, 3)}
    assert names == {GENERATOR, MASK_GENERATOR, DISCRIMINATORS, "losses.csv", "run.json", *sheets}
    about = json.loads((folder / "run.json").read_text())
    assert (about["model"], about["data_digest"], about["steps"]) == ("unmasker", "digest-of-the-split", 12)
    assert (about["device"], about["precision"]) == ("cpu", "fp32")
    assert about["params"]["schedule"]["epochs"] == 3
    for name, direction in [(GENERATOR, "masked to unmasked"), (MASK_GENERATOR, "unmasked to masked")]:
        generator, told = load_generator(folder / name)
        assert told["direction"] == direction
        assert told["image_size"] == SIZE
        assert told["fingerprint"] == about["fingerprint"]
        assert generator(torch.zeros(1, 3, SIZE, SIZE)).image.shape == (1, 3, SIZE, SIZE)


# Nothing is logged twice.


def snapshot(client: MlflowClient) -> dict:
    """Everything that a user sees in the store, without access times."""
    found = {}
    for run in runs(client):
        metrics = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        found[run.info.run_id] = (
            run.info.status,
            run.info.end_time,
            run.data.params,
            {key: value for key, value in run.data.tags.items() if key != "mlflow.log-model.history"},
            {name: [(m.step, m.value, m.timestamp) for m in history] for name, history in metrics.items()},
            sorted(item.path for item in client.list_artifacts(run.info.run_id, "images")),
            sorted(item.path for item in client.list_artifacts(run.info.run_id)),
            len(run.inputs.dataset_inputs),
        )
    models = client.search_logged_models([experiment.experiment_id for experiment in client.search_experiments()])
    return found | {"models": sorted(model.model_id for model in models)}


def test_logging_again_changes_nothing(store):
    folder = train_here(tiny_params())
    before = snapshot(store)
    for _ in range(2):
        ensure_logged(folder)
    assert snapshot(store) == before


def test_training_again_with_nothing_changed_changes_nothing_in_the_store(store):
    folder = train_here(tiny_params())
    before, weights = snapshot(store), (folder / GENERATOR).read_bytes()
    assert train_here(tiny_params()) == folder
    assert (folder / GENERATOR).read_bytes() == weights
    after = snapshot(store)
    for run_id, run in before.items():
        if run_id != "models":
            assert after[run_id][2:] == run[2:]
            assert after[run_id][0] == "FINISHED"
    assert after["models"] == before["models"]


KILLED = "epoch-0005.png"  # checkpoints come every third epoch, so pictures are ahead of them


def test_a_killed_training_that_goes_on_is_one_run_with_every_row_once(store, workplace):
    params = tiny_params(train={"checkpoint_every": 3}, epochs=9, constant_epochs=9)
    Path("params.yaml").write_text(yaml.safe_dump(json.loads(params.model_dump_json(by_alias=True))), encoding="utf-8")
    child = subprocess.Popen([sys.executable, "-m", "bmask", "train", "unmasker"], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not list(workplace.glob(f"checkpoints/*/samples/{KILLED}")):
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    (run,) = runs(store)
    assert len(store.get_metric_history(run.info.run_id, "total")) >= 8  # 4 epochs: more than the checkpoint has
    folder = train_here(params)
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert len(rows_of(folder)) == 18
    assert_holds(store, run, rows_of(folder))
    assert pictures_in(store, run) == [("samples", epoch) for epoch in range(1, 10)]
    assert len(store.search_logged_models([run.info.experiment_id])) == 1


def test_a_longer_training_is_a_run_of_its_own_with_all_its_rows_and_pictures(store):
    train_here(tiny_params(epochs=3, constant_epochs=2))
    folder = train_here(tiny_params(epochs=5, constant_epochs=2))
    assert len(runs(store)) == 2
    run = run_of(store, folder)
    assert_holds(store, run, rows_of(folder))
    assert [int(row["step"]) for row in rows_of(folder)] == list(range(2, 21, 2))
    sheets = [int(path.stem[-4:]) for path in sorted((folder / "samples").iterdir())]
    assert sheets == [1, 2, 3, 4, 5]
    assert pictures_in(store, run) == [("samples", epoch) for epoch in sheets]


# Logged again from the outputs alone, as in a clone that got them from the DVC cache.


def test_outputs_logged_into_a_fresh_store_give_the_same_run(new_store):
    first = new_store("first")
    folder = train_here(tiny_params())
    one = run_of(first, folder)
    shutil.rmtree("checkpoints")
    second = new_store("second")
    assert not runs(second)
    run = ensure_logged(folder)
    other = second.get_run(run.info.run_id)
    assert run.info.run_id != one.info.run_id
    assert run.data.tags["bmask.complete"] == "true"
    assert other.info.status == "FINISHED"
    assert other.info.run_name == one.info.run_name
    assert other.data.params == one.data.params
    kept = ("bmask.fingerprint", "bmask.model", "data_digest", "bmask.complete", "bmask.samples_epochs")
    assert {key: other.data.tags[key] for key in kept} == {key: one.data.tags[key] for key in kept}
    assert_holds(second, other, rows_of(folder))
    assert pictures_in(second, other) == [("samples", 1), ("samples", 2)]
    assert [given.dataset.digest for given in other.inputs.dataset_inputs] == ["digest-of-the-split"]
    (model,) = second.search_logged_models([other.info.experiment_id])
    assert model.source_run_id == run.info.run_id
    before = snapshot(second)
    assert ensure_logged(folder).info.run_id == run.info.run_id
    assert snapshot(second) == before


def test_two_models_are_two_runs_side_by_side(store):
    params = tiny_params({**CYCLEGAN, "unmasker": {"system": "attentiongan", "scheme": 1}})
    folders = [train_here(params, model) for model in ("cyclegan", "unmasker")]
    found = [run_of(store, folder) for folder in folders]
    assert len(runs(store)) == 2
    assert len({run.info.experiment_id for run in found}) == 1
    assert [run.data.params["network.system"] for run in found] == ["cyclegan", "attentiongan"]
    assert "cycle_a" in found[0].data.metrics
    assert "attention_ab" in found[1].data.metrics
    assert "attention_ab" not in found[0].data.metrics


def test_a_run_that_the_cluster_opened_is_used(store, monkeypatch):
    connect()
    given = store.create_run(store.get_experiment_by_name("bmask").experiment_id, run_name="task")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    folder = train_here(tiny_params())
    (run,) = runs(store)
    assert run.info.run_id == given.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params["schedule.lr"] == "0.001"
    assert_holds(store, run, rows_of(folder))


# Trainings that go wrong.


def test_a_training_that_explodes_is_a_failed_run_with_the_reason(store):
    with pytest.raises(TrainingError, match=r"models\.unmasker: .*NaN or infinite.*lower schedule\.lr"):
        train_here(tiny_params(lr=1e30))
    (run,) = runs(store)
    assert run.info.status == "FAILED"
    assert "NaN or infinite" in run.data.tags["bmask.failure"]
    assert mlflow.active_run() is None
    assert not Path("results/train/unmasker").exists()


def test_a_model_that_is_not_in_the_params_and_photos_that_do_not_fit_are_refused(store, workplace):
    with pytest.raises(ParamsError, match=r"models\.nobody is not in the params; there are unmasker"):
        train_here(tiny_params(), "nobody")
    write_augment(workplace / "results/augment", load_size=SIZE - 4)
    with pytest.raises(DataError, match=r"models\.unmasker: domain a has 12 photos of 12 px; crops are 16 px"):
        train_here(tiny_params())
    shutil.rmtree(workplace / "results/augment")
    with pytest.raises(DataError, match=r"masked_train\.npy does not exist; run the stage that writes augment"):
        train_here(tiny_params())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_with_a_sentence(workplace):
    for action in (
        train_here,
        lambda params: dry_run(params, "unmasker", "results/ingest", "results/augment", "results/masks"),
    ):
        with pytest.raises((ParamsError, DataError), match=r"train\.device.*cuda"):
            action(tiny_params(train={"device": "cuda"}))


def test_a_training_that_goes_on_says_from_where(store, capsys):
    train_here(tiny_params(epochs=3, constant_epochs=2))
    capsys.readouterr()
    train_here(tiny_params(epochs=4, constant_epochs=2))
    assert "going on from epoch 2 of 4 in checkpoints/unmasker-" in capsys.readouterr().err


def test_a_training_that_went_on_says_what_it_took_in_all(store, workplace):
    train_here(tiny_params(epochs=3, constant_epochs=2))
    for path in workplace.glob("checkpoints/unmasker-*/*.npz"):
        checkpoint.write(path, checkpoint.read(path) | {"seconds": 1e6})
    folder = train_here(tiny_params(epochs=4, constant_epochs=2))
    assert json.loads((folder / "run.json").read_text())["seconds"] > 1e6


# Warm start.


def test_a_warm_start_begins_from_a_generator_file_and_is_another_training(store, capsys):
    shutil.move(train_here(tiny_params()), "teacher")
    still = {"warm_start": "teacher", "lr": 1e-12, "epochs": 1, "constant_epochs": 1}
    folder = train_here(tiny_params(train={"ema": 0.0, "seed": 9}, **still))
    assert f"warm start ab from teacher/{GENERATOR}" in capsys.readouterr().err
    for name in (GENERATOR, MASK_GENERATOR):
        teacher, pupil = (load_generator(Path(place) / name)[0].state_dict() for place in ("teacher", folder))
        for key, value in teacher.items():
            torch.testing.assert_close(pupil[key], value, rtol=0, atol=1e-9)
    assert len(runs(store)) == 2
    assert run_of(store, folder).data.params["schedule.warm_start"] == "teacher"


def test_a_warm_start_from_another_network_or_from_nothing_is_refused(store):
    shutil.move(train_here(tiny_params(CYCLEGAN), "cyclegan"), "teacher")
    with pytest.raises(ParamsError, match=r"teacher.* is another network: .*system was 'cyclegan', is 'attentiongan'"):
        train_here(tiny_params(warm_start="teacher"))
    with pytest.raises(DataError, match="there is no model nowhere"):
        train_here(tiny_params(warm_start="nowhere"))
    assert len(runs(store)) == 1


# Private photos.


def test_no_picture_of_a_private_split_is_written_or_logged(store, workplace):
    write_dataset(workplace / "results/ingest", private=True)
    folder = train_here(tiny_params())
    run = run_of(store, folder)
    assert pictures_in(store, run) == []
    assert_holds(store, run, rows_of(folder))
    assert not [path for path in workplace.rglob("*") if path.suffix in (".png", ".jpg", ".webp") and path.is_file()]


def test_a_split_that_became_private_shows_no_picture_from_before(store, workplace):
    train_here(tiny_params(epochs=2, constant_epochs=1))
    write_dataset(workplace / "results/ingest", private=True)
    for epochs in (2, 3):  # already finished; continued from before the decay
        folder = train_here(tiny_params(epochs=epochs, constant_epochs=1))
        assert not list((folder / "samples").iterdir())
    assert pictures_in(store, run_of(store, folder)) == []


# Without a store.


@pytest.fixture
def no_store(workplace, monkeypatch):
    """An address where nothing listens, with a password in it."""
    port = free_port()
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:s3cret@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    yield port
    mlflow.set_tracking_uri(before)


def test_a_store_that_is_down_stops_no_training_and_is_told(no_store, new_store, capfd):
    folder = train_here(tiny_params())
    told = capfd.readouterr()
    assert "MLflow" in told.err
    assert "bmask log" in told.err
    assert "s3cret" not in told.err + told.out
    assert (folder / GENERATOR).exists()
    client = new_store("back")  # the store is back, and everything can still be logged
    run = ensure_logged(folder)
    assert_holds(client, run, rows_of(folder))
    assert pictures_in(client, run) == [("samples", 1), ("samples", 2)]


def test_a_store_that_is_down_is_named_without_its_password(no_store):
    with pytest.raises(TrackingError) as caught:
        connect()
    message = str(caught.value)
    assert f"127.0.0.1:{no_store}" in message
    assert "does not answer" in message
    assert "s3cret" not in message
    assert "\n" not in message


def test_a_store_that_fails_for_a_while_is_caught_up_with(store, workplace, capsys):
    from bmask.tracking.tracker import Tracker

    folder = train_here(tiny_params())
    about = json.loads((folder / "run.json").read_text()) | {"fingerprint": "another"}
    rows = rows_of(folder)
    tracker = Tracker(about, workplace / "samples", every=0.0)
    tracker.started(0, 4, [])
    tracker.losses(rows[0])
    run_id = tracker.run_id
    store.delete_run(run_id)  # the store now refuses what is sent
    for row in rows[1:]:
        tracker.losses(row)
    assert capsys.readouterr().err.count("MLflow failed") == 1
    tracker.finish(folder, threshold=0.1)
    store.restore_run(run_id)
    (folder / "run.json").write_text(json.dumps(about))
    run = ensure_logged(folder)
    assert run.info.run_id == run_id
    assert_holds(store, run, rows)
    assert mlflow.active_run() is None


# The rest.


def test_scores_are_tied_to_the_run_the_model_and_the_data(store):
    run = ensure_logged(train_here(tiny_params()))
    model_id = run.data.tags["bmask.model_id"]
    log_scores(run.info.run_id, model_id, {"unmask_rate": 0.75}, ("photos", "digest-of-the-split"))
    assert store.get_run(run.info.run_id).data.metrics["unmask_rate"] == 0.75
    (metric,) = [metric for metric in store.get_logged_model(model_id).metrics if metric.key == "unmask_rate"]
    assert (metric.value, metric.dataset_name, metric.dataset_digest) == (0.75, "photos", "digest-of-the-split")


def test_without_a_named_store_runs_go_to_a_file_in_the_working_folder(store_template, workplace, new_store):
    shutil.copy(store_template, "mlflow.db")
    connect()
    assert mlflow.get_tracking_uri() == f"sqlite:///{workplace}/mlflow.db"
    assert find_run("nobody") is None


def test_a_pod_without_a_named_store_is_told_so(workplace, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI is not set"):
        connect()
    assert not (workplace / "mlflow.db").exists()


def test_the_commit_is_told_with_changes_and_outside_of_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("BMASK_GIT_SHA", raising=False)
    assert git_sha() == "unknown"
    monkeypatch.setenv("BMASK_GIT_SHA", "of-the-image")
    assert git_sha() == "of-the-image"
    commit(tmp_path)
    clean = git_sha()
    assert len(clean) == 40
    (tmp_path / "untracked").write_text("x")
    assert git_sha() == clean
    (tmp_path / "file").write_text("changed")
    assert git_sha() == f"{clean}-dirty"


def test_a_dry_run_says_how_long_and_leaves_nothing(workplace):
    before = sorted(path for path in workplace.rglob("*"))
    told = dry_run(
        tiny_params(epochs=10), "unmasker", Path("results/ingest"), Path("results/augment"), Path("results/masks")
    )
    assert "unmasker: attentiongan, fp32 on cpu in 1 process of 1 thread; 10 epochs of 4 steps with batch 3" in told
    assert "minutes in all" in told
    assert "GB" in told
    assert sorted(path for path in workplace.rglob("*")) == before


def test_a_dry_run_for_several_processes_measures_the_share_of_one(workplace):
    params = tiny_params(epochs=10, batch_size=4, train={"processes": 2})
    told = dry_run(params, "unmasker", Path("results/ingest"), Path("results/augment"), Path("results/masks"))
    assert "fp32 on cpu in 2 processes of 1 thread; 10 epochs of 3 steps with batch 4" in told
    assert "(measured with one process alone and its share of 2)" in told
    odd = tiny_params(batch_size=3, train={"processes": 2})
    with pytest.raises(DataError, match=r"models\.unmasker: schedule\.batch_size 3 cannot be shared by 2 processes"):
        dry_run(odd, "unmasker", Path("results/ingest"), Path("results/augment"), Path("results/masks"))


def test_a_dry_run_says_what_auto_took_and_why(workplace):
    params = tiny_params(batch_size=1, train={"processes": "auto", "threads": "auto", "precision": "auto"})
    told = dry_run(params, "unmasker", Path("results/ingest"), Path("results/augment"), Path("results/masks"))
    assert re.search(
        r"attentiongan, (bf16|fp32) on cpu in 1 process of \d+ threads? \(\1 since this .*processor has .*,"
        r" one process since there (is 1 core|are \d+ cores) for 1 photo at a time\)",
        told,
    )


def test_the_fixtures_have_the_shape_that_the_stages_write(dataset_folder):
    from bmask.data.split.dataset import Dataset

    dataset = Dataset.open(dataset_folder)
    assert dataset.photos("masked", "train").shape[1:] == (LOAD, LOAD, 3)
    assert len(dataset.names("unmasked", "test")) == len(dataset.photos("unmasked", "test"))
