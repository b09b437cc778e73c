"""Shows where the pictures of real generators stand on the ladder, whose rungs are made without generators.

    python benchmarks/rungs.py results smears=results/train/attentiongan/generator.safetensors:stretched

Each generator translates the ladder's photos with a mask at full opacity. `:stretched` first stretches its attention
mask to the range 0 to 1, which turns the ghost of a mask into a smear. The table shows the mean of each measure of the
gate for every kind of picture, from best to worst, and so between which rungs a generator's pictures fall.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from pairing import table

from bmask.data.split.dataset import Dataset, resize, to_photos, to_tensor
from bmask.gan.generator_file import load_generator
from bmask.quality.judge import FILE, load_judge, most
from bmask.quality.ladder import RUNGS, Photos, build
from bmask.quality.perceptual import perceptual_distance

SEED, BATCH = 5, 32


def main(results: str, *generators: str) -> None:
    dataset, (judge, _) = Dataset.open(Path(results) / "ingest"), load_judge(Path(results) / "judge" / FILE)
    ladder = build(resize(dataset.centre(dataset.photos("unmasked", "test")), judge.size), SEED)
    pictures, rungs = dict(ladder.pictures), {kind: number for number, rung in enumerate(RUNGS) for kind in rung}
    for named in generators:
        name, _, path = named.partition("=")
        file, _, how = path.partition(":")
        pictures[name] = _translated(file, ladder.pictures["mask at 100 %"], how == "stretched")
    seen = {kind: judge.see(own) for kind, own in pictures.items()}
    rows: list[tuple[float, dict[str, object]]] = []
    for kind in pictures:
        shows, distance = most(seen[kind].shows), perceptual_distance(seen[kind], seen["photo"], ladder.regions)
        told = {"mask found": shows, "perceptual distance": distance}
        means = {measure: f"{values.mean():.3f}" for measure, values in told.items()}
        row: dict[str, object] = {
            "pictures": kind,
            "rung": rungs.get(kind, ""),
            **means,
            "called masked": f"{(shows > 0.5).mean():.3f}",
        }
        rows.append((distance.mean(), row))
    print(table([row for _, row in sorted(rows, key=lambda each: each[0])]))


def _translated(file: str, photos: Photos, stretched: bool) -> Photos:
    generator, about = load_generator(Path(file))
    made = []
    with torch.inference_mode():
        for start in range(0, len(photos), BATCH):
            x = to_tensor(resize(photos[start : start + BATCH], int(about["image_size"])))
            y = generator.eval()(x)
            image = y.image.float()
            if stretched:
                low, high = y.attention.amin((2, 3), keepdim=True), y.attention.amax((2, 3), keepdim=True)
                wide = (y.attention - low) / (high - low).clamp(min=1e-6)
                image = x + (image - x) / y.attention.clamp(min=1e-3) * wide  # y = x + A (content - x)
            made.append(to_photos(image.clamp(-1, 1)))
    return resize(np.concatenate(made), photos.shape[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
