"""Checkpoints in real object storage: a killed training goes on with an empty disk, and failures are reported."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bmask.data.sources import objects
from bmask.data.sources.objects import Prefix
from bmask.errors import DataError
from bmask.observers.checkpoint_sync import CheckpointSync, open_checkpoints
from bmask.params import Params
from bmask.stages.train import train
from bmask.training.checkpoint import BEFORE_DECAY, LATEST, PREVIOUS
from s3 import READER, free_ports, s3_server
from tiny import tiny_params, write_dataset

pytestmark = pytest.mark.usefixtures("one_thread")
PLACE = "s3://photos/checkpoints"


def settings(checkpoints: str = PLACE) -> Params:
    return tiny_params(train={"checkpoints": checkpoints}, epochs=4, constant_epochs=1)


def trained(params: Params, out: str) -> Path:
    train(params, "unmasker", Path("results/ingest"), Path("results/augment"), Path("results/masks"), Path(out))
    return Path(out)


DIES = """
import os, signal, sys
from bmask.observers.checkpoint_sync import CheckpointSync
from test_checkpoint_sync import settings, trained
count, saved = 0, CheckpointSync.saved

def die(self):
    global count
    saved(self)
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)

CheckpointSync.saved = die
trained(settings(), "killed")
"""


def test_a_killed_training_goes_on_from_the_storage_on_an_empty_disk(s3, workplace, new_store, capsys):
    new_store("whole")
    whole = trained(settings("elsewhere"), "whole")
    new_store("killed")
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    killed = subprocess.run([sys.executable, "-c", DIES], env=environment, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    names = {name.rpartition("/")[2] for name in s3.names("photos")}
    assert names == {LATEST, PREVIOUS, BEFORE_DECAY, "fingerprint.json", *(f"epoch-000{n}.png" for n in (1, 2, 3))}

    shutil.rmtree("checkpoints")
    capsys.readouterr()
    resumed = trained(settings(), "resumed")
    assert "going on from epoch 3 of 4" in capsys.readouterr().err
    for name in ("generator.safetensors", "mask_generator.safetensors", "losses.csv"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    assert len(list((resumed / "samples").iterdir())) == 4
    assert not Path("s3:").exists()


def test_a_training_does_not_start_over_when_the_storage_cannot_be_used(s3, workplace, store, monkeypatch):
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), READER, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=r"train\.checkpoints s3://photos/checkpoints/unmasker-\w+: .* not the right"):
        trained(settings(), "out")
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(DataError, match=r"nothing answers at http://127\.0\.0\.1:"):
        trained(settings(), "out")
    assert not Path("out").exists()
    assert not Path("checkpoints").exists()
    assert not store.search_runs([e.experiment_id for e in store.search_experiments()])


@pytest.fixture
def sync(s3, tmp_path) -> CheckpointSync:
    return CheckpointSync(tmp_path / "checkpoints/m-1", Prefix(f"{PLACE}/m-1", Params().s3, "train.checkpoints"))


def stored(s3) -> dict[str, bytes]:
    client = s3.client()
    keys = s3.names("photos")
    return {key.rpartition("m-1/")[2]: client.get_object(Bucket="photos", Key=key)["Body"].read() for key in keys}


def on_disk(sync: CheckpointSync) -> dict[str, bytes]:
    files = [path for path in sync.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(sync.folder).as_posix(): path.read_bytes() for path in files}


def save(sync: CheckpointSync, epoch: int) -> None:
    """Writes files as the training loop and its sample sheets do."""
    (sync.folder / "samples").mkdir(parents=True, exist_ok=True)
    (sync.folder / f"samples/epoch-{epoch:04d}.png").write_bytes(b"sheet %d" % epoch)
    if (sync.folder / LATEST).exists():
        (sync.folder / LATEST).replace(sync.folder / PREVIOUS)
    (sync.folder / LATEST).write_bytes(b"state %d" % epoch * 1000)
    (sync.folder / ".fresh.npz").write_bytes(b"half")
    if epoch == 2:
        (sync.folder / BEFORE_DECAY).write_bytes(b"state %d" % epoch)
    sync.saved()


def test_the_storage_is_as_the_disk_after_every_checkpoint(s3, sync):
    for epoch in range(1, 5):
        save(sync, epoch)
        assert stored(s3) == on_disk(sync)


def test_a_server_that_dies_is_named_each_time_and_gets_later_what_it_missed(s3, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    ports, place = free_ports(4), Params().s3.model_copy
    with s3_server(tmp_path / "weed", ports) as server:
        server.empty("photos")
        storage = Prefix(f"{PLACE}/m-1", place(update={"endpoint": server.endpoint}), "train.checkpoints")
        sync = CheckpointSync(tmp_path / "checkpoints/m-1", storage)
        save(sync, 1)
        assert not capsys.readouterr().err
    for epoch in (2, 3):
        save(sync, epoch)
        (said,) = capsys.readouterr().err.splitlines()
        assert f"the checkpoint is only on this disk (train.checkpoints {PLACE}/m-1: nothing answers at" in said
    with s3_server(tmp_path / "weed", ports) as server:
        assert stored(server)[LATEST] == b"state 1" * 1000
        save(sync, 4)
        assert stored(server) == on_disk(sync)
    assert not capsys.readouterr().err


def test_what_the_disk_has_stays_and_what_it_lacks_comes(s3, sync, tmp_path):
    save(sync, 1)
    save(sync, 2)
    shutil.rmtree(sync.folder / "samples")
    (sync.folder / PREVIOUS).unlink()
    (sync.folder / LATEST).write_bytes(b"newer")
    again = CheckpointSync(sync.folder, sync.storage)
    again.fetch({"data": "d"}, private=False)
    found = on_disk(again)
    assert found.pop(LATEST) == b"newer"
    assert found == {key: value for key, value in stored(s3).items() if key not in (LATEST, "fingerprint.json")}


def test_sheets_from_before_the_photos_were_private_leave_the_storage(s3, sync, tmp_path, monkeypatch):
    save(sync, 1)
    monkeypatch.chdir(tmp_path / "checkpoints")
    folder, syncs = open_checkpoints(settings(), "m-1", {}, private=True)
    assert (folder, len(syncs)) == (Path("checkpoints/m-1"), 1)
    assert set(stored(s3)) == {LATEST, "fingerprint.json"}
    assert not (folder / "samples").exists()


@pytest.mark.parametrize("place", ["checkpoints", PLACE])
def test_a_training_that_mlflow_has_leaves_no_sheets_of_photos_that_became_private(place, s3, workplace, new_store):
    new_store()
    trained(settings(place), "first")
    assert list(Path("checkpoints").glob("*/samples/*.png"))
    write_dataset(workplace / "results/ingest", private=True)
    trained(settings(place), "again")
    assert not list(Path("again/samples").iterdir())
    assert not list(Path("checkpoints").glob("*/samples/*"))
    assert not [name for name in stored(s3) if "samples/" in name]
