"""Processes that decode photos, so that all cores are busy and a file that kills its decoder is known by name.

Threads share one interpreter and one heap, which kept 1.6 of two cores busy and cost a fifth more work. A worker is a
plain subprocess that answers lines of JSON, one for each photo: nothing is forked beside torch's threads, and the
caller's main module, be it pytest, DVC or a KFP executor, is not imported again.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from bmask.data.arrays import ArrayFile
from bmask.data.reading.matching import brings
from bmask.data.reading.photo import find_face, inspect, read_square, take_faces
from bmask.data.records import Entry, Photo
from bmask.data.split.slices import labels
from bmask.errors import DataError
from bmask.parallel import cores, one_thread_each

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

MIN_PHOTOS = 1000  # fewer are read sooner than workers have started


class Scratch(NamedTuple):
    """What is kept of photos on the disk while ingest runs, a row each."""

    squares: ArrayFile
    signatures: ArrayFile  # the bytes of a SIGNATURE


class Readers:
    """Reads photos in this process. Its methods may be called from as many threads as there are cores."""

    def __init__(self, settings: Ingest):
        self._settings = settings

    def look(self, entries: Sequence[Entry]) -> list[Photo]:
        """What the files' headers say, or the reason why a file is refused."""
        return [inspect(entry) for entry in entries]

    def find(self, photos: Sequence[Photo]) -> Sequence[Photo]:
        """Fills in the photos' sizes and the scores and landmarks of their faces, or reasons."""
        return [find_face(photo) for photo in photos]

    def open(self, files: Scratch) -> None:
        """Says where `read` stores squares and signatures."""
        self._files = files

    def read(self, photos: Sequence[Photo]) -> Sequence[Photo]:
        """Fills in the photos' sizes and what the rules of slices.py say, or reasons; stores what `Scratch` holds."""
        return [_read(photo, self._files, self._settings) for photo in photos]


@contextlib.contextmanager
def readers(count: int, settings: Ingest) -> Iterator[Readers]:
    """Yields what reads photos: in processes of their own where `count`, the photos to come, is worth them."""
    if count <= MIN_PHOTOS or cores() == 1:
        yield Readers(settings)
        return
    workers = [_Worker(settings) for _ in range(cores())]
    try:
        yield _Processes(workers)
    finally:
        for worker in workers:
            worker.stop()


class _Processes(Readers):
    def __init__(self, workers: list[_Worker]):
        self._workers = workers
        self._idle: queue.Queue[_Worker] = queue.Queue()
        for worker in workers:
            self._idle.put(worker)

    def look(self, entries: Sequence[Entry]) -> list[Photo]:
        photos = [Photo(entry, slices=entry.slices, reason=entry.refused) for entry in entries]
        self._ask([photo for photo in photos if not photo.reason], lambda photo: ["look", photo.entry.path], _looked)
        return photos

    def find(self, photos: Sequence[Photo]) -> Sequence[Photo]:
        self._ask(photos, lambda photo: ["find", photo.entry.path], _found)
        return photos

    def open(self, files: Scratch) -> None:
        for worker in self._workers:
            worker.tell(["open", *(str(file.path) for file in files)])

    def read(self, photos: Sequence[Photo]) -> Sequence[Photo]:
        self._ask(photos, _request, _taken)
        return photos

    def _ask(self, photos: Sequence[Photo], request: Callable[[Photo], list], take: Callable[..., None]) -> None:
        worker = self._idle.get()
        try:
            worker.ask(photos, request, take)
        except BaseException:
            worker.restart()  # unread answers would be taken for those of other photos
            raise
        finally:
            self._idle.put(worker)


class _Worker:
    def __init__(self, settings: Ingest):
        self._told: list = [settings.model_dump()]
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "bmask.data.reading.workers"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin and self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._say(self._told)

    def _say(self, requests: list) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died; reading its answer will tell
            self._requests.write("".join(json.dumps(request) + "\n" for request in requests))
            self._requests.flush()

    def tell(self, what: list) -> None:
        """Sends a request that has no answer, now and to each process that replaces this one."""
        self._told.append(what)
        if self._process.poll() is None:
            self._say([what])
        else:
            self.restart()

    def ask(self, photos: Sequence[Photo], request: Callable[[Photo], list], take: Callable[..., None]) -> None:
        """Hands each photo's answer to `take`."""
        if self._process.poll() is not None:  # killed while it waited, which is no photo's fault
            self.restart()
        self._say([request(photo) for photo in photos])
        for number, photo in enumerate(photos):
            answer = self._answers.readline()
            if answer:
                take(photo, *json.loads(answer))
            else:  # it died at this photo; the photos after it are still to do
                self._refuse_and_restart(photo)
                return self.ask(photos[number + 1 :], request, take)

    def _refuse_and_restart(self, photo: Photo) -> None:
        code = self._process.wait()
        if code >= 0:  # not a signal: it has said why, on stderr
            raise DataError(f"the reader of {photo.entry.domain}/{photo.entry.name} ended with exit code {code}")
        photo.reason, photo.side = f"kills the process that decodes it ({signal.Signals(-code).name})", 0
        self.restart()

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()


def _looked(photo: Photo, sha256: str, width: int, height: int, reason: str) -> None:
    photo.sha256, photo.width, photo.height, photo.reason = sha256, width, height, reason


def _found(photo: Photo, width: int, height: int, faces: list[float], reason: str) -> None:
    photo.width, photo.height, photo.reason = width, height, reason
    if faces:
        take_faces(photo, faces)


def _request(photo: Photo) -> list:
    return ["read", photo.row, photo.side, photo.landmarks, photo.entry.domain, photo.entry.path]


def _taken(photo: Photo, found: list | None, reason: str, error: list | None) -> None:
    if error:
        raise OSError(*error)
    if found:
        photo.width, photo.height, *guessed = found
        photo.guessed = tuple(guessed)
    else:
        photo.reason, photo.side = reason, 0


def _read(photo: Photo, files: Scratch, settings: Ingest) -> Photo:
    read = read_square(photo, settings)
    if read is not None:
        square, signature = read
        files.squares.write(photo.row, square)
        files.signatures.write(photo.row, np.frombuffer(signature.tobytes(), np.uint8))
        if photo.entry.domain == "masked":
            photo.guessed = labels(square, brings(photo, settings.fit))
    return photo


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who asked says when to end
    settings = cast("Ingest", SimpleNamespace(**json.loads(sys.stdin.readline())))  # checked by who sent them
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_thread_each())
        for line in sys.stdin:
            what, *rest = json.loads(line)
            if what == "open":
                files = Scratch(*(stack.enter_context(ArrayFile.existing(Path(path))) for path in rest))
                continue
            if what == "look":
                photo = inspect(Entry("", "", *rest))
                answer: list = [photo.sha256, photo.width, photo.height, photo.reason]
            elif what == "find":
                photo = find_face(Photo(Entry("", "", *rest)))
                faces = [photo.score, *photo.landmarks, *photo.further] if photo.landmarks else []
                answer = [photo.width, photo.height, faces, photo.reason]
            else:
                row, side, landmarks, domain, path = rest
                photo = Photo(Entry(domain, "", path), row=row, side=side, landmarks=tuple(landmarks))
                error = None
                try:
                    _read(photo, files, settings)
                except OSError as problem:  # the disk of the squares; a photo's own is its reason
                    error = [problem.errno, problem.strerror]
                answer = [None if photo.reason else [photo.width, photo.height, *photo.guessed], photo.reason, error]
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
