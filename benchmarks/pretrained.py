"""What a generator makes of masks pasted on unmasked test photos, and of the same photos bare, as a table.

`python benchmarks/pretrained.py [GENERATOR [RESULTS]]`, after `dvc repro masks` on photos of its size: results/ingest
has photos that it never saw where the same photos were split for its training. Everything is done as it is served.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bmask.data.split.dataset import Dataset, resize
from bmask.pasting.cutouts import lift
from bmask.quality import similarity
from bmask.quality.ladder import visible_masks
from bmask.quality.pasted import overlap
from bmask.quality.perceptual import sharpness
from bmask.quality.render import Rendered
from bmask.serving.unmasker import Unmasker

GENERATOR = "src/bmask_weights/photos-128/generator.safetensors"
PHOTOS = 160  # with each kind of mask
SEED = 19
CLEAR = 100  # alpha from which a pixel lies inside


def main(generator_file: str = GENERATOR, results: str = "results") -> None:
    unmasker = Unmasker(generator_file)
    about, size = unmasker.about, unmasker.size
    dataset = Dataset.open(Path(results) / "ingest")

    def render(photos: np.ndarray) -> Rendered:
        made = unmasker.unmask(list(photos), framed=True)
        images, weights = (np.stack([getattr(one, name) for one in made]) for name in ("image", "attention"))
        return Rendered(photos, images, np.asarray(weights / 255, np.float32))

    unmasked, masked = (
        resize(dataset.centre(dataset.photos(domain, "test")), size) for domain in ("unmasked", "masked")
    )
    photos = unmasked[:PHOTOS]
    kinds = {"drawn, of an unseen style": visible_masks(photos, SEED)}
    path = Path(results) / "masks/cutouts_test.npy"
    if path.exists():
        cutouts = resize(np.repeat(dataset.centre(np.load(path))[..., None], 3, -1), size)[..., 0]
        there = np.flatnonzero(cutouts.any((1, 2)))
        kinds["cut out of test photos"] = lift(masked[there], cutouts[there], len(photos), SEED)
    known = "of its own dataset" if about.get("data_digest") == dataset.digest else "of another dataset than its own"
    print(f"{len(photos)} unmasked test photos {known}, {size} px\n")
    print(
        "| masks | PSNR inside | SSIM inside | sharpness | change outside | attention IoU |\n|---|---|---|---|---|---|"
    )
    for name, masks in kinds.items():
        alpha = masks[..., 3:] / 255
        covered = (photos + alpha * (masks[..., :3] - photos.astype(np.float64))).round().astype(np.uint8)
        made, inside = render(covered), masks[..., 3] > CLEAR
        rows = list(zip(made.images, photos, inside, strict=True))
        sharp = np.median(sharpness(made.images, inside) / sharpness(photos, inside))
        outside = [similarity.mae(y, x, m == 0) for y, x, m in zip(made.images, covered, masks[..., 3], strict=True)]
        found = overlap(made.attention, inside).mean() if made.attention is not None else float("nan")
        scores = np.mean([(similarity.psnr(*row), similarity.ssim_inside(*row)) for row in rows], axis=0)
        numbers = (f"{scores[0]:.2f}", f"{scores[1]:.3f}", f"{sharp:.2f}", f"{np.mean(outside):.2f}", f"{found:.3f}")
        print(f"| {name} | {' | '.join(numbers)} |")
    bare = render(photos)
    print(f"\nwithout a mask: {(bare.images == photos).all(-1).mean():.1%} of the pixels stay as they are")
    if path.exists():
        own, region = render(masked[there]), cutouts[there] > CLEAR
        if own.attention is not None:
            area = np.mean(own.attention.sum((1, 2)) / region.sum((1, 2)))
            iou = overlap(own.attention, region).mean()
            print(f"real masked photos: attention of {area:.2f} times the cut-out's area, IoU {iou:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
