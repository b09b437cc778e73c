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
from typing import NamedTuple

import numpy as np

from bmask.data.arrays import ArrayFile
from bmask.data.manifest import Photo
from bmask.data.parallel import cores
from bmask.data.reading import read_square
from bmask.data.sources import Entry
from bmask.errors import DataError
from bmask.sections import Ingest

FEW = 1000  # photos that are read before workers have started


class Scratch(NamedTuple):
    """What is kept of photos on the disk while ingest runs, a row each."""

    squares: ArrayFile
    fingerprints: ArrayFile  # the bytes of a FINGERPRINT


@contextlib.contextmanager
def readers(count: int, files: Scratch, settings: Ingest) -> Iterator[Callable[[Sequence[Photo]], Sequence[Photo]]]:
    """Yields what reads photos: fills in their sizes or reasons, and stores squares and fingerprints at their rows.

    It may be called from as many threads as there are cores.

    Args:
        count: photos to come; many are worth processes of their own.
    """
    if count <= FEW or cores() == 1:
        yield lambda photos: [_read(photo, files, settings) for photo in photos]
        return
    idle: queue.Queue[_Worker] = queue.Queue()
    workers = [_Worker(files, settings) for _ in range(cores())]
    for worker in workers:
        idle.put(worker)

    def ask(photos: Sequence[Photo]) -> Sequence[Photo]:
        worker = idle.get()
        try:
            worker.read(photos)
        except BaseException:
            worker.restart()  # unread answers would be taken for those of other photos
            raise
        finally:
            idle.put(worker)
        return photos

    try:
        yield ask
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    def __init__(self, files: Scratch, settings: Ingest):
        self._setup = {"files": [str(file.path) for file in files], "settings": settings.model_dump()}
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "bmask.data.workers"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._say([self._setup])

    def _say(self, requests: list) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died; reading its answer will tell
            self._process.stdin.write("".join(json.dumps(request) + "\n" for request in requests))
            self._process.stdin.flush()

    def read(self, photos: Sequence[Photo]) -> None:
        self._say([[photo.row, photo.side, photo.entry.path] for photo in photos])
        for number, photo in enumerate(photos):
            answer = self._process.stdout.readline()
            if answer:
                self._take(photo, *json.loads(answer))
            else:  # it was at this photo, and the others wait
                self._bury(photo)
                return self.read(photos[number + 1 :])

    def _take(self, photo: Photo, found: list | None, reason: str, error: list | None) -> None:
        if error:
            raise OSError(*error)
        if found:
            photo.width, photo.height = found
        else:
            photo.reason, photo.side = reason, 0

    def _bury(self, photo: Photo) -> None:
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
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def _read(photo: Photo, files: Scratch, settings: Ingest) -> Photo:
    read = read_square(photo, settings)
    if read is not None:
        square, fingerprint = read
        files.squares.write(photo.row, square)
        files.fingerprints.write(photo.row, np.frombuffer(fingerprint.tobytes(), np.uint8))
    return photo


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who asked says when to end
    setup = json.loads(sys.stdin.readline())
    settings = Ingest.model_validate(setup["settings"])
    with contextlib.ExitStack() as stack:
        files = Scratch(*(stack.enter_context(ArrayFile.existing(Path(path))) for path in setup["files"]))
        for line in sys.stdin:
            row, side, path = json.loads(line)
            photo, error = Photo(Entry("", "", path), row=row, side=side), None
            try:
                _read(photo, files, settings)
            except OSError as problem:  # the disk of the squares; a photo's own is its reason
                error = [problem.errno, problem.strerror]
            found = None if photo.reason else [photo.width, photo.height]
            print(json.dumps([found, photo.reason, error]), flush=True)


if __name__ == "__main__":
    _serve()
