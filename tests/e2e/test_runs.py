"""Which run a training gets, and which parent, on a real MLflow server and SQLite, with and without Kubeflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from bmask.tracking.outputs import ensure_logged
from bmask.tracking.runs import open_run, pipeline_run, settle_pipeline
from bmask.tracking.store import TrackingError, connect
from logged import assert_holds, pictures_in, rows_of, run_of, runs, train_here
from servers import serving
from tiny import tiny_params

pytestmark = pytest.mark.usefixtures("one_thread")

PIPELINE = "0a1b2c3d-1111-2222-3333-444455556666"
ABOUT = {"model": "unmasker", "fingerprint": "f1", "data_digest": "d", "params": {"schedule": {"lr": 0.001}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory, store_template) -> str:
    """The address of an `mlflow server` that also serves artifacts, for all tests here."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(store_template, folder / "mlflow.db")
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**kept, "PATH": programs, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command += ["--artifacts-destination", f"{folder}/artifacts"]
    with serving(command, "/health", folder, environment) as address:
        yield address


@pytest.fixture
def served_store(server, workplace, monkeypatch):
    """The client of the server, which is emptied after each test."""
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    mlflow.set_tracking_uri(server)
    client = MlflowClient()
    yield client
    while mlflow.active_run():
        mlflow.end_run()
    for model in client.search_logged_models([experiment.experiment_id for experiment in client.search_experiments()]):
        client.delete_logged_model(model.model_id)
    for run in runs(client):
        client.delete_run(run.info.run_id)
    mlflow.set_tracking_uri(before)


@pytest.fixture(params=["served_store", "store"])
def any_store(request) -> MlflowClient:
    return request.getfixturevalue(request.param)


@pytest.fixture
def in_pipeline(monkeypatch) -> None:
    monkeypatch.setenv("KFP_RUN_ID", PIPELINE)


def given_run(client: MlflowClient, monkeypatch, experiment: str = "kubeflow", **params: str) -> Run:
    """A run as Kubeflow's plugin opens it for a task, named by MLFLOW_RUN_ID."""
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    run = client.create_run(place, run_name="task", tags={"mlflow.parentRunId": "of-the-plugin"})
    for key, value in params.items():
        client.log_param(run.info.run_id, key, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    return run


def parents(client: MlflowClient, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    places = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(places, "tags.`bmask.kind` = 'pipeline'", run_view_type=view)


# A pipeline run's parent.


class InStep(MlflowClient):
    """A client that waits for its rival after its first search and after it has created a run."""

    def __init__(self, rivals: threading.Barrier):
        super().__init__()
        self.rivals, self.searched = rivals, False

    def search_runs(self, *args, **kwargs):
        found = super().search_runs(*args, **kwargs)
        if not self.searched:
            self.searched = True
            self.rivals.wait(60)
        return found

    def create_run(self, *args, **kwargs):
        run = super().create_run(*args, **kwargs)
        self.rivals.wait(60)
        return run


def test_two_that_find_no_parent_at_the_same_moment_end_with_one(any_store, in_pipeline):
    connect()
    before = len(parents(any_store, ViewType.ALL))
    rivals = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: pipeline_run(InStep(rivals)), range(2)))
    (parent,) = parents(any_store)
    assert [run.info.run_id for run in found] == [parent.info.run_id] * 2
    assert len(parents(any_store, ViewType.ALL)) == before + 2
    assert parent.info.run_name == "pipeline 0a1b2c3d"
    assert parent.data.tags["kfp_run_id"] == PIPELINE


TRAINING = """
import sys, time
from pathlib import Path
import mlflow, mlflow.data.meta_dataset
from bmask.tracking import runs, store
name = sys.argv[1]
Path(name).touch()
while not Path("go").exists():
    time.sleep(0.001)
store.connect()
runs.open_run({"model": name, "fingerprint": name, "data_digest": "d", "params": {"schedule": {"lr": 1}}}, adopt=True)
"""


@pytest.mark.slow
def test_trainings_in_two_processes_hang_under_one_parent(any_store, in_pipeline, workplace):
    models = ["attentiongan", "cyclegan"]
    children = [subprocess.Popen([sys.executable, "-c", TRAINING, model]) for model in models]
    end = time.monotonic() + 300
    while not all(Path(model).exists() for model in models):
        assert all(child.poll() is None for child in children)
        assert time.monotonic() < end
        time.sleep(0.01)
    Path("go").touch()
    assert [child.wait(300) for child in children] == [0, 0]
    connect()
    parent = settle_pipeline(any_store)  # as register does
    assert [run.info.run_id for run in parents(any_store)] == [parent.info.run_id]
    trained = [run for run in runs(any_store) if run.info.run_id != parent.info.run_id]
    assert sorted(run.info.run_name for run in trained) == models
    for run in trained:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["kfp_run_id"] == PIPELINE
        assert len(run.inputs.dataset_inputs) == 1


def test_parents_that_could_not_see_each_other_are_made_one(any_store, in_pipeline):
    connect()
    place = any_store.get_experiment_by_name("bmask").experiment_id
    tags = {"bmask.kind": "pipeline", "kfp_run_id": PIPELINE}
    later, first = (any_store.create_run(place, start_time=start, tags=tags).info.run_id for start in (2000, 1000))
    children = [any_store.create_run(place, tags={"mlflow.parentRunId": above}).info.run_id for above in (later, first)]
    other = any_store.create_run(place, tags={**tags, "kfp_run_id": "another-pipeline-run"})
    assert settle_pipeline(any_store).info.run_id == first
    assert {run.info.run_id for run in parents(any_store)} == {first, other.info.run_id}
    for child in children:
        assert any_store.get_run(child).data.tags["mlflow.parentRunId"] == first


def test_outside_of_kubeflow_and_under_its_plugin_no_parent_is_made(store, monkeypatch):
    connect()
    assert pipeline_run(store) is None
    assert "mlflow.parentRunId" not in open_run(ABOUT).data.tags
    monkeypatch.setenv("KFP_RUN_ID", PIPELINE)
    given_run(store, monkeypatch)
    assert pipeline_run(store) is None
    assert settle_pipeline(store) is None
    assert not parents(store)


def test_a_training_that_another_pipeline_run_began_stays_where_it_is(store, in_pipeline, monkeypatch):
    connect()
    run = open_run(ABOUT, adopt=True)
    monkeypatch.setenv("KFP_RUN_ID", "another-pipeline-run")
    assert open_run(ABOUT, adopt=True).data.tags == run.data.tags
    assert len(parents(store)) == 1


# A run that Kubeflow's plugin opened.


def test_a_given_run_becomes_the_trainings_and_keeps_its_place(served_store, in_pipeline, monkeypatch):
    given = given_run(served_store, monkeypatch, **{"schedule.lr": "0.001", "task": "train"})
    folder = train_here(tiny_params())
    run = run_of(served_store, folder)
    assert run.info.run_id == given.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == "of-the-plugin"
    assert run.data.tags["kfp_run_id"] == PIPELINE
    assert "bmask.training_run" not in run.data.tags
    assert_holds(served_store, run, rows_of(folder))
    assert pictures_in(served_store, run) == [("samples", 1), ("samples", 2)]
    assert len(runs(served_store)) == 1


def test_a_second_training_of_one_given_run_is_a_child_of_it(any_store, monkeypatch):
    given = given_run(any_store, monkeypatch)
    first, second = (run_of(any_store, train_here(tiny_params(lr=lr))) for lr in (1e-3, 2e-3))
    assert first.info.run_id == given.info.run_id
    assert second.data.tags["mlflow.parentRunId"] == given.info.run_id
    assert second.info.experiment_id == given.info.experiment_id
    assert second.data.params["schedule.lr"] == "0.002"
    assert any_store.get_run(given.info.run_id).data.tags["bmask.training_run"] == second.info.run_id
    assert len(runs(any_store)) == 2


def test_a_given_run_with_other_params_is_not_adopted(store, monkeypatch):
    given = given_run(store, monkeypatch, **{"schedule.lr": "9"})
    connect()
    run = open_run(ABOUT, adopt=True)
    assert run.data.tags["mlflow.parentRunId"] == given.info.run_id
    assert store.get_run(given.info.run_id).data.params == {"schedule.lr": "9"}


def test_a_training_known_under_another_run_goes_on_there_and_the_given_run_points_at_it(store, monkeypatch):
    folder = train_here(tiny_params())
    known = run_of(store, folder)
    given = given_run(store, monkeypatch)
    train_here(tiny_params())
    assert run_of(store, folder).info.run_id == known.info.run_id
    pointing = store.get_run(given.info.run_id)
    assert pointing.data.tags["bmask.training_run"] == known.info.run_id
    assert not pointing.data.params
    assert len(runs(store)) == 2


def test_a_task_that_does_not_train_adopts_no_run(new_store, monkeypatch):
    new_store("first")
    folder = train_here(tiny_params())
    store = new_store("second")
    given = given_run(store, monkeypatch)
    for _ in range(2):
        run = ensure_logged(folder)
        assert run.data.tags["mlflow.parentRunId"] == given.info.run_id
    assert "bmask.fingerprint" not in store.get_run(given.info.run_id).data.tags
    assert len(runs(store)) == 2


def test_a_given_run_that_the_store_does_not_know_is_named(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(TrackingError, match=r"does not know the run 0{32}; unset MLFLOW_RUN_ID"):
        connect()


def test_a_training_goes_on_in_the_experiment_where_it_began(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "one")
    folder = train_here(tiny_params())
    client, run = store, run_of(store, folder)
    client.delete_tag(run.info.run_id, "bmask.complete")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "two")
    assert ensure_logged(folder).info.run_id == run.info.run_id
    assert client.get_run(run.info.run_id).data.tags["bmask.complete"] == "true"


# A retried task.


def killed(command: list[str], moment) -> None:
    """Runs a child until `moment` is true and kills it then."""
    child = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not moment():
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(("plugin", "status"), [(False, "RUNNING"), (True, "KILLED")])
def test_a_retried_task_goes_on_with_its_run(plugin, status, served_store, in_pipeline, workplace, monkeypatch):
    given = given_run(served_store, monkeypatch) if plugin else None
    params = tiny_params(train={"checkpoint_every": 3}, epochs=9, constant_epochs=9)
    Path("params.yaml").write_text(yaml.safe_dump(json.loads(params.model_dump_json(by_alias=True))), encoding="utf-8")
    killed(
        ["-m", "bmask", "train", "unmasker"],
        lambda: list(workplace.glob("checkpoints/*/samples/epoch-0005.png")),
    )
    (run,) = [run for run in runs(served_store) if "bmask.fingerprint" in run.data.tags]
    assert run.info.status == "RUNNING"
    served_store.update_run(run.info.run_id, status)
    folder = train_here(params)
    assert run_of(served_store, folder).info.run_id == run.info.run_id
    run = served_store.get_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert len(rows_of(folder)) == 18
    assert_holds(served_store, run, rows_of(folder))
    assert pictures_in(served_store, run) == [("samples", epoch) for epoch in range(1, 10)]
    assert len(served_store.search_logged_models([run.info.experiment_id])) == 1
    if plugin:
        assert run.info.run_id == given.info.run_id
        assert len(runs(served_store)) == 1
    else:
        assert [parent.info.run_id for parent in parents(served_store)] == [run.data.tags["mlflow.parentRunId"]]
        assert len(runs(served_store)) == 2


SENDING = """
import json, os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from bmask.tracking.tracker import Tracker
send = MlflowClient.log_batch
def send_and_die(self, run_id, metrics=(), **others):
    send(self, run_id, metrics=metrics, **others)
    if metrics:
        os.kill(os.getpid(), signal.SIGKILL)
MlflowClient.log_batch = send_and_die
about, rows = json.loads(Path("about.json").read_text()), json.loads(Path("rows.json").read_text())
tracker = Tracker(about, Path("samples"), every=1e9)
tracker.started(0, 1, rows)
tracker._flush()
"""


def test_rows_are_there_once_and_whole_after_a_kill_between_two_requests(any_store, workplace):
    folder = train_here(tiny_params())
    about = json.loads((folder / "run.json").read_text()) | {"fingerprint": "another"}
    wide = [{"step": step, "total": step / 2, **{f"loss_{i}": step + i for i in range(299)}} for step in range(1, 8)]
    Path("about.json").write_text(json.dumps(about))
    Path("rows.json").write_text(json.dumps(wide))
    assert subprocess.run([sys.executable, "-c", SENDING]).returncode == -signal.SIGKILL
    (folder / "run.json").write_text(json.dumps(about))
    header = ",".join(wide[0])
    (folder / "losses.csv").write_text("\n".join([header, *(",".join(map(str, row.values())) for row in wide)]))
    run = ensure_logged(folder)
    assert any_store.get_run(run.info.run_id).data.metrics["total"] == 3.5
    assert_holds(any_store, run, [{key: row[key] for key in ("step", "total", "loss_0", "loss_298")} for row in wide])


def test_a_run_that_was_killed_before_it_said_what_it_is_says_it_later(store):
    connect()
    place = store.get_experiment_by_name("bmask").experiment_id
    begun = store.create_run(place, tags={"bmask.fingerprint": "f1"})
    run = open_run(ABOUT)
    assert run.info.run_id == begun.info.run_id
    assert run.data.params == {"schedule.lr": "0.001"}
    assert len(run.inputs.dataset_inputs) == 1
