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

CHUNK = 16  # photos a task: handing over one at a time costs as much as reading a header
AHEAD = 4  # tasks a thread that wait for it, or for the one before them


def cores() -> int:
    """How many this process may use: by its affinity, and by the limit of its container or pod."""
    import joblib

    return joblib.cpu_count()


def threads(stated: int | Literal["auto"], processes: int = 1) -> int:
    """CPU threads of each of so many processes on this machine: `auto` shares the cores among them."""
    return max(1, cores() // processes) if stated == "auto" else stated


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


def ahead(function: Callable[[T], R], items: Iterable[T], threads: int, waiting: int | None = None) -> Generator[R]:
    """As `parallel`, one item a task: Executor.map with the `buffersize` of Python 3.14, which `waiting` is."""
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
    """For a block whose threads keep all cores busy: a library's own threads beneath them would only be in the way.

    BLAS with two threads under two of ours spent twice the time of the cores, waiting.
    """
    from threadpoolctl import threadpool_limits  # its import sets a variable of the environment

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)
