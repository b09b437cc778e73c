"""One function over many photos on all cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import Literal, TypeVar

import cv2

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16  # photos per task: handing over each alone costs as much as reading its header
AHEAD = 4  # waiting tasks per thread


def cores() -> int:
    """The number of cores that this process may use, by its affinity and the limit of its container or pod."""
    import joblib

    return joblib.cpu_count()


def threads(stated: int | Literal["auto"], processes: int = 1) -> int:
    """CPU threads of each process on this machine: `auto` shares the cores among `processes`."""
    return max(1, cores() // processes) if stated == "auto" else stated


def parallel(function: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
    """Yields `function(item)` in the order of the items, with one thread per core.

    An exception is raised here and cancels the rest. Only a few items are read ahead.
    """
    return in_chunks(lambda chunk: [function(item) for item in chunk], items)


def in_chunks(function: Callable[[Sequence[T]], Sequence[R]], items: Iterable[T]) -> Generator[R]:
    """As `parallel`, with a function that maps several items at once."""
    with closing(ahead(function, batched(items, CHUNK), cores())) as results:
        for chunk in results:
            yield from chunk


def ahead(function: Callable[[T], R], items: Iterable[T], threads: int, waiting: int | None = None) -> Generator[R]:
    """As `parallel`, one item per task. `waiting` is the `buffersize` of Executor.map in Python 3.14."""
    most = AHEAD * threads if waiting is None else waiting
    begun: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """As itertools.batched of Python 3.12, with lists."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limits OpenCV and BLAS to one thread, for a block whose own threads keep all cores busy.

    Two BLAS threads in each of two threads took twice the CPU time, for waiting.
    """
    from threadpoolctl import threadpool_limits  # importing it sets an environment variable

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)
