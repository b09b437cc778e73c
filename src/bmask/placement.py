"""Where a training runs: on which device, in which precision, in how many processes of how many threads.

`auto` depends only on the machine and the batch, so a machine gives the same answer every time. The place changes only
the last bits of a result. So a training may go on in another place, and the fingerprint leaves the place out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bmask.gan.device import fast_precision, pick_device
from bmask.parallel import cores, threads
from bmask.training.distributed import launched_processes

if TYPE_CHECKING:
    from bmask.params.sections import Schedule, Train

UNPAIRED = {"unpaired": 1.0}  # needs of a system that learns from unpaired photos


@dataclass(frozen=True)
class Placement:
    device: str  # cpu, cuda, cuda:1
    precision: str
    processes: int
    threads: int  # of each process
    why: str  # the reason for each `auto`

    def noted(self) -> dict:
        """What the last bits of a result depend on, as checkpoints store it."""
        named = {"device": torch.device(self.device).type, "precision": self.precision}
        return named | {"processes": self.processes, "threads": self.threads}

    def __str__(self) -> str:
        return in_words(vars(self)) + (f" ({self.why})" if self.why else "")


def in_words(noted: Mapping) -> str:
    """What `noted` gives, in words: `bf16 on cuda in 2 processes of 1 thread`."""
    processes, each = noted["processes"], noted["threads"]
    group = "1 process" if processes == 1 else f"{processes} processes"
    return f"{noted['precision']} on {noted['device']} in {group} of {each} thread{'s' if each > 1 else ''}"


def place(
    train: Train, schedule: Schedule, needs: Mapping[str, float] = UNPAIRED, couples_samples: bool = False
) -> Placement:
    """Resolves each `auto`; all else is taken from the params or torchrun's environment.

    Args:
        needs: of the system: what a batch carries, with its share of `batch_size`; each process works on equal parts.
        couples_samples: the system's losses compare photos of a batch, so no process may work on a part of one.

    Raises ParamsError when the device is not there.
    """
    device = pick_device(train.device)
    precision: str = train.precision
    processes, reasons = train.processes, []
    if precision == "auto":
        precision, reason = fast_precision(device)
        reasons.append(f"{precision} since {reason}")
    here = launched = launched_processes()
    if launched > 1:
        processes, here = launched, int(os.environ.get("LOCAL_WORLD_SIZE") or launched)
    elif processes == "auto":
        photos = (
            math.gcd(*(round(share * schedule.batch_size) for share in needs.values())) // schedule.accumulate_steps
        )
        processes, reason = _processes(train, photos, device, couples_samples)
        reasons.append(f"{'one process' if processes == 1 else f'{processes} processes'} since {reason}")
    each = threads(train.threads, here if launched > 1 else processes)
    return Placement(str(device), precision, processes, each, ", ".join(reasons))


def largest_share(photos: int, workers: int) -> int:
    """The largest number of processes, up to `workers`, that can share the photos equally."""
    return next(count for count in range(max(1, min(photos, workers)), 0, -1) if photos % count == 0)


def _processes(train: Train, photos: int, device: torch.device, couples_samples: bool) -> tuple[int, str]:
    """One process per GPU, or per CPU core: faster than threads, above all beside other programs."""
    if couples_samples:
        return 1, "its losses compare photos of a batch"
    if device.type == "cuda":
        workers = torch.cuda.device_count() if device.index is None else 1
        there = f"there {'is' if workers == 1 else 'are'} {_counted(workers, 'GPU')}"
    else:
        workers = cores() // (1 if train.threads == "auto" else train.threads)
        there = f"there {'is' if cores() == 1 else 'are'} {_counted(cores(), 'core')}"
        if train.threads != "auto":
            there += f" and train.threads is {train.threads}"
    return largest_share(photos, workers), f"{there} for {_counted(photos, 'photo')} at a time"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
