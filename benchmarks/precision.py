"""Times bf16 against fp32 on this processor with one thread: the basis of the rule of `train.precision: auto`.

    python benchmarks/precision.py

Measures products of large matrices, and AttentionGAN scheme 2 (24 filters, 4 blocks, 4 masks) forward and backward at
64 px. If the processor has AMX, bf16 is also measured with AMX switched off in oneDNN, as on Intel processors of the
generation before. Runs alternate, each in its own process. Times are CPU seconds, so other programs matter little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from pairing import table

from bmask.gan.device import autocast, fast_precision
from bmask.gan.lookup import build_system
from bmask.gan.systems.attentiongan import AttentionGANOptions

SIDE, BATCH, RUNS = 1024, 8, 9
CPU = torch.device("cpu")
ISA = "ONEDNN_MAX_CPU_ISA"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("bf16", "fp32"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(_measured(args.only)))
        return
    ways = {"fp32": ("fp32", ""), "bf16": ("bf16", "")}
    if torch.cpu._is_amx_tile_supported():
        ways["bf16 without AMX"] = ("bf16", "AVX512_CORE_BF16")
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, (precision, isa) in ways.items():
            kept = {name: value for name, value in os.environ.items() if name != ISA} | ({ISA: isa} if isa else {})
            command = [sys.executable, __file__, "--only", precision]
            found[way].append(json.loads(subprocess.run(command, env=kept, check=True, stdout=subprocess.PIPE).stdout))
    rows = []
    for way, each in found.items():
        row: dict[str, object] = {"precision": way}
        for name in each[0]:
            row[name] = statistics.median(one[name] for one in each)
        ratios = [plain["ms a photo"] / one["ms a photo"] for plain, one in zip(found["fp32"], each, strict=True)]
        rows.append(row | {"fp32 / this": statistics.median(ratios), "range": f"{min(ratios):.2f}–{max(ratios):.2f}"})
    print(table(rows))
    print(f"\nauto takes {': '.join(fast_precision(CPU))}; load {os.getloadavg()[0]:.1f}")


def _measured(precision: str) -> dict[str, float]:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in "ab")
    options = AttentionGANOptions(scheme=2, filters=24, blocks=4, masks=4)
    generator, photos = build_system(options).generators["ab"], torch.rand(BATCH, 3, 64, 64) * 2 - 1

    def step() -> None:
        with autocast(CPU, precision):
            made = generator(photos)
        made.image.float().square().mean().backward()

    return {
        "GFLOP/s of products": 2 * SIDE**3 / _median(lambda: left @ right) / 1e9,
        "ms a photo": 1000 * _median(step) / BATCH,
    }


def _median(action: Callable[[], object]) -> float:
    """Median CPU seconds of this process, which has one thread."""
    times = []
    for _ in range(2 + RUNS):
        began = time.process_time()
        action()
        times.append(time.process_time() - began)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main()
