"""Whether a generator repeats faces that it learned from: the nearest training faces to those that it painted.

    python benchmarks/nearest.py [GENERATOR [RESULTS]]      # after `dvc repro masks` on the photos of its training

Lower faces are compared in the layers of the face detector's network. If what it paints lay nearer to training photos
than real faces do that it never saw, it would have learned them by heart. The sheet, results/nearest.png, shows the
photo, what was painted, and the three nearest training photos; open it, since a number sees no likeness.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from bmask.data.sheets import contact_sheet
from bmask.data.split.dataset import Dataset, resize, to_tensor
from bmask.gan.perceptual import FaceFeatures
from bmask.serving.unmasker import Unmasker

GENERATOR = "src/bmask_weights/photos-128/generator.safetensors"
SHOWN, SEED, NEAREST, LOWER = 24, 14, 3, 0.5


def main(generator_file: str = GENERATOR, results: str = "results") -> None:
    unmasker, dataset = Unmasker(generator_file), Dataset.open(Path(results) / "ingest")
    features = FaceFeatures()
    features.load_state_dict(load_file(Path(results) / "masks/features.safetensors"))

    def photos(domain: str, split: str) -> np.ndarray:
        return resize(dataset.centre(dataset.photos(domain, split)), unmasker.size)

    def described(pictures: np.ndarray) -> np.ndarray:
        """Unit vectors (N, D) of the lower halves."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(pictures), 64):
                layers = features(to_tensor(pictures[start : start + 64]))[1:3]
                found.append(
                    torch.cat([layer[..., int(layer.shape[2] * LOWER) :, :].flatten(1) for layer in layers], 1)
                )
        vectors = torch.cat(found)
        return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()

    known, unseen, masked = photos("unmasked", "train"), photos("unmasked", "test"), photos("masked", "test")
    made = np.stack([one.image for one in unmasker.unmask(list(masked), framed=True)])
    memory = described(known)
    likeness = {"painted": described(made) @ memory.T, "real, never seen": described(unseen) @ memory.T}
    print(f"likeness of lower faces to the nearest of {len(known)} training photos (cosine; 1 is the same)\n")
    print("| faces | number | median | 90 % | highest |\n|---|---|---|---|---|")
    for name, values in likeness.items():
        best = values.max(1)
        print(f"| {name} | {len(best)} | {np.median(best):.3f} | {np.quantile(best, 0.9):.3f} | {best.max():.3f} |")
    order = np.argsort(-likeness["painted"].max(1))  # the most like first, and some at random
    chosen = [*order[: SHOWN // 2], *np.random.default_rng(SEED).permutation(len(made))[: SHOWN // 2]]
    rows = [list(masked[chosen]), list(made[chosen])]
    nearest = np.argsort(-likeness["painted"][chosen], axis=1)[:, :NEAREST]
    rows += [list(known[nearest[:, place]]) for place in range(NEAREST)]
    labels = ["photo", "painted", *(f"training photo, nearest {place + 1}" for place in range(NEAREST))]
    Path(results, "nearest.png").write_bytes(contact_sheet(rows, labels))
    print(f"\n{results}/nearest.png: the {SHOWN // 2} most like, then {SHOWN // 2} drawn by seed {SEED}")


if __name__ == "__main__":
    main(*sys.argv[1:])
