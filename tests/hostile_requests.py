"""Some 800 difficult requests, each as the bytes to send and with its kind, for a table.

A server may answer, refuse or hang up. It must not fail, repeat the photo, or stop answering others.
"""

from __future__ import annotations

import base64
import json
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import hostile

MARK = b"HIDDEN+PHOTO+BYTES+"  # base64 that is no picture; stands for the photo in requests without one
SHORT = 60  # characters of a photo's base64 that an answer may not repeat
PATIENCE, HASTE = 60, 3  # seconds


@dataclass(frozen=True)
class Hostile:
    kind: str
    raw: bytes  # the whole request
    photo: bytes = MARK  # what no answer may repeat
    slow: float = 0.0  # seconds between the first half and the second
    cut: bool = False  # hangs up instead of the second half
    patience: float = PATIENCE  # seconds that it waits for an answer

    @property
    def must_be_answered(self) -> bool:
        """Whether the request is whole; if not, the server may wait for the rest."""
        return not self.cut and self.patience == PATIENCE


class Answered(NamedTuple):
    status: int  # 0: no answer came
    content: bytes
    echoes: bool  # whether it repeats the photo


def post(body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    stated = {"Host": "x", "Connection": "close", "Content-Type": kind, "Content-Length": str(len(body))} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in stated.items() if value != "none"]
    return "\r\n".join(["POST /invocations HTTP/1.1", *lines, "", ""]).encode("latin-1") + body


def asking(photo: object, **params: object) -> bytes:
    return json.dumps({"inputs": {"image": [photo]}} | ({"params": params} if params else {})).encode()


def requests() -> list[Hostile]:
    """All requests; the same every time."""
    makers = (files, deep, broken_json, wrong_types, broken_base64, params, content_types, lengths, heads, cuts, fuzzed)
    return [request for maker in makers for request in maker()]


def files() -> Iterator[Hostile]:
    """Pictures that are whole, cut or wrong about their size, and files that are no pictures."""
    for case in hostile.corpus():
        if case.make is None and 0 < len(case.content) < 1_000_000:
            photo = base64.b64encode(case.content)
            yield Hostile("files of the corpus", post(asking(photo.decode())), photo)


def deep() -> Iterator[Hostile]:
    for depth in (500, 5000, 100_000):
        for opening, closing in ((b"[", b"]"), (b'{"inputs": ', b"}"), (b'{"a": [', b"]}")):
            inner = b'"' + MARK + b'"'
            yield Hostile("deep JSON", post(opening * depth + inner + closing * depth))
            yield Hostile("deep JSON", post(opening * depth))
        image = b"[" * depth + b'"' + MARK + b'"' + b"]" * depth
        yield Hostile("deep JSON", post(b'{"inputs": {"image": ' + image + b"}}"))
        yield Hostile("deep JSON", post(b'{"inputs": {"image": ["' + MARK + b'"]}, "params": ' + image + b"}"))


def broken_json() -> Iterator[Hostile]:
    whole = asking(MARK.decode())
    for end in range(1, len(whole), 5):
        yield Hostile("broken JSON", post(whole[:end]))
    ends = (b"\xef\xbb\xbf" + whole, whole + b"x", whole.replace(b'"', b"'"), whole + whole, b"", b"\0" * 50)
    for body in (*ends, whole.decode().encode("utf-16"), b"\xff" + whole, whole.replace(b":", b"=", 1), b'"' + MARK):
        yield Hostile("broken JSON", post(body))


def wrong_types() -> Iterator[Hostile]:
    mark = MARK.decode()
    odd = (
        None,
        True,
        -1e308,
        "",
        {},
        [],
        [[]],
        {"image": None},
        [7],
        10**400,
        mark,
        [[mark]],
        {mark: mark},
        [{"b64": mark}],
    )
    for value in odd:
        for tree in ({"inputs": value}, {"inputs": {"image": value}}, {"dataframe_split": value}, value):
            yield Hostile("wrong types", post(json.dumps(tree).encode()))
        yield Hostile("wrong types", post(json.dumps({"dataframe_records": value}).encode()))
        split = {"columns": ["image"], "data": value}
        yield Hostile("wrong types", post(json.dumps({"dataframe_split": split}).encode()))


def broken_base64() -> Iterator[Hostile]:
    photo = base64.b64encode(hostile.encode(hostile.picture(5), "PNG")).decode()
    some = photo[:200]
    marks = (some + "=", some[:-1], some[:-2] + "==", "=" * 9, some.replace("A", "-"), some.replace("A", "é"))
    more = (f"data:image/png;base64,{photo}", "\n".join(photo), photo + "%%%", "\0" + photo, "😀" * 50, some * 2000)
    for text in (*marks, *more, "http://x/" + MARK.decode(), "/etc/passwd", "file:///etc/passwd"):
        yield Hostile("broken base64", post(asking(text)), text[:400].encode() if len(text) > SHORT else MARK)


def params() -> Iterator[Hostile]:
    for value in ("NaN", "Infinity", "-Infinity", "1e999", '"NaN"', "[true]", "{}", "null", '"' + "x" * 5000 + '"'):
        for name in ("attention", "faces", "threshold", "__class__"):
            body = b'{"inputs": {"image": ["%s"]}, "params": {"%s": %s}}' % (MARK, name.encode(), value.encode())
            yield Hostile("params", post(body))


def content_types() -> Iterator[Hostile]:
    body = asking(MARK.decode())
    kinds = ("text/csv", "text/plain", "", "application", "application/xml", "image/png", "multipart/form-data")
    odd = ("application/json; charset=utf-7", "application/json; charset=", "application/json, text/csv", "*/*", "none")
    for kind in (*kinds, *odd, "application/json;" * 50, "application/x-www-form-urlencoded", "\x7f", "é"):
        yield Hostile("content types", post(body, kind))
        yield Hostile("content types", post(MARK * 3, kind))


def lengths() -> Iterator[Hostile]:
    body = asking(MARK.decode())
    for stated in ("-1", "99999999999999", "0x10", "1e3", "", "5, 5", "nan", "9" * 400, "none", str(len(body) - 9)):
        yield Hostile("lengths", post(body, Content_Length=stated), patience=HASTE)
    for chunks in (b"0\r\n\r\n", b"ZZ\r\nabc\r\n", b"-5\r\n", b"ffffffffff\r\nabc", b"5\r\nab\r\n0\r\n\r\n", b"\r\n"):
        yield Hostile("lengths", post(chunks, Content_Length="none", Transfer_Encoding="chunked"), patience=HASTE)
        yield Hostile("lengths", post(chunks, Transfer_Encoding="chunked, gzip"), patience=HASTE)
    yield Hostile("lengths", post(body, Content_Encoding="gzip"))
    yield Hostile("lengths", post(body, Expect="100-continue"))


def heads() -> Iterator[Hostile]:
    body = asking(MARK.decode())
    whole = post(body)
    yield Hostile("heads", post(body, X_Long="x" * 200_000))
    yield Hostile("heads", post(body, **{f"X_{n}": "y" for n in range(2000)}))
    for first in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"post", b"", b"A" * 9000):
        yield Hostile("heads", whole.replace(b"POST", first, 1))
    for path in (b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/" + b"a" * 50_000, b"//", b"*", b"/\xff", b"?"):
        yield Hostile("heads", whole.replace(b"/invocations", path, 1))
    for version in (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTQ/1.1", b"", b"HTTP/1.1 HTTP/1.1"):
        yield Hostile("heads", whole.replace(b"HTTP/1.1", version, 1))
    for bad in (
        b"X: a\nY: b\r\n",
        b"NoColon\r\n",
        b": empty\r\n",
        b"X : y\r\n",
        b"X: \0\r\n",
        b" folded\r\n",
        b"\xff: 1\r\n",
    ):
        yield Hostile("heads", whole.replace(b"Host: x\r\n", bad, 1))
    yield Hostile("heads", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))  # TLS
    yield Hostile("heads", bytes(1000))


def cuts() -> Iterator[Hostile]:
    body = asking(MARK.decode() * 40)
    for place in range(0, 20):
        yield Hostile("cut and slow", post(body), cut=bool(place % 2), slow=0.02 * place)


def fuzzed() -> Iterator[Hostile]:
    """A sound request with some of its bytes changed."""
    photo = base64.b64encode(hostile.encode(hostile.picture(6), "JPEG"))
    whole = post(asking(photo.decode(), attention=True))
    for seed in range(120):
        draws, changed = random.Random(seed), bytearray(whole)
        start = 0 if seed % 2 else whole.index(b"\r\n\r\n")
        for _ in range(draws.choice((1, 2, 5, 20))):
            place = draws.randrange(start, min(len(changed), start + 400))
            change = draws.randrange(3)
            if change == 0:
                changed[place] = draws.randrange(256)
            elif change == 1:
                del changed[place : place + draws.randrange(1, 6)]
            else:
                changed[place:place] = draws.choice((b"\0", b'"', b"{", b"\\u0000", b"NaN", b"\r\n", b"9", b"\xff"))
        yield Hostile("fuzzed bytes", bytes(changed), photo, patience=HASTE)


def send(port: int, request: Hostile) -> Answered:
    """Sends a request and reads the answer as far as it comes."""
    half = len(request.raw) // 2
    content = b""
    with socket.create_connection(("127.0.0.1", port), timeout=request.patience) as connection:
        with suppress(ConnectionError):  # the server may hang up before it has the whole request
            connection.sendall(request.raw[:half])
            time.sleep(request.slow)
            if not request.cut:
                connection.sendall(request.raw[half:])
        with suppress(ConnectionError, TimeoutError):
            while not request.cut and (part := connection.recv(1 << 16)):
                content += part
    said = [int(code) for code in re.findall(rb"^HTTP/1\.[01] (\d{3})", content, re.MULTILINE)]
    status = next((code for code in said if code >= 200), 0)
    return Answered(status, content, status != 200 and _repeats(content, request.photo))


def _repeats(content: bytes, photo: bytes) -> bool:
    pieces = [photo[start : start + SHORT] for start in range(max(1, min(len(photo), 2000) - SHORT))]
    return any(piece in content for piece in pieces if len(piece) >= len(MARK))
