"""The server under full load for a long time: no failures, no photo in an error message, constant memory.

BMASK_SOAK_MINUTES sets the duration, 20 by default.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import random
import socket
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from PIL import Image

from bmask.synthetic import draw_face
from hostile import corpus
from servers import serving

pytestmark = pytest.mark.slow
MINUTES = float(os.environ.get("BMASK_SOAK_MINUTES", "20"))
CLIENTS, GROWTH = 4, 1.1  # GROWTH: of memory, from a quarter of the time to the end


def asked(photo: bytes, **params: object) -> bytes:
    return json.dumps({"inputs": {"image": [base64.b64encode(photo).decode()]}, "params": params}).encode()


def bodies() -> list[bytes]:
    """Photos of several sizes with and without faces, files that are no photos, and broken, deep or large JSON."""
    found = []
    for seed, (height, width) in enumerate([(240, 320), (600, 500), (1200, 1600), (64, 64)]):
        scene = np.full((height, width, 3), 100 + seed, np.uint8)
        side = min(height, width) // 2
        face = Image.fromarray(draw_face(seed, 128, "surgical").masked).resize((side, side))
        scene[:side, :side] = np.asarray(face)
        for kind in ("JPEG", "PNG", "WEBP"):
            Image.fromarray(scene).save(content := io.BytesIO(), kind)
            found.append(asked(content.getvalue(), attention=seed == 0))
    found += [asked(case.content) for case in corpus() if case.content is not None and len(case.content) < 2_000_000]
    depth = 100_000
    found += [b"[" * depth + b"]" * depth, b'{"inputs": ' * 2000, b"\xff\xfe", b"", b'{"inputs": {"image": "%%%"}}']
    found += [b'{"inputs": {"image": ["' + b"A" * 5_000_000 + b'"]}}', asked(b"x", faces="NaN", attention=3)]
    return found


@pytest.fixture
def address(tmp_path):
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    with serving(["bmask", "serve", "--model", "photos-128"], "/ping", tmp_path, environment) as address:
        yield address


def cut(address: str, body: bytes) -> None:
    """Closes a connection in the middle of its request."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body[: len(body) // 2])


def test_it_answers_all_and_its_memory_stays(address):
    (server,) = (child for child in psutil.Process().children() if "serve" in child.cmdline())
    all_bodies, statuses, memory = bodies(), Counter[int](), []
    end = time.monotonic() + 60 * MINUTES

    def client(seed: int) -> None:
        draws = random.Random(seed)
        for count in itertools.count():
            if time.monotonic() > end:
                return
            body = draws.choice(all_bodies)
            if draws.random() < 0.05:
                cut(address, body)
                continue
            request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=300) as answer:
                    answer.read()
                    statuses[answer.status] += 1
            except urllib.error.HTTPError as error:
                content = error.read()
                assert error.code < 500 or error.code == 503, content
                assert len(content) < 500
                statuses[error.code] += 1
            if seed == 0 and count % 20 == 0:
                memory.append((time.monotonic(), server.memory_info().rss))

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    quarter = [rss for at, rss in memory if began + 15 * MINUTES <= at < began + 30 * MINUTES]
    late = [rss for at, rss in memory if at >= began + 45 * MINUTES]
    megabytes = [round(float(np.median(rss)) / 1e6) for rss in (quarter, late)]
    print(f"{sum(statuses.values())} requests, {dict(statuses)}; {megabytes} MB after a quarter and at the end")
    assert statuses[200] > 10
    assert statuses[400] > 10
    assert np.median(late) < GROWTH * np.median(quarter)
