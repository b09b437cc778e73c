"""One function over many photos on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16  # photos a task: handing over one at a time costs as much as reading a header


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yields `function(item)` in the order of the items, a thread a core.

    What it raises is raised here, and the rest is left undone.
    """
    return in_chunks(lambda chunk: [function(item) for item in chunk], items)


def in_chunks(function: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> Iterator[R]:
    """As `parallel`, with a function that takes and gives several items."""
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    pool = ThreadPoolExecutor(cores())
    try:
        for results in pool.map(function, chunks):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)
