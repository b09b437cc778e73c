"""A stub of Kubeflow's API server, and answers of other servers that users may name instead."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

IMAGE = "registry.example/bmask:0123"
Pipeline = Callable[..., tuple[int, str, str]]  # `bmask pipeline ...`: exit code, stdout, stderr
COMMANDS = {"submit": ["submit"], "schedule": ["schedule", "--cron", "0 0 3 * * *"]}
# Answers of other servers, and of an authentication proxy: status, headers, body.
PAGE = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>Kubeflow Central Dashboard</title>")
STRANGERS = {
    "a page": PAGE,
    "a login": (302, {"Location": "/dex/auth?client_id=kubeflow"}, b""),
    "nothing": (200, {"Content-Type": "application/json"}, b""),
    "another API": (200, {"Content-Type": "application/json"}, b'{"status": "ok"}'),
    "a guard": (401, {}, b"Jwt is missing"),
}


class Stub(ThreadingHTTPServer):
    """Answers as Kubeflow's published API describes, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.refuse = 0  # answer everything with this status
        self.stranger: tuple[int, dict[str, str], bytes] | None = None  # the answer in place of Kubeflow's ...
        self.known: tuple[str, ...] = ()  # ... except on these paths
        # States of the run and of its tasks, one entry per request.
        self.states: list[tuple[str, dict[str, str]]] = []

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def bodies(self, method: str, path: str) -> list[Any]:
        return [body for m, p, _, body in self.asked if (m, p.partition("?")[0]) == (method, path)]


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body: Any) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        path = self.path.partition("?")[0].removeprefix("/apis/v2beta1/")
        status, tree = 200, {}
        if self.server.stranger and path not in self.server.known:
            login = self.path.startswith("/dex")
            return self.send(*(PAGE if login else self.server.stranger))
        if self.server.refuse:
            status, tree = self.server.refuse, {"error": "not you"}
        elif path == "healthz":
            tree = {"multi_user": False}
        elif path == "experiments":
            made = {"experiment_id": "e1", "display_name": "bmask"}
            tree = made if self.command == "POST" else {"experiments": [made], "total_size": 1}
        elif path == "runs":
            tree = {"run_id": "r1", "display_name": body["display_name"]}
        elif path == "recurringruns":
            tree = {"recurring_run_id": "s1"}
        elif path == "runs/r1":
            state, tasks = self.server.states.pop(0)
            if state == "GONE":
                status = 503
            details = [{"task_id": name, "display_name": name, "state": s} for name, s in tasks.items()]
            tree = {"run_id": "r1", "state": state, "run_details": {"task_details": details}}
        else:
            status = 404
        self.send(status, {"Content-Type": "application/json"}, json.dumps(tree).encode())

    def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def kubeflow_server() -> Iterator[Stub]:
    stub = Stub()
    thread = threading.Thread(target=stub.serve_forever, daemon=True)
    thread.start()
    yield stub
    stub.shutdown()
    stub.server_close()
    thread.join()
