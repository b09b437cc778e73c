"""Times a training step of the embedded recipe, alone and beside other busy programs: one process with a thread for
each core against a process for each core with its share of the batch, which exchange gradients as in a training.

    python benchmarks/company.py            # one process with two threads, two processes; beside 0 and 1 busy programs

Both stay loaded and alternate after a few steps, so that other load slows both equally; the order changes with every
round. Times are medians over all steps; `slower` compares with the same way without busy programs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pairing import table

from bmask.gan.device import pick_precision
from bmask.gan.lookup import build_system
from bmask.parallel import cores
from bmask.params import load_params
from bmask.training.batches import Feed
from bmask.training.distributed import joined
from bmask.training.engine import Engine
from bmask.training.options import LoopOptions

BUSY_PROGRAM = [sys.executable, "-c", "while True: pass"]
PHOTOS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="attentiongan", help="a model of params.yaml")
    add("--precision", choices=("auto", "bf16", "fp32"), default="fp32")
    add("--processes", type=int, default=min(2, cores()))
    add("--busy", type=int, nargs="*", default=[0, 1], help="numbers of busy programs to run beside it")
    add("--rounds", type=int, default=7)
    add("--steps", type=int, default=3, help="number of steps in a round")
    add("--threads", type=int, default=0, help=argparse.SUPPRESS)  # of a worker
    args = parser.parse_args()
    if args.threads:
        _work(args)
        return
    with contextlib.ExitStack() as stack:
        ways = {
            f"1 process, {args.processes} threads": stack.enter_context(_Training(args, 1, args.processes)),
            f"{args.processes} processes, 1 thread": stack.enter_context(_Training(args, args.processes, 1)),
        }
        print(f"load before: {os.getloadavg()[0]:.1f} of {cores()} cores", file=sys.stderr, flush=True)
        found = _measure(ways, args)
    print(table([_row(way, times, args) for way, times in found.items()]))
    threads, processes = ({busy: statistics.median(each) for busy, each in times.items()} for times in found.values())
    for busy in args.busy:
        print(f"\nbeside {busy} busy programs: threads / processes = {threads[busy] / processes[busy]:.2f}", end="")
    print()


def _measure(ways: dict[str, _Training], args: argparse.Namespace) -> dict[str, dict[int, list[float]]]:
    """Seconds of each step, by way and number of busy programs."""
    times: dict[str, dict[int, list[float]]] = {way: {busy: [] for busy in args.busy} for way in ways}
    for training in ways.values():
        training.steps(args.steps)  # not counted
    for number in range(args.rounds):
        for busy in args.busy:
            with _busy_programs(busy):
                for way in list(ways) if number % 2 == 0 else reversed(ways):
                    times[way][busy] += ways[way].steps(args.steps)
    return times


def _row(way: str, times: dict[int, list[float]], args: argparse.Namespace) -> dict[str, object]:
    row: dict[str, object] = {"": way, "precision": pick_precision(args.precision, torch.device("cpu"))}
    alone = statistics.median(times[args.busy[0]])
    for busy, each in times.items():
        row[f"beside {busy}, ms"] = 1000 * statistics.median(each)
        if busy != args.busy[0]:
            row[f"slower beside {busy}"] = statistics.median(each) / alone
    return row


@contextlib.contextmanager
def _busy_programs(count: int) -> Iterator[None]:
    others = [subprocess.Popen(BUSY_PROGRAM) for _ in range(count)]
    try:
        time.sleep(0.3 if count else 0)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


class _Training:
    """Processes that train together and wait until they are told to make the next steps."""

    def __init__(self, args: argparse.Namespace, processes: int, threads: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        place["TORCHELASTIC_RUN_ID"] = "company"  # as torchrun sets it
        command = [sys.executable, *sys.argv, "--threads", str(threads)]
        self.workers = [
            subprocess.Popen(
                command,
                env={**os.environ, **place, "RANK": str(rank), "WORLD_SIZE": str(processes)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(processes)
        ]

    def __enter__(self) -> _Training:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.communicate()  # closes its input, which ends it

    def steps(self, count: int) -> list[float]:
        """Makes `count` steps; returns the seconds of each, measured by the first process."""
        for worker in self.workers:
            print(count, file=worker.stdin, flush=True)
        told = [
            json.loads(worker.stdout.readline()) for worker in self.workers if worker.stdout
        ]  # waits for all of them
        return told[0]


def _work(args: argparse.Namespace) -> None:
    """Runs one of the processes: reads a number of steps from stdin, makes them and prints their seconds."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    recipe, device = params.models[args.model], torch.device("cpu")
    size, load, batch = params.train.image_size, params.ingest.load_size, recipe.schedule.batch_size
    precision = pick_precision(args.precision, device)
    draws = np.random.default_rng(1)
    photos = {d: draws.integers(0, 256, (1, PHOTOS, load, load, 3), np.uint8) for d in "ab"}
    with joined(device) as world:
        options = LoopOptions(batch_size=batch, image_size=size, pool=params.train.pool, ema=params.train.ema)
        engine = Engine(build_system(recipe.network), options, device, precision, world)
        arrays = {d: torch.from_numpy(p) for d, p in photos.items()}
        feed = Feed(recipe.network.needs, arrays, size, batch, 1, world)
        step = 0
        for line in sys.stdin:
            seconds = []
            for _ in range(int(line)):
                began = time.perf_counter()
                engine.step(feed.at(step), 0, step)
                world.any(False)  # the training loop exchanges this too, for SIGTERM
                seconds.append(time.perf_counter() - began)
                step += 1
            print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
