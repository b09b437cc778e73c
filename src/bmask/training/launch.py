"""A stage in several processes on this machine, as `torchrun --standalone` would start them."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

from bmask import errors
from bmask.errors import BmaskError, Preempted, TrainingError, explained

PATIENCE = 300  # seconds after SIGTERM, for the first process to save; the sender may kill us sooner


def in_processes(count: int, stage: Callable[..., None], *args: object) -> None:
    """Runs `stage(*args)` in `count` processes that find each other through torchrun's environment variables.

    One that fails ends the others, and what it raised is raised here, as if there were one process.

    Raises:
        BmaskError: what the first that failed raised.
        TrainingError: it was killed, or ended by a bug, whose traceback it has printed.
        Preempted: SIGTERM came and was passed on to all. KeyboardInterrupt: so did SIGINT.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",  # a container's own name need not resolve
        max_restarts=0,  # a restart is for whoever started us: it goes on from the checkpoint
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(),
        shutdown_timeout=PATIENCE,
    )
    for chatty in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # tells of our processes' ends what they and we tell
    with tempfile.TemporaryDirectory() as words:
        try:
            elastic_launch(config, _one)(words, stage, *args)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise _said(Path(words), rank) or _ended(rank, count, failure.exitcode) from None
        except SignalException as stop:
            if stop.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            ended = f"{stop.sigval.name} ended all {count} processes; the same command goes on from what they saved"
            raise _said(Path(words), 0) or Preempted(ended) from None


def _one(words: str, stage: Callable[..., None], *args: object) -> None:
    """One of the processes. An error that a user can mend goes into a file, for the launcher to raise."""
    try:
        stage(*args)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        told = explained(error)
        if told is None:
            traceback.print_exc()
            sys.exit(1)
        said = {"kind": type(error).__name__, "told": told[0], "code": told[1]}
        Path(words, f"{os.environ['RANK']}.json").write_text(json.dumps(said), encoding="utf-8")
        sys.exit(told[1])


def _said(words: Path, rank: int) -> BmaskError | None:
    try:
        said = json.loads((words / f"{rank}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    error = getattr(errors, said["kind"], BmaskError)(said["told"])
    error.exit_code = said["code"]  # of a class that stands elsewhere too
    return error


def _ended(rank: int, count: int, code: int) -> TrainingError:
    """For a process that left no words."""
    how = f"ended with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    memory = " (as the kernel does where memory ends)" if code == -signal.SIGKILL else ""
    failed = TrainingError(
        f"process {rank} of {count} {how}{memory}, and so all ended; the same command goes on from the last checkpoint"
    )
    failed.exit_code = code if code > 0 else failed.exit_code
    return failed
