"""Checkpoints: whole or refused, never garbage; and which of them a training may go on from."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bmask.training import checkpoint
from bmask.training.checkpoint import BEFORE_DECAY, LATEST, PREVIOUS, CheckpointError
from tiny import full_disk

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = st.text("abcxyz_.- 0123456789äß面", min_size=1, max_size=8)
DTYPES = (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool)


@st.composite
def tensors(draw) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    seed = draw(st.integers(0, 9))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 100
    tensor = values.abs().to(draw(st.sampled_from(DTYPES)))
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        PLAIN | tensors(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


def same(one, other) -> bool:
    """Equal in type, keys and order, and for tensors in every bit."""
    if isinstance(one, Tensor):
        return (
            isinstance(other, Tensor)
            and (one.dtype, one.shape) == (other.dtype, other.shape)
            and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
        )
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property test."""
    return tmp_path_factory.mktemp("checkpoints")


def state(epoch: int = 2, schedule: tuple[int, int] = (4, 2), fingerprint: dict | None = None, **more) -> dict:
    weights = {"a.weight": torch.randn(2, 3), "steps": torch.tensor(7), "pixels": torch.arange(5, dtype=torch.uint8)}
    given = {"lr": 1e-4} if fingerprint is None else fingerprint
    return {"epoch": epoch, "schedule": list(schedule), "fingerprint": given, "system": weights, **more}


# Files.


@given(TREES)
@settings(max_examples=80)
def test_nested_states_come_back_to_the_bit(folder, tree):
    checkpoint.write(folder / "tree.npz", tree)
    assert same(checkpoint.read(folder / "tree.npz"), tree)


def test_special_values_come_back_to_the_bit(tmp_path):
    """Signed zeros, infinities, NaN and the smallest numbers, as a diverging run holds them."""
    values = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3.4e38])
    tree = {"moments": [{"step": torch.tensor(3.0), "exp_avg": values}], "loss": float("inf"), "none": None}
    checkpoint.write(tmp_path / "x.npz", tree)
    assert same(checkpoint.read(tmp_path / "x.npz"), tree)


def test_tensors_come_back_writable_and_alone(tmp_path):
    checkpoint.write(tmp_path / "x.npz", {"x": torch.zeros(3)})
    found = checkpoint.read(tmp_path / "x.npz")
    found["x"] += 1
    assert torch.equal(checkpoint.read(tmp_path / "x.npz")["x"], torch.zeros(3))


def test_a_tensor_that_is_trained_is_saved_by_its_values(tmp_path):
    checkpoint.write(tmp_path / "x.npz", {"x": torch.ones(2, requires_grad=True)})
    assert not checkpoint.read(tmp_path / "x.npz")["x"].requires_grad


def test_there_is_no_pickle_in_the_file(tmp_path):
    checkpoint.write(tmp_path / "x.npz", state())
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays, zipfile.ZipFile(tmp_path / "x.npz") as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                assert arrays[name.removesuffix(".npy")].dtype != object
            else:
                json.loads(archive.read(name))


def test_a_pickle_inside_a_checkpoint_is_refused_and_not_run(tmp_path):
    path, trap = tmp_path / "x.npz", tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return open, (str(trap), "w")

    np.savez(path, trap=np.array([Trap()], dtype=object))
    trap.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)
    assert not trap.exists()


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=100)
def test_a_file_cut_anywhere_is_refused(folder, cut):
    whole, short = folder / "whole.npz", folder / "short.npz"
    if not whole.exists():
        checkpoint.write(whole, state())
    content = whole.read_bytes()
    short.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(CheckpointError, match=r"short\.npz is damaged"):
        checkpoint.read(short)


def test_a_file_with_any_bit_turned_is_refused_or_unharmed(tmp_path):
    """Three bits of every byte of a small file; flips in the archive's times and attributes do no harm."""
    path = tmp_path / "x.npz"
    tree = {"system": {"w": torch.tensor([1.5, -2.0])}, "epoch": 3}
    checkpoint.write(path, tree)
    whole, refused = path.read_bytes(), 0
    for position in range(len(whole)):
        for bit in random.Random(position).sample(range(8), 3):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                assert same(checkpoint.read(path), tree), f"byte {position}, bit {bit} gave garbage"
            except CheckpointError:
                refused += 1
    assert refused > 1.5 * len(whole)  # of 3 * len(whole) flips


def test_a_turned_byte_in_the_weights_is_always_refused(tmp_path):
    path = tmp_path / "x.npz"
    weights = torch.arange(64, dtype=torch.float32)
    checkpoint.write(path, {"w": weights})
    content = path.read_bytes()
    start = content.index(weights.numpy().tobytes())
    for position in range(start, start + 256):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoint.read(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"\x00" * 1000])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(CheckpointError):
        checkpoint.read(tmp_path / "x.npz")


def test_an_archive_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError):
        checkpoint.read(tmp_path / "x.npz")


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / "x.npz")


# A full disk.


def save_a_large_one(folder) -> None:
    with full_disk(room=20_000), pytest.raises(OSError, match="File too large"):
        checkpoint.save(folder, state(9, fingerprint={}, more=torch.zeros(100_000)), before_decay=True)


def test_a_full_disk_leaves_the_checkpoint_before_whole(tmp_path):
    checkpoint.save(tmp_path, state(epoch=1, fingerprint={}), before_decay=False)
    checkpoint.save(tmp_path, state(epoch=2, fingerprint={}), before_decay=True)
    early = checkpoint.read(tmp_path / BEFORE_DECAY)
    save_a_large_one(tmp_path)
    found, reasons = checkpoint.find(tmp_path, {}, 4, 2)
    assert found["epoch"] == 2
    assert not reasons
    assert same(checkpoint.read(tmp_path / BEFORE_DECAY), early)
    assert {path.name for path in tmp_path.iterdir()} <= {LATEST, PREVIOUS, BEFORE_DECAY}  # nothing half-written stays
    checkpoint.save(tmp_path, state(epoch=3, fingerprint={}), before_decay=False)  # there is room again
    assert checkpoint.find(tmp_path, {}, 4, 2)[0]["epoch"] == 3


# The checkpoint that a training goes on from.


def test_the_latest_is_taken_and_the_one_before_it_kept(tmp_path):
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, state(epoch), before_decay=epoch == 2)
    epochs = {name: checkpoint.read(tmp_path / name)["epoch"] for name in (LATEST, PREVIOUS, BEFORE_DECAY)}
    assert epochs == {LATEST: 3, PREVIOUS: 2, BEFORE_DECAY: 2}
    assert checkpoint.find(tmp_path, {"lr": 1e-4}, 4, 2)[0]["epoch"] == 3


def test_an_empty_or_missing_folder_holds_none(tmp_path):
    assert checkpoint.find(tmp_path, {}, 4, 2) == (None, [])
    assert checkpoint.find(tmp_path / "nowhere", {}, 4, 2) == (None, [])


def cut_short(path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_a_damaged_latest_costs_some_epochs_and_is_reported(tmp_path):
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, state(epoch), before_decay=epoch == 1)
    cut_short(tmp_path / LATEST)
    found, reasons = checkpoint.find(tmp_path, {"lr": 1e-4}, 4, 2)
    assert found["epoch"] == 2
    assert len(reasons) == 1
    assert str(tmp_path / LATEST) in reasons[0]
    assert "damaged" in reasons[0]
    cut_short(tmp_path / PREVIOUS)
    found, reasons = checkpoint.find(tmp_path, {"lr": 1e-4}, 4, 2)
    assert found["epoch"] == 1  # before the decay
    assert len(reasons) == 2


def test_a_good_checkpoint_survives_until_a_newer_one_is_whole(tmp_path):
    """With a damaged latest, `previous` is all there is: a save must not drop it before its own file is whole."""
    for epoch in (1, 2):
        checkpoint.save(tmp_path, state(epoch, fingerprint={}), before_decay=False)
    cut_short(tmp_path / LATEST)
    save_a_large_one(tmp_path)
    assert checkpoint.find(tmp_path, {}, 4, 2)[0]["epoch"] == 1


def killed_at(operation: int, action: Callable[[], None]) -> bool:
    """Runs `action` in a forked process that is killed before the given file operation. False: it needs fewer."""
    child = os.fork()
    if child == 0:
        operations = itertools.count(1)

        def audit(event: str, _: tuple) -> None:
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.link") and next(operations) == operation:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(audit)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_writer_killed_before_any_of_its_operations_leaves_a_checkpoint_and_the_next_one_cleans_up(tmp_path):
    names = {LATEST, PREVIOUS, BEFORE_DECAY}
    for operation in range(1, 99):
        folder = tmp_path / str(operation)
        for epoch in (1, 2):
            checkpoint.save(folder, state(epoch, (4, 3)), before_decay=False)
        killed = killed_at(operation, lambda: checkpoint.save(folder, state(3, (4, 3)), before_decay=True))  # noqa: B023
        found, reasons = checkpoint.find(folder, {"lr": 1e-4}, 4, 3)
        assert found["epoch"] in ((2, 3) if killed else (3,))
        assert not reasons
        for epoch in range(found["epoch"] + 1, 5):  # as the resumed training does
            checkpoint.save(folder, state(epoch, (4, 3)), before_decay=epoch == 3)
        assert {path.name for path in folder.iterdir()} == names
        assert checkpoint.read(folder / BEFORE_DECAY)["epoch"] == 3
        if not killed:
            break
    assert operation > 5  # two files, two renames each


def test_a_checkpoint_of_other_params_is_refused_with_key_old_and_new(tmp_path):
    checkpoint.save(tmp_path, state(fingerprint={"schedule.lr": 1e-4, "data": "abc", "seed": 1}), before_decay=True)
    found, reasons = checkpoint.find(tmp_path, {"schedule.lr": 2e-4, "data": "xyz", "seed": 1}, 4, 2)
    assert found is None
    assert len(reasons) == 2  # the latest and the one before the decay
    for reason in reasons:
        assert "schedule.lr was 0.0001, is 0.0002" in reason
        assert "data was 'abc', is 'xyz'" in reason
        assert "seed" not in reason
    assert str(tmp_path / LATEST) in reasons[0]


KEYS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2) | st.text("xy", max_size=1), max_size=4)


@given(KEYS, KEYS)
def test_two_fingerprints_differ_where_they_differ(was, now):
    differences = checkpoint.compare(was, now)
    assert (not differences) == (was == now)
    changed = {key for key in {*was, *now} if (key in was) != (key in now) or was.get(key) != now.get(key)}
    assert {difference.split()[0] for difference in differences} == changed


@given(
    old=st.tuples(st.integers(1, 12), st.integers(0, 12)).filter(lambda s: s[1] <= s[0]),
    new=st.tuples(st.integers(1, 12), st.integers(0, 12)).filter(lambda s: s[1] <= s[0]),
    data=st.data(),
)
@settings(max_examples=80)
def test_a_checkpoint_is_used_exactly_when_its_steps_would_have_been_the_same(folder, old, new, data):
    from bmask.training.schedule import rate

    epoch = data.draw(st.integers(1, old[0]))
    place = folder / "schedules"
    checkpoint.save(place, state(epoch, old), before_decay=False)
    (place / PREVIOUS).unlink(missing_ok=True)
    found, reasons = checkpoint.find(place, {"lr": 1e-4}, *new)
    if found:
        assert epoch <= new[0]
        assert all(rate(e, *old) == rate(e, *new) for e in range(epoch))
    else:
        assert epoch > min(old[1], new[1])
        assert f"is at epoch {epoch} of {old[0]} with decay after {old[1]}" in reasons[0]
        assert f"does not fit {new[0]} epochs with decay after {new[1]}" in reasons[0]
    if old == new:
        assert found


def test_a_longer_training_starts_from_before_the_decay(tmp_path):
    for epoch in range(1, 5):
        checkpoint.save(tmp_path, state(epoch, (4, 2)), before_decay=epoch == 2)
    found, reasons = checkpoint.find(tmp_path, {"lr": 1e-4}, 8, 2)
    assert found["epoch"] == 2
    assert len(reasons) == 2  # both come from the old decay
    assert checkpoint.find(tmp_path, {"lr": 1e-4}, 8, 5)[0]["epoch"] == 2
    assert checkpoint.find(tmp_path, {"lr": 1e-4}, 8, 1)[0] is None
