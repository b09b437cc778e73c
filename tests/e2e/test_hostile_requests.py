"""Hostile requests to `bmask serve` and, for comparison, to bare `mlflow models serve`: a table of what came back.

`pytest -s tests/e2e/test_hostile_requests.py` prints it.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest

from bmask.serving.model import log_generator
from hostile_requests import Answered, Hostile, requests, send
from servers import serving
from tiny import write_generator

pytestmark = pytest.mark.slow
SOUND = "files of the corpus"  # some of this kind are sound photos
CLIENTS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[str, str]:
    """The address of a logged model, and of its store."""
    folder = tmp_path_factory.mktemp("store")
    uri, before = f"sqlite:///{folder}/mlflow.db", mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("hostile", artifact_location=(folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        info = log_generator(write_generator(folder), name="tiny", step=1, tags={}, threshold=0.3)
    mlflow.set_tracking_uri(before)
    return info.model_uri, uri


def answers(command: list[str], uri: str, folder: Path) -> list[tuple[Hostile, Answered]]:
    """Sends all requests to a server, four at a time; afterwards it must still answer a sound one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with serving(command, "/ping", folder, os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": uri}) as address:
        port = urlsplit(address).port
        assert port
        all_of_them = requests()
        assert len(all_of_them) >= 500
        with ThreadPoolExecutor(CLIENTS) as pool:
            answered = list(pool.map(lambda request: send(port, request), all_of_them))
        sound = next(r for r, a in zip(all_of_them, answered, strict=True) if a.status == 200 and r.kind == SOUND)
        assert send(port, sound).status == 200
    return list(zip(all_of_them, answered, strict=True))


def print_table(name: str, pairs: list[tuple[Hostile, Answered]]) -> None:
    kinds: dict[str, list[Answered]] = defaultdict(list)
    for request, answered in pairs:
        kinds[request.kind].append(answered)
    print(
        f"\n| {name} | requests | answered | refused | failed (5xx) | no answer | repeat the photo |\n|---|"
        + "---|" * 6
    )
    for kind, those in [*kinds.items(), ("all", [answered for _, answered in pairs])]:
        by = Counter(answered.status // 100 for answered in those)
        echoes = sum(answered.echoes for answered in those)
        print(f"| {kind} | {len(those)} | {by[2] + by[3]} | {by[4]} | {by[5]} | {by[0]} | {echoes} |")


def test_ours_fails_at_none_and_repeats_nothing(model, tmp_path):
    pairs = answers(["bmask", "serve", "--model", model[0]], model[1], tmp_path)
    print_table("`bmask serve`", pairs)
    for request, answered in pairs:
        told = request.kind, request.raw[:300], answered.content[:300]
        assert answered.status < 500, told
        assert answered.status or not request.must_be_answered, told
        assert not answered.echoes, told
        assert answered.status == 200 or len(answered.content) < 1000, told


def test_mlflows_own_has_the_faults_that_the_docs_list(model, tmp_path):
    """If it no longer has them, change docs/results.md."""
    pairs = answers(["mlflow", "models", "serve", "-m", model[0], "--env-manager", "local"], model[1], tmp_path)
    print_table("`mlflow models serve`", pairs)
    assert any(answered.status >= 500 for _, answered in pairs)
    assert any(answered.echoes for _, answered in pairs)
