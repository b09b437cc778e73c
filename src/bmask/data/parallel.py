"""One function over many photos on all cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16  # photos a task: handing over one at a time costs as much as reading a header
AHEAD = 4  # chunks a core that wait for it, or for the one before them


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yields `function(item)` in the order of the items, a thread a core.

    What it raises is raised here, and the rest is left undone. Of the items, a few are taken ahead.
    """
    return in_chunks(lambda chunk: [function(item) for item in chunk], items)


def in_chunks(function: Callable[[Sequence[T]], Sequence[R]], items: Iterable[T]) -> Iterator[R]:
    """As `parallel`, with a function that takes and gives several items."""
    items, waiting = iter(items), deque()
    pool = ThreadPoolExecutor(cores())
    try:
        while chunk := list(islice(items, CHUNK)):
            waiting.append(pool.submit(function, chunk))
            if len(waiting) > AHEAD * cores():
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """For a block whose threads keep all cores busy: a library's own threads beneath them would only be in the way.

    BLAS with two threads under two of ours spent twice the time of the cores, waiting.
    """
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)
