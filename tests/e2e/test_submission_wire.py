"""A wire test: the HTTP requests that submitting makes. The server is a stub, so this proves the format and no more."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bmask.errors import PipelineError
from bmask.kubeflow import remote
from bmask.kubeflow.remote import Target
from bmask.params import load_params

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "registry.example/bmask:0123"


class Stub(ThreadingHTTPServer):
    """Answers like Kubeflow's API server, as far as its published API says, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.refuse = 0  # answer everything with this status
        self.states: list[
            tuple[str, dict[str, str]]
        ] = []  # of the run and its tasks, one for each time it is asked for

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
        content = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))  # kfp keeps a context file there
    stub = Stub()
    thread = threading.Thread(target=stub.serve_forever, daemon=True)
    thread.start()
    yield stub
    stub.shutdown()
    stub.server_close()
    thread.join()


def test_a_run_carries_the_pipeline_with_the_image_and_the_changed_params(server, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "sesame")
    params = load_params("params.yaml", ["train.seed=5", "cluster.gpus=2"])
    assert remote.submit(params, IMAGE, Target(server.host, service_account="runner"), "unmask now") == "r1"
    (body,) = server.bodies("POST", "/apis/v2beta1/runs")
    assert body["display_name"] == "unmask now"
    assert body["experiment_id"] == "e1"
    assert body["service_account"] == "runner"
    spec = body["pipeline_spec"]
    executors = spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}
    defaults = spec["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert defaults["train"]["defaultValue"]["seed"] == 5
    assert defaults["gpus"]["defaultValue"] == 2
    settings = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert settings["exec-train"]["securityContext"]["runAsNonRoot"]
    tokens = {headers.get("authorization", headers.get("Authorization")) for _, _, headers, _ in server.asked}
    assert tokens == {"Bearer sesame"}
    assert "sesame" not in json.dumps([body for *_, body in server.asked])


def test_a_token_file_goes_before_the_variable(server, monkeypatch, tmp_path):
    monkeypatch.setenv("KFP_TOKEN", "stale")
    (tmp_path / "token").write_text("fresh\n")
    remote.submit(load_params("params.yaml"), IMAGE, Target(server.host, tmp_path / "token"), "x")
    assert {v for _, _, headers, _ in server.asked for k, v in headers.items() if k.lower() == "authorization"} == {
        "Bearer fresh"
    }


def test_a_schedule_never_overlaps_and_makes_up_for_nothing(server):
    target = Target(server.host, caching=False)
    assert remote.schedule(load_params("params.yaml"), IMAGE, target, "nightly", "0 0 3 * * *") == "s1"
    (body,) = server.bodies("POST", "/apis/v2beta1/recurringruns")
    assert body["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert int(body["max_concurrency"]) == 1
    assert body["no_catchup"] is True
    tasks = body["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks.values())


def test_a_cron_of_five_fields_is_refused_before_anything_is_sent(server):
    with pytest.raises(PipelineError, match="six fields"):
        remote.schedule(load_params("params.yaml"), IMAGE, Target(server.host), "nightly", "0 3 * * *")
    assert not server.asked


def test_waiting_prints_each_change_once_and_outlasts_a_server_that_is_away(server, capsys):
    server.states = [
        ("RUNNING", {"ingest": "RUNNING"}),
        ("RUNNING", {"ingest": "RUNNING"}),
        ("GONE", {}),
        ("SUCCEEDED", {"ingest": "SUCCEEDED"}),
    ]
    remote.wait("r1", Target(server.host), every=0.01)
    said = capsys.readouterr().err
    assert said.count("ingest: running") == said.count("ingest: succeeded") == 1
    assert "no answer" in said


def test_a_run_that_fails_names_the_tasks(server):
    server.states = [("FAILED", {"ingest": "SUCCEEDED", "train": "FAILED"})]
    with pytest.raises(PipelineError, match=r"ended as failed \(failed: train\)") as caught:
        remote.wait("r1", Target(server.host), every=0.01)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(("status", "remedy"), [(401, "KFP_TOKEN"), (403, "ask for the role")])
def test_a_server_that_refuses_is_named_with_the_remedy(server, status: int, remedy: str, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "sesame")
    server.refuse = status
    with pytest.raises(PipelineError, match=f"answered {status}.*{remedy}") as caught:
        remote.submit(load_params("params.yaml"), IMAGE, Target(server.host), "x")
    assert "sesame" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_with_the_remedy(server):
    with pytest.raises(PipelineError, match=r"127\.0\.0\.1:9 does not answer.*port-forward"):
        remote.submit(load_params("params.yaml"), IMAGE, Target("http://127.0.0.1:9"), "x")
