"""Measures how long a training waits for data: alternates steps with fresh batches and steps with one fixed batch.

    python benchmarks/waiting.py --size 256 --batch 1

Photos are random. `share` is the time to draw, crop, flip and move a batch of each domain, divided by that of a step.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from pairing import pair, seconds, table
from sizes import add_sizes, system

from bmask.gan.device import pick_device, pick_precision
from bmask.gan.lookup import build_system
from bmask.training.batches import Feed
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.options import LoopOptions

PHOTOS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser, runs=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    device = pick_device(args.device)
    draws, load = np.random.default_rng(1), args.size * 286 // 256
    photos = {d: draws.integers(0, 256, (2, PHOTOS, load, load, 3), np.uint8) for d in "ab"}
    arrays = {d: torch.from_numpy(p).to(device) for d, p in photos.items()}
    feed = Feed({"unpaired": 1}, arrays, args.size, args.batch, 1)
    options = LoopOptions(batch_size=args.batch, precision=args.precision)
    precision = pick_precision(args.precision, device)
    engine = Engine(build_system(system(args)), options, device, precision, World())
    fixed, count = feed.at(0), iter(range(10**9))

    def fresh() -> None:
        step = next(count)
        engine.step(feed.at(step), 0, step)

    found = pair(fresh, lambda: engine.step(fixed, 0, next(count)), args.steps, str(device), warmup=2)
    data = sorted(seconds(lambda: feed.at(next(count)), str(device)) for _ in range(20))[10]
    step_s = found.summary()["s_per_step"]
    row = {
        "system": args.system,
        "size": args.size,
        "batch": args.batch,
        "device": str(device),
        "step_s": step_s,
        "batches_s": data,  # measured alone, not beside a step
        "share": data / step_s,
        "fresh_to_fixed": found.summary()["ratio"],
    }
    print(json.dumps(row) if args.json else table([row]))


if __name__ == "__main__":
    main()
