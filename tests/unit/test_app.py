"""Our own server over real connections: MLflow's protocol, limits, metrics, headers, hostile requests."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from urllib.parse import unquote

import numpy as np
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bmask.errors import DataError
from bmask.faces.template import TEMPLATE
from bmask.serving.app import Limits, Server, listen
from bmask.serving.engines import PyTorch
from bmask.serving.unmasker import Result, Unmasker
from bmask.synthetic import draw_face
from hostile_requests import requests, send
from tiny import write_generator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def unmasker(tmp_path_factory):
    return Unmasker(write_generator(tmp_path_factory.mktemp("generator")), threshold=0.3)


@contextmanager
def running(unmasker, name="a model", **limits):
    """The port of a server in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = Server(unmasker, name, Limits(**limits)).app()
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def port(unmasker):
    with running(unmasker, megabytes=2.0, photos=3, seconds=1.0) as port:
        yield port


def ask(port, body, path="/invocations", method="POST", kind="application/json", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, content, {"Content-Type": kind, **headers} if kind else headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def photo(height=20, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def told(port, body, **kind):
    """Status and message of a refused request."""
    status, content, _ = ask(port, body, **kind)
    tree = json.loads(content)
    assert set(tree) == {"error_code", "message"}
    assert "\n" not in tree["message"]
    assert len(tree["message"]) < 200
    return status, tree["message"]


def test_photos_come_back_as_the_unmasker_gives_them_in_every_shape_of_a_request(port, unmasker):
    text, (expected,) = encoded(photo()), unmasker.unmask([photo()])
    bodies = [
        {"inputs": {"image": [text]}},
        {"inputs": {"image": text}},
        {"inputs": [{"image": text}]},
        {"dataframe_records": [{"image": text}]},
        {"dataframe_split": {"columns": ["other", "image"], "data": [[1, text]]}},
    ]
    for body in bodies:
        status, content, headers = ask(port, body | {"params": {"attention": True}})
        (record,) = json.loads(content)["predictions"]
        assert (status, headers["x-bmask-model"]) == (200, "a model")
        for key, pixels in (("image", expected.image), ("attention", expected.attention)):
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(record[key])))), pixels)
        assert record["faces"] == []
    assert set(json.loads(ask(port, bodies[0])[1])["predictions"][0]) == {"image", "faces"}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{nonsense", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"inputs": {"image": [NaN]}}', "no JSON"),
        ([1], "no JSON object"),
        ({}, "must hold inputs"),
        ({"instances": ["x"]}, "must hold inputs"),
        ({"inputs": {"image": []}, "dataframe_records": []}, "must hold inputs"),
        ({"inputs": {"image": []}}, "holds no photos"),
        ({"inputs": {"photo": ["x"]}}, "holds no photos"),
        ({"inputs": "x"}, "holds no photos"),
        ({"dataframe_split": {"columns": 3, "data": 4}}, "holds no photos"),
        ({"dataframe_split": {"columns": ["image"], "data": [[], 7]}}, "Row 0 of image is null"),
        ({"inputs": {"image": ["x"] * 4}}, "holds 4 photos; send at most 3"),
        ({"inputs": {"image": ["###"]}}, "Row 0 of image is not base64"),
        ({"inputs": {"image": [7]}}, "Row 0 of image holds no text"),
        ({"inputs": {"image": ["aGVsbG8="]}, "params": {"attention": "yes"}}, "params must be"),
        ({"inputs": {"image": ["aGVsbG8="]}, "params": [1]}, "params must be"),
        ({"inputs": {"image": ["aGVsbG8="]}, "params": {"faces": "all"}}, "params must be"),
        ({"inputs": {"image": ["aGVsbG8="]}}, "Row 0 of image is no picture"),
    ],
)
def test_what_cannot_be_answered_gets_400_and_one_sentence(port, body, sentence):
    status, message = told(port, body)
    assert status == 400
    assert sentence in message


def test_faces_are_found_or_taken_as_they_are():
    from test_unmask_faces import Masked

    own = Unmasker(PyTorch(Masked(), {"image_size": 32, "fit": "face", "template": TEMPLATE.tolist()}))
    body = {"inputs": {"image": [encoded(photo(64, 64))]}}
    with running(own) as port:
        for faces in ("find", "aligned"):
            (record,) = json.loads(ask(port, body | {"params": {"faces": faces, "attention": True}})[1])["predictions"]
            attention = np.asarray(Image.open(io.BytesIO(base64.b64decode(record["attention"]))))
            assert attention.any() == (faces == "aligned")  # no face is found in noise


def test_the_judge_watches_each_face_as_it_was_left():
    """One of three people wears a mask, which the model paints green."""
    from test_unmask_faces import Masked

    own = Unmasker(PyTorch(Masked(), {"image_size": 32, "fit": "face", "template": TEMPLATE.tolist()}))
    own._watch = lambda square: 0.4 if (square == (0, 255, 0)).all(-1).any() else 0.8
    people = np.full((160, 400, 3), (120, 105, 90), np.uint8)
    for number in range(3):
        face = draw_face((4, number), 120, None).masked
        if number == 1:
            face[72:, 30:90] = (90, 120, 230)
        people[20:140, 10 + 130 * number : 130 + 130 * number] = face
    with running(own) as port:
        (record,) = json.loads(ask(port, {"inputs": {"image": [encoded(people)]}})[1])["predictions"]
        lines = ask(port, b"", "/metrics", "GET")[1].decode().splitlines()
    assert sorted(face["masked"] for face in record["faces"]) == [False, False, True]
    for changed, above, below, count in (("yes", "0.5", "0.25", 1), ("no", "0.9", "0.75", 2)):
        assert f'bmask_mask_shows_bucket{{changed="{changed}",le="{below}"}} 0.0' in lines
        assert f'bmask_mask_shows_bucket{{changed="{changed}",le="{above}"}} {count:.1f}' in lines
        assert f'bmask_mask_shows_count{{changed="{changed}"}} {count:.1f}' in lines


def test_no_error_holds_bytes_of_a_photo(port):
    buffer = io.BytesIO()
    Image.fromarray(photo()).convert("RGBA").save(buffer, "PNG", exif=b"Exif\0\0SECRET! no TIFF")
    for content in (buffer.getvalue(), buffer.getvalue()[:60] + b"SECRET!" * 9, b"SECRET!" * 9):
        _, answer, _ = ask(port, {"inputs": {"image": [base64.b64encode(content).decode()]}})
        assert b"SECRET" not in answer


def test_photos_are_counted_by_their_pixels_and_refused_before_the_next_is_read(unmasker):
    with running(unmasker, megapixels=0.5) as port:
        large = encoded(np.zeros((600, 600, 3), np.uint8))
        assert ask(port, {"inputs": {"image": [large]}})[0] == 200
        status, message = told(port, {"inputs": {"image": [large, large, "###"]}})
        assert (status, "up to row 1 have more than 0.5 megapixels" in message) == (400, True)


def test_a_models_name_is_shown_without_its_folders_in_any_script(unmasker):
    for name, shown in (
        ("/home/ü/口罩/generator.safetensors", "口罩"),
        ("results/train/inpainting", "inpainting"),
        ("models:/unmasker@champion", "models:/unmasker@champion"),
    ):
        with running(unmasker, name=name) as port:
            assert json.loads(ask(port, b"", "/model", "GET")[1])["name"] == shown
            headers = ask(port, {"inputs": {"image": [encoded(photo())]}})[2]
            assert unquote(headers["x-bmask-model"]) == shown


def test_a_port_that_is_taken_is_said_to_be():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(DataError, match="choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_other_content_types_and_methods_and_paths_are_refused(port):
    assert told(port, b"{}", kind="text/plain")[0] == 415
    assert told(port, b"{}", kind="application/json; charset=latin-1")[0] == 415
    assert told(port, b"{}", kind=None)[0] == 415
    assert ask(port, b"{}", kind="application/json; charset=utf-8")[0] == 400
    assert ask(port, b"", "/invocations", "GET")[0] == 405
    assert ask(port, b"", "/nothing", "GET")[0] == 404


def test_a_request_that_is_too_large_is_refused_before_all_of_it_came(port):
    status, message = told(port, b"x" * 2_000_001)
    assert (status, "larger than 2 MB" in message) == (413, True)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:  # chunked: no size is stated
        line.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        line.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(21):
            line.sendall(b"186a0\r\n" + b" " * 100_000 + b"\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_stops_coming_is_given_up_and_one_that_is_cut_harms_nobody(port):
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(head + b'{"inputs"')
        assert line.recv(100).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(head + b'{"inputs"')
    assert ask(port, {"inputs": {"image": [encoded(photo())]}})[0] == 200


def test_a_body_that_drips_is_given_up_in_the_end(unmasker):
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
    with running(unmasker, seconds=1.0, minutes=1 / 60) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=0.3) as line:
            line.sendall(head)
            answer, until = b"", time.monotonic() + 10
            while not answer and time.monotonic() < until:
                line.sendall(b" ")
                with suppress(TimeoutError):
                    answer = line.recv(100)
    assert answer.startswith(b"HTTP/1.1 408")


class Slow:
    """Stands for a model that takes half a second per photo."""

    size, finds_faces, batch = 32, False, 1

    def unmask(self, photos, framed):
        time.sleep(0.5)
        return [Result(photo, np.zeros(photo.shape[:2], np.uint8)) for photo in photos]


def test_when_too_many_wait_the_next_is_told_to_come_later_and_the_others_are_answered():
    body = {"inputs": {"image": [encoded(photo())]}}
    with running(Slow(), waiting=2) as port, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(port, body), range(6)))
    assert sorted(status for status, *_ in answers) == [200] * 3 + [503] * 3
    assert all(headers["retry-after"] == "5" for status, _, headers in answers if status == 503)


class Broken(Slow):
    def unmask(self, photos, framed):
        raise RuntimeError(f"secret {photos[0][0, 0]}")


def test_a_failure_of_ours_is_called_ours_and_shows_nothing():
    with running(Broken()) as port:
        for _ in range(2):  # the server goes on after a failure
            status, message = told(port, {"inputs": {"image": [encoded(photo())]}})
            assert (status, message) == (500, "The server failed to answer this request; see its log.")


def test_health_model_metrics_and_page(port):
    ask(port, {"inputs": {"image": [encoded(photo()), encoded(photo(seed=1))]}})
    assert ask(port, b"", "/ping", "GET")[0] == ask(port, b"", "/health", "GET")[0] == 200
    assert json.loads(ask(port, b"", "/model", "GET")[1])["name"] == "a model"
    lines = ask(port, b"", "/metrics", "GET")[1].decode().splitlines()
    counted = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}
    assert counted['bmask_requests_total{status="200"}'] >= 1
    assert counted["bmask_photos_total"] >= 2
    assert (
        counted["bmask_changed_share_count"] == counted["bmask_faces_per_photo_count"] == counted["bmask_photos_total"]
    )
    _, content, headers = ask(port, b"", "/", "GET")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"http://" not in content.replace(b"http://www.w3.org", b"")  # the page loads nothing from elsewhere
    assert b"https://" not in content


def test_hostile_requests_get_one_sentence_without_the_photo_and_the_next_is_answered(port):
    """The short form of tests/e2e/test_hostile_requests.py."""
    some = requests()[::3]
    assert len({request.kind for request in some}) == 11
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(partial(send, port), some))
    for request, answered in zip(some, answers, strict=True):
        told = request.kind, request.raw[:200], answered.content[:200]
        assert answered.status < 500, told
        assert answered.status or not request.must_be_answered, told
        assert not answered.echoes, told
        assert answered.status == 200 or len(answered.content) < 1000, told
    assert sum(answered.status == 200 for answered in answers) > 10
    assert sum(answered.status == 400 for answered in answers) > 30
    assert ask(port, {"inputs": {"image": [encoded(photo())]}})[0] == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20) | st.just("aGVsbG8="),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["inputs", "image", "params", "attention", "dataframe_split", "columns", "data", "dataframe_records"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KINDS = st.sampled_from(["application/json", "application/json;charset=utf-8", "text/csv", "", "a" * 2000])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON.map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=200), kind=KINDS, data=st.data())
def test_no_request_makes_the_server_fail(port, body, kind, data):
    name = data.draw(st.sampled_from(["X-Forwarded-For", "Accept", "Cookie", "Range", "If-Match"]))
    value = data.draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=50))
    status, content, _ = ask(port, body, kind=kind, **{name: value})
    assert 400 <= status < 500
    assert len(content) < 300
