"""One progress bar for all long work: tqdm on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


def bar(items: Iterable[T], total: int | None = None, what: str = "", every: float = 15.0) -> Iterator[T]:
    """Yields the items. In a log, prints a line every `every` seconds and one at the end."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, leave=False, dynamic_ncols=True)
        return
    began = spoke = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - spoke >= every:
            spoke = now
            left = f", {(total - done) * (now - began) / done:.0f} s left" if total else ""
            say(f"{what}: {done}{f' of {total}' if total else ''}{left}")
    if done and time.monotonic() - began >= every:
        say(f"{what}: {done} in {time.monotonic() - began:.0f} s")


def say(line: str) -> None:
    """Prints a line to stderr; stdout is for results that scripts read."""
    print(line, file=sys.stderr, flush=True)
