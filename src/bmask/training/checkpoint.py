"""Checkpoints without pickle: one .npz of arrays (each with a CRC) and a JSON, written whole or not at all.

`previous` is the one before `latest`, so that a damaged file costs only some epochs. `before-decay`
is the last one at the constant learning rate: a training with more epochs that continues from it gives the result of
one that began anew.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

LATEST, PREVIOUS, BEFORE_DECAY = "latest.npz", "previous.npz", "before-decay.npz"
_META, _FRESH = "meta.json", ".fresh.npz"


class CheckpointError(ValueError):
    """A checkpoint that is damaged or belongs to another training."""


def flatten(tree: Any, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Splits nested dicts and lists into tensors by path and a JSON rest, where a tensor leaves {"tensor": path}."""
    if isinstance(tree, Tensor):
        return {prefix: tree}, {"tensor": prefix}
    if isinstance(tree, dict | list | tuple):
        tensors: dict[str, Tensor] = {}
        pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))
        rest = []
        for key, value in pairs:
            inner, plain = flatten(value, f"{prefix}/{key}")
            tensors |= inner
            rest.append([key, plain])
        return tensors, {"dict": rest} if isinstance(tree, dict) else {"list": [plain for _, plain in rest]}
    return {}, {"value": tree}


def unflatten(plain: Any, tensors: dict[str, Tensor]) -> Any:
    if "tensor" in plain:
        return tensors[plain["tensor"]]
    if "dict" in plain:
        return {key: unflatten(value, tensors) for key, value in plain["dict"]}
    if "list" in plain:
        return [unflatten(value, tensors) for value in plain["list"]]
    return plain["value"]


def write(path: Path, state: dict) -> None:
    """Writes beside `path`, syncs, renames. On a full disk the old file stays, and the OSError names `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as file:
            dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a failed write does not know the name
            error.filename = str(path)
        raise


def dump(state: dict, file: BinaryIO) -> None:
    """The state as one archive; `read` is the inverse."""
    tensors, plain = flatten(state)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, tensor in tensors.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, tensor.detach().cpu().numpy(), allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getbuffer())
        archive.writestr(_META, json.dumps(plain))


def read(path: Path | BinaryIO) -> dict:
    """The state that `write` was given, tensors on the CPU.

    Raises:
        CheckpointError: the file is cut short or damaged.
        FileNotFoundError: there is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            tensors = {}
            for name in archive.namelist():
                content = archive.read(name)  # checks the CRC
                if name == _META:
                    plain = json.loads(content)
                else:
                    array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
                    tensors[name.removesuffix(".npy")] = torch.from_numpy(array)
        return unflatten(plain, tensors)
    except FileNotFoundError:
        raise
    except Exception as error:  # a flipped bit can raise any of a dozen exceptions
        raise CheckpointError(f"{path} is damaged ({error})") from None


def save(folder: Path, state: dict, before_decay: bool) -> None:
    """Writes `latest`, keeping the one before it as `previous`."""
    latest, fresh = folder / LATEST, folder / _FRESH
    if before_decay:  # before `latest`: a training killed after that does not repeat this epoch
        write(folder / BEFORE_DECAY, state)
    write(fresh, state)  # before any rename, since `previous` may be the only good one
    if latest.exists():
        os.replace(latest, folder / PREVIOUS)
    os.replace(fresh, latest)


def find(folder: Path, fingerprint: dict, epochs: int, constant_epochs: int) -> tuple[dict | None, list[str]]:
    """The best checkpoint in `folder` that this training can go on from, and why others were refused.

    A checkpoint fits if its fingerprint is the same and this training would have taken the same steps so far: the
    schedule is the same, or neither the old nor the new one had begun to decay.
    """
    reasons = []
    for name in (LATEST, PREVIOUS, BEFORE_DECAY):
        try:
            state = read(folder / name)
        except FileNotFoundError:
            continue
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        differences = compare(state["fingerprint"], fingerprint)
        if differences:
            reasons.append(f"{folder / name} belongs to another training: {'; '.join(differences)}")
            continue
        was, begun = state["schedule"], epochs_begun(state)
        if was == [epochs, constant_epochs] or begun <= min(constant_epochs, was[1]):
            return state, reasons
        reasons.append(
            f"{folder / name} is at epoch {begun} of {was[0]} with decay after {was[1]};"
            f" it does not fit {epochs} epochs with decay after {constant_epochs}"
        )
    return None, reasons


def epochs_begun(state: dict) -> int:
    """The number of epochs begun: one more than completed if SIGTERM came within an epoch."""
    history = state.get("history")
    unfinished = state.get("window") or (history and history[-1]["epoch"] == state["epoch"])
    return state["epoch"] + bool(unfinished)


def placed(before: list[dict], here: dict, step: int) -> list[dict]:
    """Where a training ran and from which step on, in order, when it goes on `here` at `step`."""
    return before if before and {**before[-1], **here} == before[-1] else [*before, {**here, "from_step": step}]


def compare(was: dict, now: dict) -> list[str]:
    """The differences of two fingerprints as `key was X, is Y`."""
    return [
        f"{key} was {was.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]


def moments(optimizer: torch.optim.Optimizer) -> dict[str, dict]:
    """An optimizer's state per parameter, by the parameter's number; the rest of its state follows from the options."""
    return {str(number): kept for number, kept in optimizer.state_dict()["state"].items()}


def restore(optimizer: torch.optim.Optimizer, kept: dict[str, dict]) -> None:
    """The inverse of `moments`."""
    whole = optimizer.state_dict()
    whole["state"] = {int(number): state for number, state in kept.items()}
    optimizer.load_state_dict(whole)
