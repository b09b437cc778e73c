"""Several server processes behind one port: one that dies takes its own requests along, and another takes its place."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.applications import Starlette
from uvicorn.config import STARTUP_FAILURE

from bmask.errors import BmaskError, DataError
from bmask.progress import say
from bmask.serving.app import COUNTED, GRACE, Limits, Server
from bmask.serving.unmasker import Unmasker

GIVEN = "BMASK_SERVE"  # the variable by which a worker learns what to serve, as JSON


def run(file: Path, engine: str, name: str, limits: Limits, listening: socket.socket, workers: int) -> None:
    """Answers on a socket until it is stopped. Each worker has a model of its own, some 200 MB without PyTorch.

    Raises DataError where the workers cannot serve it.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    with TemporaryDirectory() as counted:
        given = {"file": str(file), "engine": engine, "name": name, "limits": asdict(limits)}
        os.environ |= {GIVEN: json.dumps(given), COUNTED: counted}
        config = uvicorn.Config(
            f"{__name__}:app",
            factory=True,
            workers=workers,
            log_level="warning",
            timeout_graceful_shutdown=GRACE,
            timeout_worker_healthcheck=60,  # a worker that is busy with a large photo is not hung
        )
        supervisor = Multiprocess(config, [listening])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise DataError(f"{name} cannot be served; the line above says why")


def app() -> Starlette:
    """What a worker serves. Ends it where there is nothing to serve, and so the others."""
    given = json.loads(os.environ[GIVEN])
    try:
        unmasker = Unmasker(given["file"], engine=given["engine"], watch=True)
    except (BmaskError, ImportError) as error:
        say(f"bmask: {error}")
        sys.exit(STARTUP_FAILURE)
    return Server(unmasker, given["name"], Limits(**given["limits"])).app()
