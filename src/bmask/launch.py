"""A stage in several processes on this machine, as `torchrun --standalone` would start them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from bmask.errors import BmaskError, TrainingError


def in_processes(count: int, stage: Callable[..., None], *args: object) -> None:
    """Runs `stage(*args)` in `count` processes that find each other through torchrun's environment variables.

    One that fails ends the others. Raises the error of the first that failed, by its exit code; what went wrong it has
    said itself.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",  # a container's own name need not resolve
        max_restarts=0,  # a restart is for whoever started us: it goes on from the checkpoint
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, _one)(stage, *args)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        failed = TrainingError(
            f"process {rank} of {count} ended with code {failure.exitcode}, and so all did;"
            " the same command goes on from the last checkpoint"
        )
        failed.exit_code = failure.exitcode if failure.exitcode > 0 else failed.exit_code
        raise failed from None


def _one(stage: Callable[..., None], *args: object) -> None:
    try:
        stage(*args)
    except BmaskError as error:
        print(f"bmask: process {os.environ['RANK']}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
