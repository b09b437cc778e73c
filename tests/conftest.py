"""Fixtures that many tests share; tiny.py makes their folders and options."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from kubeflow_api import Pipeline, Stub, kubeflow_server
from s3 import Server, s3_server
from tiny import tiny_params, write_augment, write_dataset

# A shared machine may be slow for a second; this must not fail a test.
settings.register_profile("bmask", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bmask")


# The slowest files start first, so that no worker runs one of them alone at the end.
LONGEST = (
    "test_pipeline",
    "test_lost",
    "test_register",
    "test_distributed",
    "test_tracking",
    "test_sources",
    "test_runs",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def one_thread():
    """Sums have a fixed order, and tests do not compete for the cores of a shared machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def store_template(tmp_path_factory) -> Path:
    """An MLflow store with its tables. Each test copies it, since creating the tables is slow."""
    import mlflow

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """The working folder of a test with results/ingest and results/augment, away from the caller's MLflow."""
    for name in (
        "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_EXPERIMENT_ID",
        "MLFLOW_TRACKING_URI",
        "KFP_RUN_ID",
        "DVC_EXP_NAME",
        "DVC_ROOT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "results/ingest")
    write_augment(tmp_path / "results/augment")
    return tmp_path


@pytest.fixture
def new_store(workplace, monkeypatch, store_template):
    """Each call switches to a new, empty SQLite store and returns its client."""
    import mlflow

    before = mlflow.get_tracking_uri()

    def new(name: str = "mlflow") -> mlflow.MlflowClient:
        shutil.copy(store_template, workplace / f"{name}.db")
        uri = f"sqlite:///{workplace}/{name}.db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        return mlflow.MlflowClient()

    yield new
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def store(new_store):
    """The client of an empty SQLite store that belongs to this test alone."""
    return new_store()


@pytest.fixture(scope="session")
def export_judge_once(tmp_path_factory):
    """Exports each judge once per session, which takes a third of a registration, and copies the files later."""
    from bmask.quality import judge_export

    export_judge, folder = judge_export.export_judge, tmp_path_factory.mktemp("judges")

    def export(file: Path, target: Path, photos: np.ndarray) -> None:
        key = file.read_bytes() + photos.tobytes() + str(judge_export.MAX_DIFFERENCE).encode()
        known = folder / hashlib.sha256(key).hexdigest()
        if not known.exists():
            fresh = tmp_path_factory.mktemp("judge")
            export_judge(file, fresh, photos)
            fresh.rename(known)
        shutil.copytree(known, target, dirs_exist_ok=True)

    return export


@pytest.fixture
def place(tmp_path, monkeypatch, store_template, one_thread, export_judge_once):
    """A working folder with its own store and the outputs of the stages before register."""
    import mlflow

    from bmask.quality import judge_export
    from registering import Place

    monkeypatch.setattr(judge_export, "export_judge", export_judge_once)
    before = mlflow.get_tracking_uri()
    shutil.copy(store_template, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # hides an Inception network that the machine has cached
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "KFP_RUN_ID", "DVC_EXP_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    yield Place(tmp_path)
    mlflow.set_tracking_uri(before)


@pytest.fixture
def dataset_folder(workplace) -> Path:
    return workplace / "results/ingest"


@pytest.fixture
def augment_folder(workplace) -> Path:
    return workplace / "results/augment"


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory) -> Path:
    """A folder with 200 masked and 200 unmasked drawn faces and their truth; many of them hard cases."""
    from bmask.params.sections import Drawn
    from bmask.synthetic import draw_set

    folder = tmp_path_factory.mktemp("drawn") / "faces"
    draw_set(folder, Drawn(masked=200, unmasked=200, size=96, hard=0.3, seed=1905))
    return folder


@pytest.fixture(scope="session")
def few_faces(drawn_set, tmp_path_factory) -> Path:
    """The first 70 of each domain of `drawn_set`, with their truth."""
    folder = tmp_path_factory.mktemp("few") / "faces"
    surplus = {f"face_{number:05d}.png" for number in range(70, 200)}
    return shutil.copytree(drawn_set, folder, ignore=lambda _, names: surplus & set(names))


@pytest.fixture(scope="session")
def embedded(drawn_set, tmp_path_factory) -> Path:
    """What ingest makes of `drawn_set`."""
    from bmask.params import parse_params
    from bmask.stages.ingest import ingest

    out = tmp_path_factory.mktemp("embedded") / "ingest"
    ingest(parse_params({"ingest": {"source": str(drawn_set)}}), out)
    return out


@pytest.fixture
def params():
    """One small model, `unmasker`: scheme 2 with guided discriminators, 2 epochs of 4 steps."""
    return tiny_params()


@pytest.fixture
def nameless() -> list[str]:
    """The start of a command that runs under a user id without a name, with the rights of the user of the tests."""
    command = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no user namespaces")
    return command


@pytest.fixture(scope="session")
def s3_server_of_session(tmp_path_factory) -> Iterator[Server]:
    """One server for all tests of a process; it starts in a second."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server_of_session, monkeypatch, tmp_path) -> Server:
    """The server with an empty bucket `photos`; the environment names the server and holds the owner's keys."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server_of_session.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3_server_of_session.empty("photos")
    return s3_server_of_session


@pytest.fixture
def kubeflow(monkeypatch, tmp_path) -> Iterator[Stub]:
    """A stub of Kubeflow's API server; the test runs in this checkout."""
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    monkeypatch.setenv("HOME", str(tmp_path))  # kfp keeps a context file there
    with kubeflow_server() as server:
        yield server


@pytest.fixture
def pipeline(monkeypatch, capsys) -> Pipeline:
    """Runs `bmask pipeline ...` in this process."""
    from commands import bmask

    def run(*arguments: str) -> tuple[int, str, str]:
        return bmask("pipeline", *arguments, monkeypatch=monkeypatch, capsys=capsys)

    return run
