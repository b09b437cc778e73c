"""The arguments of all benchmarks of networks, and the system that they select."""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from bmask.gan.options import SystemOptions
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions


def add_sizes(parser: argparse.ArgumentParser, runs: int) -> None:
    add = parser.add_argument
    add("--system", choices=("cyclegan", "attentiongan"), default="cyclegan")
    add("--scheme", type=int, choices=(1, 2), default=2, help="scheme of AttentionGAN")
    add("--size", type=int, default=256, help="side of the pictures, px")
    add("--batch", type=int, default=1)
    add("--steps", type=int, default=runs, help=f"number of counted pairs (default {runs})")
    add("--filters", type=int, default=64)
    add("--blocks", type=int, default=9)
    add("--device", default="auto")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="precision of our networks")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--json", action="store_true", help="print one line of JSON; s_per_step: seconds of ours")


def system(args: argparse.Namespace) -> SystemOptions:
    """Losses as in the public code: no guided discriminators, no curriculum; scheme 2 without pixel loss and TV."""
    sizes = {"filters": args.filters, "discriminator_filters": args.filters, "blocks": args.blocks}
    if args.system == "cyclegan":
        return replace(CycleGANOptions(), **sizes)
    public = AttentionGANOptions(guided=False, curriculum=False, w_gan=1.0, w_cycle=10.0, w_identity=5.0)
    if args.scheme == 2:
        public = replace(public, w_pixel=0.0, w_tv=0.0)
    return replace(public, scheme=args.scheme, **sizes)
