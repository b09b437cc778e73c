"""One function over many photos on all cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import TypeVar

import cv2
from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16  # photos a task: handing over one at a time costs as much as reading a header
AHEAD = 4  # tasks a thread that wait for it, or for the one before them


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel(function: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
    """Yields `function(item)` in the order of the items, a thread a core.

    What it raises is raised here, and the rest is left undone. Of the items, a few are taken ahead.
    """
    return in_chunks(lambda chunk: [function(item) for item in chunk], items)


def in_chunks(function: Callable[[Sequence[T]], Sequence[R]], items: Iterable[T]) -> Generator[R]:
    """As `parallel`, with a function that takes and gives several items."""
    with closing(ahead(function, batched(items, CHUNK), cores())) as results:
        for some in results:
            yield from some


def ahead(function: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """As `parallel`, one item a task: Executor.map with the `buffersize` of Python 3.14."""
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """As itertools.batched of Python 3.12, with lists."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


@contextmanager
def one_thread_each() -> Iterator[None]:
    """For a block whose threads keep all cores busy: a library's own threads beneath them would only be in the way.

    BLAS with two threads under two of ours spent twice the time of the cores, waiting.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)
