"""SIGTERM (a preempted pod, `docker stop`, a batch system) stops a training after its step, with its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(RuntimeError):
    """SIGTERM came; the checkpoint is written, and the same command goes on from there."""


@contextmanager
def on_sigterm() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM came. Outside the block, or if a thread runs it, SIGTERM kills."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
