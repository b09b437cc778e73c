"""Several server processes behind one port: one that dies takes its own requests along, and another takes its place."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.applications import Starlette

from bmask.serving.app import GRACE, Limits, Server
from bmask.serving.unmasker import Unmasker

GIVEN = "BMASK_SERVE"  # the variable by which a worker learns what to serve, as JSON
COUNTED = "PROMETHEUS_MULTIPROC_DIR"  # the folder where workers keep their counts; the library's own variable


def run(file: Path, engine: str, name: str, limits: Limits, listening: socket.socket, workers: int) -> None:
    """Answers on a socket until it is stopped. Each worker has a model of its own, some 200 MB without PyTorch."""
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
        Multiprocess(config, [listening]).run()


def app() -> Starlette:
    """What a worker serves."""
    given = json.loads(os.environ[GIVEN])
    unmasker = Unmasker(given["file"], engine=given["engine"])
    return Server(unmasker, given["name"], Limits(**given["limits"])).app()
