"""One function over many photos on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16  # photos a task: handing over one at a time costs as much as reading a header


def parallel(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yields `function(item)` in the order of the items. What it raises is raised here, and the rest is left undone.

    Threads suffice: Pillow, OpenCV and hashlib let go of the interpreter while they work.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    pool = ThreadPoolExecutor(cores)
    try:
        for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)
