"""Tests whether a generator repeats faces of its training: finds the training faces nearest to those it painted.

    python benchmarks/nearest.py [GENERATOR [RESULTS]]      # after `dvc repro masks` on the photos of its training

Lower faces are compared in the layers of the face detector's network. If painted faces are nearer to training photos
than unseen real faces are, the generator has memorised training faces. results/nearest.png shows the photo, the painted
face and the three nearest training photos; look at it, since the numbers can miss a likeness.
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
SHOWN, SEED, NEAREST, LOWER_FACE = 24, 14, 3, 0.5  # LOWER_FACE: where it begins, share of the height


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
                    torch.cat([layer[..., int(layer.shape[2] * LOWER_FACE) :, :].flatten(1) for layer in layers], 1)
                )
        vectors = torch.cat(found)
        return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()

    known, unseen, masked = photos("unmasked", "train"), photos("unmasked", "test"), photos("masked", "test")
    made = np.stack([one.image for one in unmasker.unmask(list(masked), framed=True)])
    memory = described(known)
    similarity = {"painted": described(made) @ memory.T, "real, never seen": described(unseen) @ memory.T}
    print(f"similarity of lower faces to the nearest of {len(known)} training photos (cosine; 1 is identical)\n")
    print("| faces | number | median | 90 % | highest |\n|---|---|---|---|---|")
    for name, values in similarity.items():
        best = values.max(1)
        print(f"| {name} | {len(best)} | {np.median(best):.3f} | {np.quantile(best, 0.9):.3f} | {best.max():.3f} |")
    order = np.argsort(-similarity["painted"].max(1))  # the most similar first, then some at random
    chosen = [*order[: SHOWN // 2], *np.random.default_rng(SEED).permutation(len(made))[: SHOWN // 2]]
    rows = [list(masked[chosen]), list(made[chosen])]
    nearest = np.argsort(-similarity["painted"][chosen], axis=1)[:, :NEAREST]
    rows += [list(known[nearest[:, place]]) for place in range(NEAREST)]
    labels = ["photo", "painted", *(f"training photo, nearest {place + 1}" for place in range(NEAREST))]
    Path(results, "nearest.png").write_bytes(contact_sheet(rows, labels))
    print(f"\n{results}/nearest.png: the {SHOWN // 2} most similar, then {SHOWN // 2} at random (seed {SEED})")


if __name__ == "__main__":
    main(*sys.argv[1:])
