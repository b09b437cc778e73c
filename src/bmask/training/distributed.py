"""One training in several processes, as torchrun starts them: each works on its share of every batch.

The batch, its draws and the image pool are those of a single process; processes exchange only gradients, fakes and
losses. So N processes compute what one does, up to rounding. Only the first one logs, shows and saves. One all-reduce
per optimizer averages the gradients. DistributedDataParallel does not fit: it expects one forward pass per backward
pass of one module, but here two generators and their discriminators share passes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from bmask.gan.device import launched

COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # longer than the first process needs for samples and checkpoints
FAILURE_DELAY = 3  # seconds; meanwhile the launcher notes the process that caused it and sends its SIGTERMs


class Lost(RuntimeError):
    """Another process of this training is gone, or was never found."""


class World:
    """The processes of this training. The default is this process alone, where every method does nothing."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is the process that logs, shows and saves."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """The rows of a batch that are this process's. Raises ValueError when they cannot be shared equally."""
        if batch % self.size:
            raise ValueError(
                f"schedule.batch_size {batch} cannot be shared by {self.size} processes;"
                f" make it a multiple of {self.size}"
            )
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average(self, tensors: Iterable[Tensor | None]) -> None:
        """Replaces the tensors by their means over all processes."""
        if self.size == 1:
            return
        there = [tensor for tensor in tensors if tensor is not None]
        flat = torch.cat([tensor.flatten() for tensor in there])
        with _raises_lost():
            dist.all_reduce(flat)
        flat.div_(self.size)
        means = flat.split([tensor.numel() for tensor in there])
        torch._foreach_copy_(there, [mean.view_as(one) for mean, one in zip(means, there, strict=True)])

    def gather(self, rows: Tensor) -> Tensor:
        """All processes' rows, concatenated in the order of the processes."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        with _raises_lost():
            dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process. Uses the CPU backend, so it does not wait for the device."""
        if self.size == 1:
            return flag
        count = torch.tensor(int(flag))
        with _raises_lost():
            dist.all_reduce(count)
        return bool(count)

    def broadcast(self, content: bytes) -> bytes:
        """The first process's bytes, in all of them."""
        if self.size == 1:
            return content
        length = torch.tensor(len(content))
        with _raises_lost():
            dist.broadcast(length, 0)
            buffer = np.frombuffer(bytearray(content if self.first else int(length)), np.uint8)
            if length:
                dist.broadcast(torch.from_numpy(buffer), 0)
        return buffer.tobytes()


def launched_processes() -> int:
    """How many processes torchrun has started for this training; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that torchrun's environment describes; this process alone without it."""
    if launched_processes() == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        place = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise Lost(
            f"the {os.environ['WORLD_SIZE']} processes of this training cannot connect at {place}"
            f" ({_first_sentence(error)}); start all with torchrun and one --rdzv-endpoint that each can reach"
        ) from None
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def _raises_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        time.sleep(FAILURE_DELAY)
        raise Lost(
            f"another process of this training is gone or cannot be reached ({_first_sentence(error)});"
            " start all of them again: they go on from the last checkpoint"
        ) from None


def _first_sentence(error: Exception) -> str:
    """The first sentence of torch's message, without its prefix."""
    return re.sub(r"^\[.*?\] ", "", str(error).strip()).partition("\n")[0].partition(". ")[0]
