"""Several server processes behind one port: if one dies, only its requests fail, and a new process replaces it."""

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
from bmask.serving.app import GRACE, METRICS_FOLDER, Limits, Server
from bmask.serving.unmasker import Unmasker

SERVED_VARIABLE = "BMASK_SERVE"  # the environment variable that tells a worker what to serve, as JSON


def run(file: Path, engine: str, name: str, limits: Limits, listening: socket.socket, workers: int) -> None:
    """Serves a socket with several workers until stopped. Each loads its own model, some 200 MB without PyTorch.

    Raises DataError if the workers cannot serve the model.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    with TemporaryDirectory() as counted:
        given = {"file": str(file), "engine": engine, "name": name, "limits": asdict(limits)}
        os.environ |= {SERVED_VARIABLE: json.dumps(given), METRICS_FOLDER: counted}
        config = uvicorn.Config(
            f"{__name__}:app",
            factory=True,
            workers=workers,
            log_level="warning",
            timeout_graceful_shutdown=GRACE,
            timeout_worker_healthcheck=60,  # a worker may be busy with a large photo
        )
        supervisor = Multiprocess(config, [listening])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise DataError(f"{name} cannot be served; the line above says why")


def app() -> Starlette:
    """Creates a worker's server. If the model cannot be opened, exits with the code that ends all workers."""
    given = json.loads(os.environ[SERVED_VARIABLE])
    try:
        unmasker = Unmasker(given["file"], engine=given["engine"], watch=True)
    except (BmaskError, ImportError) as error:
        say(f"bmask: {error}")
        sys.exit(STARTUP_FAILURE)
    return Server(unmasker, given["name"], Limits(**given["limits"])).app()
