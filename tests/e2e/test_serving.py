"""A registered champion behind `mlflow models serve` and `bmask serve`, asked over HTTP: both answer alike."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bmask.serving.model import log_generator
from bmask.serving.unmasker import Unmasker
from servers import PATIENCE, serving
from tiny import write_generator

pytestmark = pytest.mark.slow

NAME, THRESHOLD = "bmask-unmasker", 0.3


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory, generator):
    """The server's environment: a store with a champion, the interpreter's programs, no path to this checkout."""
    import mlflow

    folder = tmp_path_factory.mktemp("store")
    uri, before = f"sqlite:///{folder}/mlflow.db", mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        info = log_generator(generator, name="tiny", step=3, tags={"made_by": "test"}, threshold=THRESHOLD)
    client.create_registered_model(NAME)
    version = client.create_model_version(NAME, info.model_uri, run.info.run_id, model_id=info.model_id)
    client.set_registered_model_alias(NAME, "champion", version.version)
    logged = client.get_logged_model(info.model_id)
    assert logged.tags["made_by"] == "test"
    assert logged.tags["attention_threshold"] == "0.3"
    mlflow.set_tracking_uri(before)
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("MLFLOW_")}
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, "PATH": programs, "MLFLOW_TRACKING_URI": uri}


CHAMPION = f"models:/{NAME}@champion"
COMMANDS = {
    "mlflow": ["mlflow", "models", "serve", "-m", CHAMPION, "--env-manager", "local"],
    "bmask": ["bmask", "serve", "--model", CHAMPION],
}


@pytest.fixture(scope="module", params=COMMANDS.values(), ids=COMMANDS)
def server(request, environment, tmp_path_factory):
    """The address of a server that runs outside this checkout."""
    elsewhere, command = tmp_path_factory.mktemp("elsewhere"), request.param
    with serving(command, "/ping", elsewhere, environment) as address:
        yield f"{address}/invocations"


def ask(server, body) -> tuple[int, dict]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_photos_come_back_in_their_own_size_with_untouched_pixels_bit_for_bit(server, generator):
    photos = [photo(64, 64), photo(50, 90, 1), photo(20, 16, 2)]
    body = {"inputs": {"image": [encoded(p) for p in photos]}, "params": {"attention": True}}
    status, answer = ask(server, body)
    assert status == 200
    assert len(answer["predictions"]) == 3
    expected = Unmasker(generator, THRESHOLD).unmask(photos)
    for before, record, result in zip(photos, answer["predictions"], expected, strict=True):
        after, attention = decoded(record["image"]), decoded(record["attention"])
        assert after.shape == before.shape
        assert attention.shape == before.shape[:2]
        assert (attention == 0).any()
        assert (attention > 0).any()
        np.testing.assert_array_equal(after[attention == 0], before[attention == 0])
        assert np.abs(after.astype(int) - result.image).max() <= 1  # threads may differ between the processes


def test_all_shapes_of_a_request_are_answered_alike(server):
    text = encoded(photo(40, 40), "JPEG")
    bodies = [
        {"inputs": {"image": [text]}},
        {"inputs": [{"image": text}]},
        {"dataframe_records": [{"image": "data:image/jpeg;base64," + text}]},
        {"dataframe_split": {"columns": ["image"], "data": [[text]]}},
    ]
    answers = [ask(server, body) for body in bodies]
    assert [status for status, _ in answers] == [200] * 4
    assert all(answer == answers[0][1] for _, answer in answers)
    assert set(answers[0][1]["predictions"][0]) == {"image", "faces"}


def test_questions_at_the_same_time_get_their_own_answers(server):
    bodies = [{"inputs": {"image": [encoded(photo(30 + 5 * seed, 40, seed))]}} for seed in range(6)]
    alone = [ask(server, body) for body in bodies]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda body: ask(server, body), bodies)) == alone


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"inputs": {"image": [encoded(photo(20, 20)), "###"]}}, "Row 1 of image is not base64"),
        ({"dataframe_records": [{"image": "aGVsbG8="}]}, "Row 0 of image is no picture"),
        ({"dataframe_records": [{"image": None}]}, "Row 0 of image is null"),
        ({"dataframe_records": [{"image": encoded(photo(20, 20))}, {}]}, "Row 1 of image is null"),
        ({"inputs": {"image": [encoded(photo(20, 20)), None]}}, "Row 1 of image is null"),
        ({"inputs": [{"image": None}]}, "Row 0 of image is null"),
        ({"inputs": {"image": [7]}}, "Row 0 of image "),  # MLflow converts it to text
        ({"inputs": {"image": [encoded(np.zeros((20000, 20000), bool))]}}, "Row 0 of image has more than"),
        ({"inputs": {"image": []}}, "The request holds no photos"),
        ({"inputs": {"photo": [encoded(photo(20, 20))]}}, "The request holds no photos"),
        ({"dataframe_records": []}, "The request holds no photos"),
    ],
)
def test_bad_input_gets_400_and_one_sentence_without_the_photos_or_a_stack_trace(server, body, sentence):
    status, answer = ask(server, body)
    assert status == 400
    assert set(answer) == {"error_code", "message"}
    assert answer["message"].startswith(sentence)
    assert "\n" not in answer["message"]
    assert len(answer["message"]) < 200


@pytest.mark.parametrize("body", [b"{nonsense", {}, {"inputs": {"image": [encoded(photo(20, 20))]}, "instances": []}])
def test_what_is_no_request_at_all_gets_400(server, body):
    status, answer = ask(server, body)
    assert status == 400
    assert "stack_trace" not in answer


def test_the_model_brings_its_own_code(environment, tmp_path):
    """Outside this checkout, bmask is imported from the model's folder, so that an old champion runs its own code."""
    program = (
        "import mlflow, sys\n"
        f"mlflow.pyfunc.load_model('models:/{NAME}@champion')\n"
        "print(sys.modules['bmask'].__file__, sys.modules['bmask.gan.blocks'].__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert len(files) == 2
    assert all("/artifacts/" in file and "/code/bmask/" in file for file in files)
