"""The choice of device and precision."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

from bmask.errors import ParamsError

CPUINFO = Path("/proc/cpuinfo")


def launched() -> bool:
    """Whether torchrun started this process, so that RANK, LOCAL_RANK and WORLD_SIZE describe it.

    Other launchers, such as SLURM, may set these variables too, but not torchrun's own variable.
    """
    return torch.distributed.is_torchelastic_launched()


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is a GPU. Each process of a training takes its own GPU, by LOCAL_RANK.

    Raises ParamsError when the named device does not exist.
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
            raise ParamsError(f"process {rank} has no GPU of its own; start only as many processes as GPUs ({there})")
        return torch.device("cuda", rank)
    return device


def gpus() -> int:
    """The number of usable GPUs. With a driver too old for this torch, GPUs are counted but cannot be used."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def pick_precision(name: str, device: torch.device) -> str:
    """`auto` takes bf16 where the device is faster in it; any other name is returned as it is."""
    return fast_precision(device)[0] if name == "auto" else name


def fast_precision(device: torch.device) -> tuple[str, str]:
    """bf16 or fp32, whichever is faster on the device, and the reason. A rule decides, not timing: it never changes."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU has bf16 units"
        return "fp32", "this GPU has no bf16 units"
    if torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx():  # present, and the kernel permits its use
        return "bf16", "this processor has AMX"
    if not torch.cpu._is_avx512_bf16_supported():
        return "fp32", "this processor has no bf16 units"
    # With avx512_bf16 but no AMX, AMD (from Zen 4 on) is twice as fast in bf16, Intel is slower: docs/results.md.
    if _vendor() == "AuthenticAMD":
        return "bf16", "this AMD processor has avx512_bf16"
    return "fp32", "this processor has avx512_bf16 without AMX, which is slower"


def _vendor() -> str:
    """The processor's vendor_id; empty where the system has no /proc/cpuinfo."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("vendor_id")), "")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """bf16 needs no gradient scaler, since its exponents have the range of fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
