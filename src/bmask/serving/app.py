"""The server of `bmask serve`: MLflow's scoring protocol with limits, a web page, metrics and health checks.

    POST /invocations   the protocol of `mlflow models serve` (see served.py)
    GET  /              a page that sends photos to /invocations
    GET  /model         name and properties of the model
    GET  /metrics       for Prometheus
    GET  /ping, /health health checks

A request that is too large, too slow or not JSON is refused before any photo is decoded. So is every request while too
many wait. Every error is one sentence that repeats nothing of the request.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bmask.errors import DataError
from bmask.progress import say
from bmask.serving import answering
from bmask.serving.unmasker import Unmasker

# The page loads nothing from other servers, and no other page may embed it.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data: blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # Prometheus's environment variable: the folder of all workers' counts
GRACE = 30  # seconds that running requests get to finish when the server stops
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    megabytes: float = 64.0  # of a request's body
    photos: int = 64  # in a request
    megapixels: float = 200.0  # of all photos in a request
    at_once: int = 1  # requests processed at the same time; each photo then needs some 20 bytes per pixel
    waiting: int = 32  # further requests that are being received or wait
    seconds: float = 30.0  # the longest pause while a body is received
    minutes: float = 3.0  # to receive a whole body


class Server:
    """The HTTP routes that serve one model."""

    def __init__(self, unmasker: Unmasker, name: str, limits: Limits = Limits()):
        self._unmasker, self._name, self._limits = unmasker, _public_name(name), limits
        self._slots = asyncio.Semaphore(limits.at_once)
        self._threads = anyio.CapacityLimiter(limits.at_once)
        self._pending = 0  # requests that were accepted and are not answered yet
        self._metrics = _Metrics()

    def app(self) -> Starlette:
        routes = [
            Route("/", self.page),
            Route("/invocations", self.invocations, methods=["POST"]),
            Route("/model", self.model),
            Route("/metrics", self.metrics),
            *(Route(path, self.health) for path in ("/ping", "/health")),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _broken})

    async def page(self, request: Request) -> Response:
        text = files("bmask.serving").joinpath("page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": POLICY})

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("\n")

    async def model(self, request: Request) -> Response:
        about = {"name": self._name, "image_size": self._unmasker.size, "finds_faces": self._unmasker.finds_faces}
        return JSONResponse(about, headers=HEADERS)

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._metrics.all()), media_type=CONTENT_TYPE_LATEST)

    async def invocations(self, request: Request) -> Response:
        began = time.monotonic()
        try:
            answered = await self._answered(request)
        except HTTPException as error:
            self._metrics.requests.labels(str(error.status_code)).inc()
            raise
        except Exception:
            self._metrics.requests.labels("500").inc()
            raise
        self._metrics.requests.labels("200").inc()
        self._metrics.seconds.observe(time.monotonic() - began)
        return answered

    async def _answered(self, request: Request) -> Response:
        kind, _, rest = request.headers.get("content-type", "").partition(";")
        charset = rest.strip().lower().removeprefix("charset=").strip('"')
        if kind.strip().lower() != "application/json" or charset not in ("", "utf-8"):
            raise HTTPException(415, "Send JSON: the header Content-Type must be application/json, in UTF-8.")
        if self._pending >= self._limits.at_once + self._limits.waiting:
            raise HTTPException(503, "Too many requests are waiting; try again later.", {"Retry-After": "5"})
        self._pending += 1
        try:
            body = await self._body(request)
            async with self._slots:
                if await request.is_disconnected():
                    raise HTTPException(499, "The client has gone.")
                content, done = await anyio.to_thread.run_sync(self._work, body, limiter=self._threads)
        except answering.BadRequest as error:
            raise HTTPException(400, str(error)) from None
        finally:
            self._pending -= 1
        self._metrics.photos(done)
        headers = {**HEADERS, "X-Bmask-Model": quote(self._name, safe=":/@ ")}
        return Response(content, media_type="application/json", headers=headers)

    def _work(self, body: bytes) -> tuple[bytes, list[answering.Done]]:
        """Runs in a thread, so that the server can answer health checks meanwhile."""
        rows, wanted = _parse(body, self._limits.photos)
        records, done = answering.answer(self._unmasker, rows, wanted, self._limits.megapixels)
        return json.dumps({"predictions": records}).encode(), done

    async def _body(self, request: Request) -> bytes:
        most = round(self._limits.megabytes * 1e6)
        large = HTTPException(413, f"The request is larger than {self._limits.megabytes:g} MB; send less at a time.")
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > most:
            raise large
        parts, size, stream = [], 0, request.stream()
        try:
            async with asyncio.timeout(60 * self._limits.minutes):
                while True:
                    part = await asyncio.wait_for(anext(stream), self._limits.seconds)
                    parts.append(part)
                    if (size := size + len(part)) > most:
                        raise large
        except StopAsyncIteration:
            return b"".join(parts)
        except TimeoutError:
            raise HTTPException(408, "The request came too slowly; send less at a time.") from None
        except ClientDisconnect:
            raise HTTPException(499, "The client has gone.") from None


def run(unmasker: Unmasker, name: str, limits: Limits, listening: socket.socket) -> None:
    """Serves a socket until SIGTERM; then running requests get GRACE seconds to finish."""
    import uvicorn

    app = Server(unmasker, name, limits).app()
    uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE)).run([listening])


def listen(host: str, port: int) -> socket.socket:
    """Opens the server's socket and prints the page's address. Raises DataError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)  # works before its address is printed
    except (OSError, OverflowError) as error:
        raise DataError(f"cannot listen on {host}, port {port} ({error}); choose another --port or --host") from None
    say(f"the page: http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}")
    return listening


def _parse(body: bytes, max_photos: int) -> tuple[list[Any], answering.Wanted]:
    """The rows and params of a request, in any JSON format that MLflow accepts. Raises answering.BadRequest."""
    try:
        tree = json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise answering.BadRequest("The request is no JSON in UTF-8.") from None
    if not isinstance(tree, dict):
        raise answering.BadRequest("The request is no JSON object.")
    rows = _rows(tree)
    if len(rows) > max_photos:
        raise answering.BadRequest(f"The request holds {len(rows)} photos; send at most {max_photos} at a time.")
    return rows, answering.wanted(tree.get("params"))


def _rows(tree: dict[str, Any]) -> list[Any]:
    shapes = 'send {"inputs": {"image": ["..."]}}, with photos as base64 strings'
    keys = [key for key in ("inputs", "dataframe_records", "dataframe_split", "instances") if key in tree]
    if len(keys) != 1 or keys == ["instances"]:
        raise answering.BadRequest(f"The request must hold inputs, dataframe_records or dataframe_split; {shapes}.")
    match tree[keys[0]]:
        case {"columns": [*columns], "data": [*data]} if keys == ["dataframe_split"] and "image" in columns:
            place = columns.index("image")
            return [row[place] if isinstance(row, list) and len(row) > place else None for row in data]
        case {"image": image} if keys == ["inputs"]:
            return image if isinstance(image, list) else [image]
        case [*records] if keys != ["dataframe_split"] and all(isinstance(row, dict) for row in records):
            return [row.get("image") for row in records] if any("image" in row for row in records) else []
    raise answering.BadRequest(f"The request holds no photos in a column image; {shapes}.")


def _public_name(name: str) -> str:
    """The model's name for clients, without the server's folders."""
    path = Path(name)
    return name if ":/" in name else path.parent.name or path.name if path.suffix else path.name


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are not valid JSON


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "BAD_REQUEST" if error.status_code < 500 else "TEMPORARILY_UNAVAILABLE"
    tree = {"error_code": code, "message": error.detail}
    return JSONResponse(tree, error.status_code, headers={**HEADERS, **(error.headers or {})})


async def _broken(request: Request, error: Exception) -> Response:
    tree = {"error_code": "INTERNAL_ERROR", "message": "The server failed to answer this request; see its log."}
    return JSONResponse(tree, 500, headers=HEADERS)


class _Metrics:
    """The Prometheus metrics of a server."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("bmask_requests", "Requests by their status.", ["status"], registry=own)
        self.seconds = Histogram("bmask_request_seconds", "Time of requests that were answered.", registry=own)
        self._photos = Counter("bmask_photos", "Photos answered.", registry=own)
        self._faces = Histogram("bmask_faces_per_photo", "Faces.", buckets=(0, 1, 2, 3, 5, 10, 20, 50), registry=own)
        self._masked = Counter("bmask_faces", "Faces by whether a mask was found.", ["masked"], registry=own)
        shares = (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
        self._changed = Histogram(
            "bmask_changed_share", "Share of a photo's pixels that were changed.", buckets=shares, registry=own
        )
        self._shows = Histogram(
            "bmask_mask_shows",
            "The judge's certainty that a mask shows in a face of the result; above 0.5 counts as a mask.",
            ["changed"],
            buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 1),
            registry=own,
        )
        self.latest = Gauge(
            "bmask_last_answer_seconds",
            "Unix time of the last answered request.",
            registry=own,
            multiprocess_mode="mostrecent",
        )

    def all(self) -> CollectorRegistry:
        """The metrics of all workers, if there are several (workers.py)."""
        if METRICS_FOLDER not in os.environ:
            return self.registry
        MultiProcessCollector(together := CollectorRegistry())
        return together

    def photos(self, done: list[answering.Done]) -> None:
        for photo in done:
            self._photos.inc()
            self._faces.observe(len(photo.faces))
            self._changed.observe(photo.changed)
            for face in photo.faces:
                self._masked.labels({True: "yes", False: "no", None: "unknown"}[face.masked]).inc()
                if face.mask_shows is not None:
                    self._shows.labels("no" if face.masked is False else "yes").observe(face.mask_shows)
        self.latest.set_to_current_time()
