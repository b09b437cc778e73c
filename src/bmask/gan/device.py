"""Where a training runs and in which precision."""

from __future__ import annotations

import contextlib
import os

import torch

from bmask.errors import ParamsError


def launched() -> bool:
    """Whether torchrun started this process: then RANK, LOCAL_RANK and WORLD_SIZE hold for it.

    Without torchrun's own variable they are what another launcher left behind, a job of SLURM for example.
    """
    return torch.distributed.is_torchelastic_launched()


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA when it is there; of several, processes of one training take one each, by LOCAL_RANK.

    Raises ParamsError when the named device is not there.
    """
    there = gpus()
    try:
        device = torch.device("cuda" if there else "cpu") if name == "auto" else torch.device(name)
    except RuntimeError as error:
        raise ParamsError(f"train.device: {str(error).splitlines()[0]}") from None
    if device.type == "cuda" and (device.index or 0) >= there:
        seen = f"{there or 'no'} CUDA device{'s' * (there > 1)}"
        raise ParamsError(f"train.device: {name} is asked for, but torch sees {seen}; use auto or cpu")
    if device.type == "cuda" and device.index is None and launched():
        rank = int(os.environ["LOCAL_RANK"])
        if rank >= there:
            raise ParamsError(f"process {rank} finds no GPU of its own, there are {there}; start as many as there are")
        return torch.device("cuda", rank)
    return device


def gpus() -> int:
    """How many can be used. A driver that is too old for this torch has devices to count, but none to use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def pick_precision(name: str, device: torch.device) -> str:
    """`auto` takes bf16 where the device has units for it (CUDA since Ampere, CPUs with AMX or avx512_bf16)."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if has_units else "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """bf16 needs no gradient scaler: its exponent is fp32's."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
