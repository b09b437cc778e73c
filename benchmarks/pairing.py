"""Times two ways to do the same thing, alternating in one process, so that other load slows both equally."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Paired:
    """Seconds of each run, pair by pair."""

    plain: list[float]
    ours: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times faster ours was in each pair."""
        return [plain / ours for plain, ours in zip(self.plain, self.ours, strict=True)]

    def summary(self) -> dict[str, float]:
        """Medians, and the ratio's range over the pairs."""
        ratios = self.ratios
        return {
            "plain_s": statistics.median(self.plain),
            "s_per_step": statistics.median(self.ours),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }


def pair(plain: Callable[[], object], ours: Callable[[], object], runs: int, device: str, warmup: int = 1) -> Paired:
    """Runs both `warmup` times without counting, then times `runs` pairs; the order alternates."""
    for _ in range(warmup):
        seconds(plain, device), seconds(ours, device)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for number in range(runs):
        order = [("plain", plain), ("ours", ours)]
        for name, action in order if number % 2 == 0 else reversed(order):
            times[name].append(seconds(action, device))
    return Paired(**times)


def seconds(action: Callable[[], object], device: str) -> float:
    gc.collect()
    _wait(device)
    began = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def table(rows: list[dict[str, object]]) -> str:
    """A Markdown table of rows that have the same keys; numbers have three digits."""
    names = list(rows[0])
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    lines = [names, ["---"] * len(names), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
