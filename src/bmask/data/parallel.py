"""One function over many photos on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor


def parallel(function: Callable, items: list) -> Iterator:
    """Threads suffice: Pillow, OpenCV and hashlib let go of the interpreter while they work."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        yield from pool.map(function, items)
