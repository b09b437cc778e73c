"""A training that is killed, evicted, has damaged files or a full disk still ends with the same bits.

A failure prints the seed of its random moments; KILL_SEED=... repeats them as exactly as the clock allows.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

import victim
from bmask.params import Params
from bmask.training import checkpoint
from bmask.training.checkpoint import BEFORE_DECAY, LATEST, PREVIOUS
from killing import PATIENCE, freeze, freeze_in_a_write, freeze_when, kill, running, small_disk, writing
from logged import runs, train_here
from tiny import full_disk, tiny_params, write_augment, write_dataset

pytestmark = pytest.mark.usefixtures("one_thread")


STARTING = 3  # seconds, more or less, until the first step


@pytest.fixture
def draws() -> random.Random:
    seed = int(os.environ.get("KILL_SEED", 0)) or random.SystemRandom().randrange(1, 2**32)
    print(f"KILL_SEED={seed}")
    return random.Random(seed)


# The loop, in a process of its own.


@pytest.mark.parametrize(
    ("system", "epochs", "moments"),
    [
        ("scheme2", 9, {"write": 2, "step": 2, "start": 1}),
        pytest.param("scheme2", 40, {"write": 10, "step": 10, "start": 5}, marks=pytest.mark.slow),
        pytest.param("cyclegan", 40, {"write": 10, "step": 10, "start": 5}, marks=pytest.mark.slow),
        pytest.param("inpainting", 9, {"write": 2, "step": 2, "start": 1}, marks=pytest.mark.slow),
    ],
    ids=["5 kills", "25 kills", "25 kills of another system", "5 kills about a game that begins"],
)
def test_a_training_that_was_killed_again_and_again_equals_one_that_was_not(system, epochs, moments, draws, tmp_path):
    options = {"system": system, "epochs": epochs, "constant_epochs": 2 * epochs // 3}
    began = time.monotonic()
    victim.main(tmp_path / "whole", tmp_path / "expected", **options)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    pace = (time.monotonic() - began) / (epochs * victim.STEPS)

    kinds = [kind for kind, count in moments.items() for _ in range(count)]
    draws.shuffle(kinds)
    steps = sorted(draws.sample(range(1, (epochs - 3) * victim.STEPS), len(kinds)))
    caught = 0
    for kind, step in zip(kinds, steps, strict=True):
        with running(victim.__file__, killed, tmp_path / "out", json.dumps(options)) as child:
            if kind == "start":
                select.select([child.stdout], [], [], draws.uniform(0, STARTING))  # ends at its first step at latest
            else:
                assert any(int(line) >= step for line in child.stdout), "it ended early"
            if kind == "write":
                assert freeze_in_a_write(child, killed, (whole / LATEST).stat().st_size, draws)
            else:
                time.sleep(draws.uniform(0, pace))
                assert freeze(child)
            half = writing(child, killed)
            print(f"killed after step {step}, in a {kind}; half written: {half}")
            caught += bool(half)
            kill(child)
    assert caught >= moments["write"]

    with running(victim.__file__, killed, tmp_path / "out", json.dumps(options)) as child:
        child.communicate(timeout=PATIENCE)
    assert child.returncode == 0
    for name in ("generators.safetensors", "losses.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes(), name
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())


# The command, with its outputs and its run.

RECIPE = {"unmasker": {"system": "attentiongan", "scheme": 2, "discriminator_filters": 24}}


def params(**changes) -> Params:
    """6 epochs of 7 steps; how often it saves or shows is no part of the fingerprint."""
    train = {"checkpoint_every": 1, "sample_every": 1, "checkpoints": "checkpoints", **changes}
    return tiny_params(RECIPE, train, epochs=6, constant_epochs=4, epoch_photos=21)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, store_template) -> Path:
    """The working folder of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(store_template, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        write_dataset(folder / "results/ingest")
        write_augment(folder / "results/augment")
        train_here(params())
    return folder


def assert_same_bits(folder: Path, undisturbed: Path) -> None:
    for name in ("generator.safetensors", "mask_generator.safetensors", "losses.csv"):
        ours, theirs = (place / "results/train/unmasker" / name for place in (folder, undisturbed))
        assert ours.read_bytes() == theirs.read_bytes(), name


def command(workplace: Path, wanted: Params):
    tree = json.loads(wanted.model_dump_json(by_alias=True))
    (workplace / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return running("-m", "bmask", "train", "unmasker", cwd=workplace, stderr=subprocess.PIPE)


def seen(workplace: Path, pattern: str, child: subprocess.Popen) -> Path:
    """Waits for a file that the training makes."""
    end = time.monotonic() + PATIENCE
    while not (found := list(workplace.glob(pattern))):
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.001)
    return found[0]


@pytest.mark.slow
def test_the_command_killed_in_a_checkpoint_and_then_in_its_outputs_ends_with_the_same_bits(
    undisturbed, store, workplace, draws, capsys
):
    (latest,) = undisturbed.glob(f"checkpoints/*/{LATEST}")
    folder = workplace / latest.parent.relative_to(undisturbed)
    with command(workplace, params()) as child:
        seen(workplace, f"checkpoints/*/{LATEST}", child)  # there is a checkpoint to go on from
        assert freeze_in_a_write(child, folder, latest.stat().st_size, draws)
        print(f"half written: {writing(child, folder)}")
        kill(child)
    with command(workplace, params()) as child:
        assert freeze_when(child, lambda: any(workplace.glob("results/train/.unmasker.*/*")))
        kill(child)
    assert not (workplace / "results/train/unmasker").exists()
    train_here(params())
    assert "going on from epoch 6 of 6" in capsys.readouterr().err
    assert_same_bits(workplace, undisturbed)


def test_a_terminated_command_saves_says_so_and_goes_on_from_there(undisturbed, store, workplace, draws, capsys):
    """A preempted pod gets this signal. No checkpoint is due, so the one to go on from was written for the signal."""
    with command(workplace, params(checkpoint_every=99)) as child:
        sheet = seen(workplace, "checkpoints/*/samples/epoch-0001.png", child)
        time.sleep(draws.uniform(0, 0.1))
        child.terminate()
        _, told = child.communicate(timeout=PATIENCE)
        assert child.returncode == 128 + signal.SIGTERM, told
    assert "stopped" in told
    assert "Traceback" not in told
    assert 7 <= checkpoint.read(sheet.parents[1] / LATEST)["step"] < 42
    train_here(params())
    assert "going on from" in capsys.readouterr().err
    assert_same_bits(workplace, undisturbed)


# Files and disks that fail.


@pytest.fixture
def kept(undisturbed, store, workplace) -> Path:
    """A folder of checkpoints that a training left: `latest` of epoch 6, `previous` of 5, `before-decay` of 4."""
    shutil.copytree(undisturbed / "checkpoints", workplace / "checkpoints")
    (folder,) = (workplace / "checkpoints").iterdir()
    return folder


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for position in range(1000, len(content), len(content) // 20):
        content[position] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "damaged", "epoch"), [(cut, [LATEST], 5), (flip, [LATEST], 5), (flip, [LATEST, PREVIOUS], 4)]
)
def test_the_last_good_checkpoint_is_used_and_damaged_ones_are_named(
    damage, damaged, epoch, kept, undisturbed, workplace, capsys
):
    for name in damaged:
        damage(kept / name)
    train_here(params())
    told = capsys.readouterr().err
    for name in damaged:
        assert f"checkpoint refused: {kept.relative_to(workplace) / name} is damaged" in told
    assert f"going on from epoch {epoch} of 6" in told
    assert_same_bits(workplace, undisturbed)


def test_with_no_good_checkpoint_a_training_starts_anew_and_says_so(kept, undisturbed, workplace, capsys):
    for name, damage in {LATEST: cut, PREVIOUS: flip, BEFORE_DECAY: cut}.items():
        damage(kept / name)
    train_here(params())
    told = capsys.readouterr().err
    assert told.count("is damaged") == 3
    assert "no checkpoint can be used; the training starts anew" in told
    assert "going on" not in told
    assert_same_bits(workplace, undisturbed)


def test_a_checkpoint_of_other_params_or_photos_is_refused_and_the_difference_named(store, workplace, capsys):
    def told(wanted: Params) -> str:
        train_here(wanted)
        return capsys.readouterr().err

    told(tiny_params())
    other = told(tiny_params(lr=3e-3))
    assert "checkpoint refused" in other
    assert "schedule.lr was 0.001, is 0.003" in other
    assert "the training starts anew" in other
    assert "going on" not in other
    write_augment(workplace / "results/augment", digest="other-photos")
    assert "data was 'digest-of-the-copies', is 'other-photos'" in told(tiny_params(lr=3e-3))
    assert len(runs(store)) == 3


@pytest.fixture(params=["tmpfs", "limit"])
def full(request, kept, workplace):
    """full(room): inside the block, checkpoints in workplace / "disk" can take at most `room` more bytes.

    `tmpfs` is a real file system that is full. Where none can be mounted, `limit` limits the size of files instead,
    and the error is EFBIG instead of ENOSPC.
    """
    size = sum(path.stat().st_size for path in kept.rglob("*"))
    with small_disk(5 * size) as disk:
        if (disk is None) == (request.param == "tmpfs"):
            pytest.skip("no mount is permitted here" if disk is None else "a real full disk is shown")
        if disk:
            (workplace / "disk").symlink_to(disk.folder)
        else:
            (workplace / "disk").mkdir()
        shutil.copytree(kept, workplace / "disk" / kept.name)
        yield disk.up_to if disk else full_disk


def test_a_disk_that_fills_in_a_write_is_named_and_costs_nothing_once_there_is_room(full, kept, undisturbed, workplace):
    disk = workplace / "disk" / kept.name
    (disk / LATEST).unlink()  # so that there is an epoch to train, and to save
    before = {path.name: path.read_bytes() for path in disk.glob("*.npz")}
    with full(len(before[PREVIOUS]) // 2), pytest.raises(OSError, match=r"No space left|File too large") as caught:
        train_here(params(checkpoints="disk"))
    assert str(disk.relative_to(workplace)) in caught.value.filename
    assert {path.name: path.read_bytes() for path in disk.iterdir() if path.is_file()} == before
    train_here(params(checkpoints="disk"))
    assert checkpoint.read(disk / LATEST)["epoch"] == 6
    assert_same_bits(workplace, undisturbed)
