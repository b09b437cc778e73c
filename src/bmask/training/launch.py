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

SHUTDOWN_TIMEOUT = 300  # seconds after SIGTERM, for the first process to save; the sender may kill us sooner


def in_processes(count: int, stage: Callable[..., None], *args: object) -> None:
    """Runs `stage(*args)` in `count` processes that find each other through torchrun's environment variables.

    If one fails, the others are ended and its error is raised here, as if there were one process.

    Raises:
        BmaskError: the first process that failed raised it.
        TrainingError: that process was killed, or printed the traceback of a bug.
        Preempted: SIGTERM came and was passed on to all. KeyboardInterrupt: the same with SIGINT.
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
        local_addr="127.0.0.1",  # a container's host name may not resolve
        max_restarts=0,  # whoever started us can restart: the training goes on from its checkpoint
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(),
        shutdown_timeout=SHUTDOWN_TIMEOUT,
    )
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # both repeat what we report about ended processes
    with tempfile.TemporaryDirectory() as messages:
        try:
            elastic_launch(config, _run_and_report)(messages, stage, *args)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise _reported(Path(messages), rank) or _unreported(rank, count, failure.exitcode) from None
        except SignalException as stop:
            if stop.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            ended = f"{stop.sigval.name} ended all {count} processes; the same command goes on from what they saved"
            raise _reported(Path(messages), 0) or Preempted(ended) from None


def _run_and_report(messages: str, stage: Callable[..., None], *args: object) -> None:
    """Runs in each process. Writes an error that a user can fix to a file, for the launcher to raise."""
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
        Path(messages, f"{os.environ['RANK']}.json").write_text(json.dumps(said), encoding="utf-8")
        sys.exit(told[1])


def _reported(messages: Path, rank: int) -> BmaskError | None:
    try:
        said = json.loads((messages / f"{rank}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    error = getattr(errors, said["kind"], BmaskError)(said["told"])
    error.exit_code = said["code"]  # also for classes outside of bmask.errors
    return error


def _unreported(rank: int, count: int, code: int) -> TrainingError:
    """The error for a process that reported none."""
    how = f"ended with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    memory = " (as the kernel does when memory runs out)" if code == -signal.SIGKILL else ""
    failed = TrainingError(
        f"process {rank} of {count} {how}{memory}, so all were ended; the same command goes on from the last checkpoint"
    )
    failed.exit_code = code if code > 0 else failed.exit_code
    return failed
