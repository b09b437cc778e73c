"""A stage in several processes on this machine, as `torchrun --standalone` would start them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import uuid
from collections.abc import Callable

from bmask.errors import Preempted, TrainingError, explained

PATIENCE = 300  # seconds after SIGTERM, for the first process to save; who sent it has a limit of its own


def in_processes(count: int, stage: Callable[..., None], *args: object) -> None:
    """Runs `stage(*args)` in `count` processes that find each other through torchrun's environment variables.

    One that fails ends the others; what went wrong it has said itself.

    Raises:
        TrainingError: one failed; with the exit code of the first that did.
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
    try:
        elastic_launch(config, _one)(stage, *args)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        how = f"ended with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
        failed = TrainingError(
            f"process {rank} of {count} {how}, and so all ended; the same command goes on from the last checkpoint"
        )
        failed.exit_code = code if code > 0 else failed.exit_code
        raise failed from None
    except SignalException as stop:
        if stop.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise Preempted(
            f"{stop.sigval.name} ended all {count} processes; the same command goes on from what they saved"
        ) from None


def _one(stage: Callable[..., None], *args: object) -> None:
    try:
        stage(*args)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        told = explained(error)
        if told is None:
            traceback.print_exc()
        else:
            print(f"bmask: process {os.environ['RANK']}: {told[0]}", file=sys.stderr, flush=True)
        sys.exit(told[1] if told else 1)
