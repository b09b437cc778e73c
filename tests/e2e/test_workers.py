"""`bmask serve --workers 2` under load, while one of the processes is killed."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from servers import serving
from tiny import write_generator

pytestmark = pytest.mark.slow
CLIENTS, REQUESTS = 4, 80


def workers() -> list[psutil.Process]:
    """The server's worker processes: descendants of this process that multiprocessing spawned."""
    found = [child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    return sorted(found, key=lambda process: process.create_time())


def counted(address: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        found = re.search(r'^bmask_requests_total\{status="200"\} (\S+)', answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_worker_that_is_killed_loses_its_own_requests_alone_and_is_replaced(tmp_path):
    generator = write_generator(tmp_path / "generator")
    Image.fromarray(np.full((400, 400, 3), 120, np.uint8)).save(content := io.BytesIO(), "PNG")
    body = json.dumps({"inputs": {"image": [base64.b64encode(content.getvalue()).decode()]}}).encode()
    command = ["bmask", "serve", "--model", str(generator), "--workers", "2", "--engine", "pytorch"]
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    with serving(command, "/ping", tmp_path, environment) as address:

        def ask(number: int) -> bool:
            if number == REQUESTS // 4:
                os.kill(workers()[0].pid, signal.SIGKILL)
            request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    return bool(json.load(answer)["predictions"])
            except OSError:
                return False

        before = {process.pid for process in workers()}
        assert len(before) == 2
        with ThreadPoolExecutor(CLIENTS) as pool:
            answered = list(pool.map(ask, range(REQUESTS)))
        assert sum(answered) >= REQUESTS - CLIENTS
        assert all(answered[REQUESTS // 2 :])
        deadline = time.monotonic() + 120
        while len({process.pid for process in workers()} - before) < 1:
            assert time.monotonic() < deadline, "no worker took the dead one's place"
            time.sleep(0.5)
        # The count includes that of the dead process, which may have counted an answer that was lost.
        assert sum(answered) <= counted(address) <= sum(answered) + CLIENTS


def test_a_model_that_cannot_be_served_ends_it_with_the_reason(tmp_path):
    (tmp_path / "generator.safetensors").write_bytes(b"damaged")
    command = [sys.executable, "-m", "bmask", "serve", "--model", str(tmp_path), "--workers", "2", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 3
    assert "generator.safetensors is not a safetensors file" in done.stderr
    assert "Traceback" not in done.stderr
