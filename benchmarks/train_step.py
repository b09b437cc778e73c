"""Times a training step: the plain one of the papers against ours, alternating in one process.

    python benchmarks/train_step.py --system attentiongan --scheme 2 --size 256 --batch 1 --steps 3
    python benchmarks/train_step.py --ladder          # what each optimisation brings, one added after the other

Default sizes are the published ones (64 filters, 9 blocks); attention-guided discriminators are off, as in public
code. The order changes with every pair; ratio is plain / ours. share_of_rate: our rate divided by that at which this
device multiplies large matrices in our precision; at_most: the ratio if the whole step ran at that rate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable

import torch
from pairing import Paired, pair, seconds, table
from plain import PlainStep, Switches
from sizes import add_sizes, system

from bmask.gan.device import pick_device, pick_precision
from bmask.gan.lookup import build_system
from bmask.gan.options import SystemOptions
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.health import peak_memory
from bmask.training.options import LoopOptions

LR = 1e-4
LADDER = ("group_norm", "joined", "fused", "bf16", "compile")


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    device = str(pick_device(args.device))
    options = system(args)
    if args.only:
        action = _plain(args, options, device) if args.only == "plain" else _ours(args, options, device)
        for _ in range(2):
            action()
        print(_peak(device))
        return
    if args.ladder:
        print(table(_ladder(args, options, device)))
        return
    row = _row(args, options, device)
    print(json.dumps(row) if args.json else table([row]))


def _row(args: argparse.Namespace, options: SystemOptions, device: str) -> dict[str, object]:
    # Before this process grows: on Linux a child's peak memory starts at the size of its parent.
    peaks = {f"{name}_gb": _peak_alone(name) for name in ("plain", "ours")} if args.memory else {}
    found = _pair(args, _plain(args, options, device), _ours(args, options, device), device).summary()
    row: dict[str, object] = {
        "system": options.system + (str(options.scheme) if isinstance(options, AttentionGANOptions) else ""),
        "size": args.size,
        "batch": args.batch,
        "device": device,
        "precision": pick_precision(args.precision, torch.device(device)) + (" compiled" if args.compile else ""),
        **found,
        "images_per_s": args.batch / found["s_per_step"],
    }
    row |= peaks
    least = _flops(args, options) / _rate(device, pick_precision(args.precision, torch.device(device)))
    return row | {"share_of_rate": least / found["s_per_step"], "at_most": found["plain_s"] / least}


def _ladder(args: argparse.Namespace, options: SystemOptions, device: str) -> list[dict[str, object]]:
    """Each row has one more optimisation than the row before and is paired with the plain step."""
    rows, names = [], [name for name in LADDER if args.compile or name != "compile"]
    batch = _batch(args, device)
    plain = _plain(args, options, device)
    for count in range(1, len(names) + 1):
        switches = Switches(**dict.fromkeys(names[:count], True))
        other = PlainStep(options, 1, LR, device, switches)
        found = _pair(args, plain, lambda other=other: other.step(*batch), device).summary()
        rows.append(
            {"with": f"+ {names[count - 1]}", **{key: found[key] for key in ("ratio", "ratio_min", "ratio_max")}}
        )
    found = _pair(args, plain, _ours(args, options, device), device).summary()
    rows.append({"with": "bmask", **{key: found[key] for key in ("ratio", "ratio_min", "ratio_max")}})
    return rows


def _pair(args: argparse.Namespace, plain: Callable, ours: Callable, device: str) -> Paired:
    return pair(plain, ours, args.steps, device, warmup=3 if torch.device(device).type == "cuda" else 1)


def _plain(args: argparse.Namespace, options: SystemOptions, device: str) -> Callable[[], object]:
    plain, (a, b) = PlainStep(options, 1, LR, device), _batch(args, device)
    return lambda: plain.step(a, b)


def _ours(args: argparse.Namespace, options: SystemOptions, device: str) -> Callable[[], object]:
    torch.manual_seed(1)
    where = torch.device(device)
    chosen = LoopOptions(batch_size=args.batch, lr=LR, precision=args.precision, compile=args.compile)
    engine = Engine(build_system(options), chosen, where, pick_precision(args.precision, where), World())
    batch, count = _batch(args, device), iter(range(10**9))
    return lambda: engine.step(dict(zip("ab", batch, strict=True)), 0, next(count))


def _batch(args: argparse.Namespace, device: str) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    shape = (args.batch, 3, args.size, args.size)
    return [(torch.rand(shape, generator=draws) * 2 - 1).to(device) for _ in "ab"]


def _flops(args: argparse.Namespace, options: SystemOptions) -> float:
    """Operations of one plain step, counted by torch without computing it; a multiply-add counts as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _plain(args, options, "meta")()
    return float(counter.get_total_flops())


def _rate(device: str, precision: str) -> float:
    """Operations a second of a large matrix product on this device."""
    side = 8192 if torch.device(device).type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    for _ in range(3):
        a @ b
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def _peak(device: str) -> float:
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_memory()


def _peak_alone(name: str) -> float:
    """Peak GB of a process that only makes this step."""
    again = [sys.executable, *sys.argv, "--only", name]
    return float(subprocess.run(again, check=True, capture_output=True, text=True).stdout.split()[-1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser, runs=3)
    add = parser.add_argument
    add("--compile", action="store_true", help="use torch.compile in our step")
    add("--tf32", action="store_true", help="let fp32 use TF32 (CUDA)")
    add("--memory", action="store_true", help="measure the peak memory of each step in its own process")
    add("--ladder", action="store_true", help="show what each optimisation brings, one added after the other")
    add("--only", choices=("plain", "ours"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
