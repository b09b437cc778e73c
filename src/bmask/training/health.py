"""Checks of a running training: losses that are NaN or infinite, collapsed attention, full memory."""

from __future__ import annotations

import math
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bmask.training.distributed import World
from bmask.training.options import LoopOptions

MAX_COLLAPSED = 3  # epochs
CPU_FULL = ("allocate memory", "could not create a primitive")  # torch's allocator and oneDNN raise RuntimeErrors


class Diverged(RuntimeError):
    """The training cannot go on; the message says why and what to change."""


class OutOfMemory(RuntimeError):
    """A step does not fit; the message has the numbers and what to change."""


def summarise(window: list[dict[str, Tensor]], step: int, epoch: int, lr: float, world: World) -> dict:
    """Means over the window and all processes; one transfer from the device.

    Raises:
        Diverged: one is NaN or infinite.
    """
    names = list(window[0])
    means = torch.stack([torch.stack([row[name] for name in names]) for row in window]).double().mean(0)
    world.average([means])
    row = {"step": step, "epoch": epoch, "lr": lr, **dict(zip(names, means.tolist(), strict=True))}
    broken = [name for name in names if not math.isfinite(row[name])]
    if broken:
        raise Diverged(
            f"{', '.join(broken)} became NaN or infinite by step {step} (epoch {epoch});"
            " lower schedule.lr (training starts anew) or set train.precision: fp32 (it goes on from the checkpoint)"
        )
    return row


def collapsed_epochs(history: list[dict], epoch: int, before: int) -> int:
    """Counts epochs in a row whose attention is 0 or 1 everywhere. Raises Diverged at MAX_COLLAPSED."""
    rows = [row for row in history if row["epoch"] == epoch]
    means = {k: np.mean([row[k] for row in rows]) for k in rows[0] if k.startswith("attention_")}
    stuck = {name: mean for name, mean in means.items() if mean < 0.005 or mean > 0.995}
    if not stuck:
        return 0
    if before + 1 >= MAX_COLLAPSED:
        name, mean = next(iter(stuck.items()))
        advice = (
            "the output equals the input: lower w_pixel, w_identity or background_bias"
            if mean < 0.5
            else "the whole photo is replaced: raise w_tv or w_pixel"
        )
        raise Diverged(f"the attention mask collapsed: {name} is {mean:.4f} for {MAX_COLLAPSED} epochs, so {advice}")
    return before + 1


def peak_memory() -> float:
    """The most memory that this process has held, GB.

    Linux's /proc counts this program alone. getrusage is inherited there: a small program that a large one started
    reports the peak of the large one.
    """
    status = Path("/proc/self/status")
    if status.exists() and (own := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(own[1]) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, kB elsewhere


@contextmanager
def memory_explained(options: LoopOptions, device: torch.device, processes: int) -> Iterator[None]:
    """Turns torch's out-of-memory errors into OutOfMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        named = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not named and not any(words in str(error) for words in CPU_FULL):
            raise
        part = options.batch_size // (options.accumulate_steps * processes)
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            has = f"{(total - free) / 2**30:.1f} of its {total / 2**30:.1f} GB are taken"
        else:
            has = f"{peak_memory():.1f} GB were taken"
        smaller = "raise schedule.accumulate_steps (the same gradients), or " if part > 1 else ""
        raise OutOfMemory(
            f"{part} photos of {options.image_size} px at a time take more memory than {device} has ({has});"
            f" {smaller}lower train.image_size, network.filters or network.blocks"
        ) from None
