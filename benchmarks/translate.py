"""Times the translation of photos as in serving: fp32 against the precision that bmask picks, alternating.

python benchmarks/translate.py --size 256
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from pairing import pair, table
from sizes import add_sizes, system

from bmask.gan.device import pick_device, pick_precision
from bmask.gan.lookup import build_generator
from bmask.serving.engines import PyTorch
from bmask.serving.unmasker import Unmasker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser, runs=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    torch.manual_seed(1)
    generator, about = build_generator(system(args)).eval(), {"image_size": args.size}
    plain, ours = (Unmasker(PyTorch(generator, about, str(device), each)) for each in ("fp32", args.precision))
    draws = np.random.default_rng(1)
    photos = [draws.integers(0, 256, (args.size, args.size, 3), np.uint8) for _ in range(args.batch)]

    found = pair(lambda: plain.unmask(photos), lambda: ours.unmask(photos), args.steps, str(device)).summary()
    images = [one.unmask(photos)[0].image.astype(int) for one in (plain, ours)]
    row = {
        "system": args.system,
        "size": args.size,
        "photos": args.batch,
        "device": str(device),
        "precision": pick_precision(args.precision, device),
        **found,
        "photos_per_s": args.batch / found["s_per_step"],
        "mean_difference": float(np.abs(images[0] - images[1]).mean()),  # grey levels
    }
    print(json.dumps(row) if args.json else table([row]))


if __name__ == "__main__":
    main()
