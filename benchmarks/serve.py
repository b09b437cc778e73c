"""Times serving: bmask's engine against plain PyTorch in fp32 with the detector in OpenCV; the server under load.

    python benchmarks/serve.py                        # drawn faces in 640 x 480 photos, the network that ships
    python benchmarks/serve.py --photos path/to/photos

The first table alternates both in one process: the network alone, then bytes to bytes (a base64 photo to a base64
PNG). The second is of a server process: time until it answers, one client, four clients, peak memory.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from pairing import Paired, pair, table
from PIL import Image

from bmask.compiled import Compiled
from bmask.faces import network
from bmask.parallel import cores
from bmask.serving import answering, engines
from bmask.serving.exporting import export
from bmask.serving.unmasker import Unmasker
from bmask.synthetic import draw_face
from bmask.tracking.resolving import SHIPPED, resolve

OUTPUTS = ("537", "538", "539", "540")  # outputs of the detector's network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SHIPPED)
    parser.add_argument("--photos", type=Path, help="a folder, of which the first 40 photos are used")
    parser.add_argument("--runs", type=int, default=15, help="number of pairs")
    parser.add_argument("--requests", type=int, default=120, help="requests to the server for each number of clients")
    args = parser.parse_args()
    file, photos = resolve(args.model), _photos(args.photos)
    torch.set_num_threads(cores())
    with TemporaryDirectory() as folder:
        exported = export(file, Path(folder))
        rows = [_row(name, found) for name, found in _paired(file, exported, photos, args.runs)]
    print(table(rows), flush=True)
    print()
    print(table([_served(engine, args.model, photos, args.requests) for engine in ("pytorch", "openvino")]))


def _photos(folder: Path | None) -> list[str]:
    """Photos in base64, as a client sends them."""
    if folder:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())[:40]
        return [base64.b64encode(path.read_bytes()).decode() for path in paths]
    found, rng = [], np.random.default_rng(3)
    for seed in range(20):
        photo = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
        photo[130:350, 200:420] = draw_face(seed, 220, "surgical").masked
        Image.fromarray(photo).save(content := BytesIO(), "JPEG", quality=90)
        found.append(base64.b64encode(content.getvalue()).decode())
    return found


def _paired(file: Path, exported: Path, photos: list[str], runs: int) -> list[tuple[str, Paired]]:
    plain = Unmasker(file, device="cpu", precision="fp32", engine="pytorch")
    ours = Unmasker(exported, device="cpu")
    square = np.random.default_rng(1).integers(0, 256, (1, ours.size, ours.size, 3), np.uint8)

    detector = network._network(network.weights())
    opencv = _opencv()

    def translated(unmasker: Unmasker) -> None:
        for _ in range(10):
            unmasker.engine(square)

    def answered(unmasker: Unmasker, detects: Compiled) -> None:
        network._networks[network.weights()] = detects
        for photo in photos:
            answering.answer(unmasker, [photo])

    alone = pair(partial(translated, plain), partial(translated, ours), runs, "cpu")
    fewer = max(3, runs // 3)
    whole = pair(partial(answered, plain, opencv), partial(answered, ours, detector), fewer, "cpu")
    found = [("the network alone", alone), ("bytes to bytes", whole)]
    for each, count in zip(found, (10, len(photos)), strict=True):
        for times in (each[1].plain, each[1].ours):
            times[:] = [1e3 * seconds / count for seconds in times]
    return found


def _opencv() -> Compiled:
    """The detector's network in OpenCV, with the interface of ours."""

    class Plain(Compiled):
        def __init__(self) -> None:
            self._network = cv2.dnn.readNetFromONNX(str(network.weights()))

        def __call__(self, x: np.ndarray) -> list[np.ndarray]:
            self._network.setInput(x)
            return list(self._network.forward(OUTPUTS))

    return Plain()


def _row(name: str, found: Paired) -> dict[str, object]:
    summary = found.summary()
    names = {"plain_s": "plain, ms", "s_per_step": "ours, ms", "ratio": "ratio", "ratio_min": "from", "ratio_max": "to"}
    return {"what": name, **{told: summary[key] for key, told in names.items()}}


def _served(engine: engines.Name, model: str, photos: list[str], requests: int) -> dict[str, object]:
    began = time.monotonic()
    command = [sys.executable, "-m", "bmask", "serve", "--model", model, "--engine", engine, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        port = next(int(line.rpartition(":")[2]) for line in server.stderr if "the page:" in line)
        first = time.monotonic()
        _ask(port, photos[0])
        cold = first - began, time.monotonic() - began
        for photo in photos[:5]:
            _ask(port, photo)
        alone, single = _load(port, photos, requests, 1)
        four, throughput = _load(port, photos, requests, 4)
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
        peak = next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM"))
    finally:
        server.terminate()
        server.wait()
    return {
        "engine": engine,
        "answers after, s": cold[0],
        "first photo after, s": cold[1],
        "one client, ms": 1e3 * statistics.median(alone),
        "photos a second": single,
        "four clients, photos a second": throughput,
        "of one client's": throughput / single,
        "p95, ms": 1e3 * statistics.quantiles(four, n=20)[-1],
        "p95 / one client": statistics.quantiles(four, n=20)[-1] / statistics.median(alone),
        "MB": peak,
    }


def _load(port: int, photos: list[str], requests: int, clients: int) -> tuple[list[float], float]:
    """Seconds of each request, and requests a second."""
    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        times = list(pool.map(lambda index: _ask(port, photos[index % len(photos)]), range(requests)))
    return times, requests / (time.monotonic() - began)


def _ask(port: int, photo: str) -> float:
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    body = json.dumps({"inputs": {"image": [photo]}})
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"the server answered with status {answer.status}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
