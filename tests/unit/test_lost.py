"""Stores that lost files, were moved or copied: register restores what its results hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from PIL import Image

from bmask.errors import DataError
from bmask.files import read_json
from bmask.gan.generator_file import FILE
from bmask.tracking import registry
from bmask.tracking.location import PATHS, follow
from bmask.tracking.outputs import COMPLETE, EVALUATED, MODEL_ID, ensure_logged
from bmask.tracking.resolving import resolve
from bmask.tracking.runs import FINGERPRINT, find_run
from bmask.tracking.store import TrackingError, connect
from commands import bmask
from registering import CHANGES_LITTLE, NAME, REPAINTS, aliases, settings


@pytest.fixture
def registered(place):
    """Two trainings, f1 and f2; the second is the champion."""
    params = settings("a")
    place.run(params, a=(REPAINTS, "f1"))
    place.run(params, a=(CHANGES_LITTLE, "f2"))
    return place


def weights(place) -> bytes:
    return (place.folder / "train" / "a" / FILE).read_bytes()


def unmasks(monkeypatch, capsys) -> None:
    """Asserts that `bmask unmask` works with the champion."""
    Image.new("RGB", (30, 30), "grey").save("photo.png")
    code, _, err = bmask("unmask", "photo.png", "face.png", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, err
    assert Path("face.png").exists()


def remove_artifacts(client) -> None:
    shutil.rmtree("mlruns")


def delete_runs_for_good(client) -> None:
    for fingerprint in ("f1", "f2"):
        client.delete_run(find_run(fingerprint).info.run_id)
    collect(client)


def delete_runs_and_models_for_good(client) -> None:
    for fingerprint in ("f1", "f2"):
        client.delete_logged_model(find_run(fingerprint).data.tags[MODEL_ID])
    delete_runs_for_good(client)


def delete_model(client) -> None:
    client.delete_logged_model(find_run("f2").data.tags[MODEL_ID])


def remove_generator(client) -> None:
    resolve("champion").unlink()


def cut_generator(client) -> None:
    path = resolve("champion")
    path.write_bytes(path.read_bytes()[:-1])


def collect(client) -> None:
    uri = mlflow.get_tracking_uri()
    command = [Path(sys.executable).with_name("mlflow"), "gc", "--backend-store-uri", uri, "--tracking-uri", uri]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    "loss",
    [
        remove_artifacts,
        pytest.param(delete_runs_for_good, marks=pytest.mark.slow),
        pytest.param(delete_runs_and_models_for_good, marks=pytest.mark.slow),
        delete_model,
        remove_generator,
        cut_generator,
    ],
)
def test_what_is_gone_is_logged_again_and_the_champion_serves(loss, registered, monkeypatch, capsys):
    scores = find_run("f2").data.metrics
    loss(connect())
    decision = registered.register(settings("a"))
    assert decision["promoted"]
    assert decision["champion"] == decision["version"]
    client, run = connect(), find_run("f2")
    assert resolve("champion").read_bytes() == weights(registered)
    assert resolve(f"models:/{run.data.tags[MODEL_ID]}").read_bytes() == weights(registered)
    assert {"run.json", "losses.csv", "outputs.json"} <= {item.path for item in client.list_artifacts(run.info.run_id)}
    assert run.data.metrics == scores
    assert run.data.tags[EVALUATED] == decision["evaluation"]
    measured = {metric.key for metric in client.get_logged_model(run.data.tags[MODEL_ID]).metrics}
    assert "test/unmask_rate" in measured
    unmasks(monkeypatch, capsys)
    before = aliases()
    assert registered.register(settings("a")) == decision  # nothing is left to restore
    assert aliases() == before


def held(run, name: str) -> Path:
    return Path(connect().download_artifacts(run.info.run_id, name))


@pytest.mark.parametrize("lost", [(), ("outputs.json",), ("losses.csv",)], ids=" ".join)
def test_a_repeated_training_with_other_bits_is_logged_whole_and_not_beside_the_old_one(lost, registered):
    """A mixture of one training's files and another's model could never be undone."""
    for name in lost:
        (Path(find_run("f2").info.artifact_uri) / name).unlink()
    registered.train("a", CHANGES_LITTLE, "f2", seed=2)
    folder = registered.folder / "train" / "a"
    run = ensure_logged(folder)
    known = read_json(held(run, "outputs.json"))
    assert known[FILE]["sha256"] == hashlib.sha256(weights(registered)).hexdigest()
    assert resolve(f"models:/{run.data.tags[MODEL_ID]}").read_bytes() == weights(registered)
    assert EVALUATED not in run.data.tags  # the old training's scores
    assert ensure_logged(folder).data.tags == run.data.tags


def test_a_training_whose_generator_is_gone_is_named(registered):
    folder = registered.folder / "train" / "a"
    (folder / FILE).unlink()
    with pytest.raises(DataError, match=r"holds no generator\.safetensors; run `bmask train` again"):
        ensure_logged(folder)


def test_a_storage_that_fails_ends_with_a_sentence(place, monkeypatch):
    """The store itself answers; its files are in an object storage that does not."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    client = connect()
    experiment = client.create_experiment("far", artifact_location="s3://bucket/far")
    client.create_run(experiment, tags={FINGERPRINT: "f1", COMPLETE: "true"})
    place.train("a", REPAINTS, "f1")
    with pytest.raises(TrackingError, match=r"MLflow failed \(.*127\.0\.0\.1:9.*; check that its files can be reached"):
        ensure_logged(place.folder / "train" / "a")


def test_the_successor_has_the_place_of_the_version_whose_files_are_gone(registered, capsys):
    connect().delete_logged_model(find_run("f2").data.tags[MODEL_ID])
    registered.register(settings("a"))
    assert "the files of version 2 of bmask-unmasker are gone; version 3 takes its place" in capsys.readouterr().err
    assert aliases() == {3: ("champion",), 2: (), 1: ()}
    new, old, _ = registry.versions(connect(), NAME)
    shared = {key: value for key, value in old.tags.items() if key != registry.REPLACED}
    assert shared.items() <= new.tags.items()
    assert "gone, see 3" in registry.show()
    with pytest.raises(DataError, match="version 3 has taken its place"):
        registry.set_champion(2)
    registry.set_champion(1)
    assert "version 3 is the champion again" in registry.rollback()


def test_a_champion_whose_training_is_elsewhere_is_named_as_gone(registered, capsys):
    place = registered
    place.train("a", REPAINTS, "f3")
    place.evaluate(settings("a"))
    resolve("champion").unlink()
    place.register(settings("a"))
    told = capsys.readouterr().err
    assert "the files of version 2 of bmask-unmasker, champion, are gone" in told
    with pytest.raises(DataError, match=r"the files of models:/bmask-unmasker@champion cannot be read") as caught:
        resolve("champion")
    assert "there is no model" not in str(caught.value)


# Moved and copied stores.


@pytest.fixture
def checkout(registered, monkeypatch, tmp_path_factory):
    """The working folder with the default store in it, as after `bmask register`, and a path to move or copy it to."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(None)
    return registered.folder, tmp_path_factory.mktemp("elsewhere") / "checkout"


def enter(place, folder: Path, monkeypatch) -> None:
    """Works there as a new process would: MLflow forgets where artifacts were."""
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    _artifact_repos_cache.clear()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    place.folder = folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_renamed_checkout_serves_and_goes_on_as_before(registered, checkout, monkeypatch, capsys):
    old, new = checkout
    os.rename(old, new)
    enter(registered, new, monkeypatch)
    unmasks(monkeypatch, capsys)
    registered.register(settings("a"))
    assert aliases() == {2: ("champion",), 1: ()}
    registered.run(settings("a", promote="manual"), a=(REPAINTS, "f3"))
    assert resolve("challenger").is_relative_to(new)
    assert not old.exists()
    old.mkdir()  # for pytest


def test_a_copy_serves_from_itself_and_never_writes_into_the_original(registered, checkout, monkeypatch, capsys):
    old, new = checkout
    before = contents(old)
    shutil.copytree(old, new)
    enter(registered, new, monkeypatch)
    unmasks(monkeypatch, capsys)
    assert resolve("champion").is_relative_to(new)
    registered.run(settings("a", promote="manual"), a=(REPAINTS, "f3"))
    assert resolve("challenger").is_relative_to(new)
    assert contents(old) == before
    enter(registered, old, monkeypatch)
    assert resolve("champion").is_relative_to(old)


def test_a_copy_without_its_artifacts_logs_them_again_beside_itself(registered, checkout, monkeypatch, capsys):
    old, new = checkout
    before = contents(old)
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("mlruns"))
    enter(registered, new, monkeypatch)
    registered.register(settings("a"))
    assert resolve("champion").is_relative_to(new)
    unmasks(monkeypatch, capsys)
    assert contents(old) == before


def test_a_store_from_before_bmask_told_experiments_their_place_is_moved_too(registered, checkout, monkeypatch):
    from bmask.tracking.location import FOLDER

    old, new = checkout
    client = connect()
    experiment = client.get_experiment_by_name("bmask").experiment_id
    client.delete_experiment_tag(experiment, FOLDER)
    shutil.copytree(old, new)
    enter(registered, new, monkeypatch)
    assert resolve("champion").is_relative_to(new)
    assert connect().get_experiment_by_name("bmask").artifact_location == f"{new}/mlruns/bmask"


def places(file: Path) -> list[tuple]:
    """All paths that a database holds."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        return [row for table, column in PATHS for row in database.execute(f"SELECT {column} FROM {table}")]


def test_a_database_that_is_moved_alone_keeps_its_files_where_they_are(registered, checkout, monkeypatch, capsys):
    old, new = checkout
    before = places(old / "mlflow.db")
    new.mkdir()
    os.rename(old / "mlflow.db", new / "mlflow.db")
    (new / "mlruns/bmask").mkdir(parents=True)  # of another store
    enter(registered, new, monkeypatch)
    assert resolve("champion").is_relative_to(old)
    assert places(new / "mlflow.db") == before
    told = capsys.readouterr().err
    assert f"the files of its experiment bmask stay in {old}/mlruns/bmask" in told
    assert "its paths are updated" not in told
    os.rename(old / "mlruns/bmask", new / "mlruns/bmask")  # the files follow
    enter(registered, new, monkeypatch)
    assert resolve("champion").is_relative_to(new)


def test_experiments_of_others_are_left_alone(registered, checkout, monkeypatch):
    """They have no tag, and a folder of the same name beside the database need not be theirs."""
    old, new = checkout
    client = connect()
    for name in ("one", "two"):
        experiment = client.create_experiment(name, artifact_location=f"{old}/mlruns/{name}")
        client.log_text(client.create_run(experiment).info.run_id, "x", "x.txt")
    shutil.copytree(old, new, ignore=lambda folder, names: set(names) & {"two"})
    shutil.rmtree(new / "mlruns/one")
    (new / "mlruns/one").mkdir()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "one")
    enter(registered, new, monkeypatch)
    client = connect()
    found = {e.name: e.artifact_location for e in client.search_experiments()}
    assert {name: found[name] for name in ("bmask", "one", "two")} == {
        "bmask": f"{new}/mlruns/bmask",
        "one": f"{old}/mlruns/one",
        "two": f"{old}/mlruns/two",
    }


def test_a_moved_store_of_an_older_mlflow_is_told_how_to_upgrade(registered, checkout, monkeypatch):
    old, new = checkout
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '75868b020152'")
        database.execute("ALTER TABLE model_versions DROP COLUMN storage_location")
    shutil.copytree(old, new)
    enter(registered, new, monkeypatch)
    with pytest.raises(TrackingError, match="mlflow db upgrade"):
        connect()


def test_a_store_without_logged_models_is_moved_as_far_as_it_goes(registered, checkout, monkeypatch):
    old, new = checkout
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("DROP TABLE logged_models")
    shutil.copytree(old, new)
    follow(new / "mlflow.db")
    with contextlib.closing(sqlite3.connect(new / "mlflow.db")) as database:
        found = database.execute("SELECT artifact_uri FROM runs").fetchall()
    assert found
    assert all(Path(path).is_relative_to(new) for (path,) in found)
