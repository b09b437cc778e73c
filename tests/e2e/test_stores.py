"""With an unusable store, commands end with one sentence and the remedy, and trainings go on."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from bmask.gan.generator_file import FILE
from commands import bmask
from logged import runs
from tiny import tiny_params

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(workplace, monkeypatch, capsys) -> Iterator:
    """Runs `bmask ARGUMENTS` in a folder with photos and params, but no store."""
    before, params = mlflow.get_tracking_uri(), tiny_params(epochs=1, constant_epochs=1)
    Path("params.yaml").write_text(yaml.safe_dump(json.loads(params.model_dump_json(by_alias=True))), encoding="utf-8")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield lambda *arguments: bmask(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    mlflow.set_tracking_uri(before)


def sentence(told: tuple[int, str, str]) -> str:
    """The only line of a command that ended with the exit code of an unusable store."""
    code, out, err = told
    assert code == 5, (out, err)
    assert "Traceback" not in out + err
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("bmask: ")
    return line


def older(template: Path, path: str) -> str:
    """The address of a store of an older MLflow: its tables are marked with another revision."""
    shutil.copy(template, path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '75868b020152'")
    return f"sqlite:///{path}"


ADDRESSES = {
    "./mlruns": "`mlflow migrate-filestore`",
    "localhost:5000": "write MLFLOW_TRACKING_URI like http://host:5000",
    "sqlite://mlflow.db": "write MLFLOW_TRACKING_URI like http://host:5000, sqlite:///mlflow.db",
    "postgresql+psycopg2://me:s3cret@db/mlflow": "needs a database driver that is not installed (psycopg2)",
    "older": "`mlflow db upgrade sqlite:///",
}


@pytest.mark.parametrize("command", [["champion"], ["champion", "set", "1"], ["log", "unmasker"]], ids=" ".join)
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_cannot_be_used_ends_with_5_and_the_remedy(
    address, command, run, store_template, monkeypatch, workplace
):
    uri = older(store_template, f"{workplace}/older.db") if address == "older" else address
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (workplace / "results/train/unmasker").mkdir(parents=True)
    (workplace / "results/train/unmasker/run.json").write_text("{}")
    told = sentence(run(*command))
    assert ADDRESSES[address] in told
    assert "s3cret" not in told


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_photo_cannot_be_unmasked_from_there_and_a_training_goes_on_without(
    address, run, store_template, monkeypatch, workplace
):
    uri = older(store_template, f"{workplace}/older.db") if address == "older" else address
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert ADDRESSES[address] in sentence(run("unmask", "a.png", "b.png"))
    code, _, err = run("train", "unmasker")
    assert code == 0
    assert ADDRESSES[address] in err
    assert "`bmask log` will log the training later" in err
    assert "MLflow failed" not in err  # the sentence is enough
    assert "Traceback" not in err
    assert "s3cret" not in err
    assert (workplace / "results/train/unmasker" / FILE).exists()


@pytest.mark.parametrize(
    "password", ["pa#ss", "pa/ss", "pa?ss", "pa@ss", "pa[ss", "pa@s/s", "pa ss", "p%23ss", "plain"]
)
@pytest.mark.parametrize("address", ["postgresql://u:{}@host/db", "http://u:{}@host:port"])
def test_no_form_of_a_password_is_told(address, password, store):
    from bmask.tracking.store import without_password

    mlflow.set_tracking_uri(address.format(password))
    for form in (password, quote(password), quote(password, safe=""), unquote(password)):
        assert form not in without_password(f"cannot open {address.format(form)} as u")
    assert "s" not in without_password(address.format(password)).split("@")[0].removeprefix("postgresql")
    assert without_password("host") == "host"


def test_a_password_with_a_bracket_ends_with_a_sentence_too(run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2://me:s3[cret@db/mlflow")
    assert "s3[cret" not in sentence(run("champion"))


# Servers that answer wrongly.


@contextlib.contextmanager
def answering(status: int, body: bytes, kind: str) -> Iterator[str]:
    """The address of an HTTP server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_): ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://someone:s3cret@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "kind", "remedy"),
    [
        (401, b"You are not authenticated.", "text/plain", "check MLFLOW_TRACKING_USERNAME"),
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "text/plain", "--allowed-hosts"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "application/json", "check MLFLOW_TRACKING_"),
        (200, b"<html>Log in to your account</html>", "text/html", "check the login"),
        (404, b"<html>no such page</html>", "text/html", "the address in MLFLOW_TRACKING_URI"),
    ],
)
def test_a_server_that_refuses_or_is_another_is_not_told_to_be_started(status, body, kind, remedy, run, monkeypatch):
    with answering(status, body, kind) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for command in (["champion"], ["unmask", "a.png", "b.png"]):
            told = sentence(run(*command))
            assert remedy in told
            assert "start it" not in told
            assert "s3cret" not in told


def test_a_deleted_experiment_is_named_with_two_ways_out(store, run, monkeypatch):
    from bmask.tracking.store import connect

    connect()
    experiment = store.get_experiment_by_name("bmask").experiment_id
    store.delete_experiment(experiment)
    Path("results/train/unmasker").mkdir(parents=True)
    Path("results/train/unmasker/run.json").write_text("{}")
    told = sentence(run("log", "unmasker"))
    assert "the experiment bmask" in told
    assert f"`mlflow experiments restore --experiment-id {experiment}`" in told
    assert "MLFLOW_EXPERIMENT_NAME" in told
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    connect()
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    store.restore_experiment(experiment)
    connect()


# Readers leave nothing behind.


def test_reading_commands_make_no_store(run, workplace):
    before = sorted(workplace.rglob("*"))
    code, _, err = run("unmask", "a.png", "b.png", "--model", "champion")
    assert code == 3
    assert "there is no model models:/bmask-unmasker@champion" in err
    assert "run the pipeline first" in err
    code, out, _ = run("champion")
    assert code == 0
    assert "bmask-unmasker has no versions yet: run the pipeline first" in out
    assert "run the pipeline first" in sentence(run("champion", "rollback"))
    assert sorted(workplace.rglob("*")) == before


def test_reading_commands_make_no_experiment(run, store):
    run("champion")
    run("unmask", "a.png", "b.png")
    assert [experiment.name for experiment in store.search_experiments()] == ["Default"]


# Several at once.

CONNECTING = """
import sys, time
from pathlib import Path
import mlflow
from mlflow.store.tracking import sqlalchemy_store
from mlflow.store.model_registry import sqlalchemy_store
from bmask.tracking import runs, store
Path(sys.argv[1]).touch()
while not Path("go").exists():
    time.sleep(0.001)
store.connect()
runs.open_run({"model": sys.argv[1], "fingerprint": sys.argv[1], "data_digest": "d", "params": {}}, adopt=True)
"""


@pytest.mark.slow
def test_trainings_that_start_at_once_on_no_store_are_all_tracked(workplace):
    place, names = workplace / "place", ["one", "two"]
    place.mkdir()
    children = [subprocess.Popen([sys.executable, "-c", CONNECTING, name], cwd=place) for name in names]
    while not all((place / name).exists() for name in names):
        assert all(child.poll() is None for child in children)
    (place / "go").touch()
    assert [child.wait(300) for child in children] == [0, 0]
    assert sorted(run.info.run_name for run in runs(MlflowClient(f"sqlite:///{place}/mlflow.db"))) == names
    assert {path.name for path in place.iterdir()} == {"go", *names, "mlflow.db"}
