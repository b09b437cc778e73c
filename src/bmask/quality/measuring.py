"""Measures one translation of the test photos: per photo and, as features, for the set.

Everything is measured on the composite that serving gives. Per photo (grey levels are of 255):

    probability    that the judge gives to "unmasked"; unmask_rate is 1 where it is above one half
    upper_ssim     SSIM with the input on the upper 45 % of the picture; upper_mae, its mean absolute difference
    attention      mean of the attention mask, where the system has one
    untouched      share of pixels that are the input's own, bit for bit
    region_psnr, region_ssim, region_mae    against the true face inside the true mask region, where truth exists
    outside_ssim, outside_mae               against the input outside that region, where truth exists
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmask.quality import similarity
from bmask.quality.features import Extract, extractor
from bmask.quality.render import Rendered, Translate, render, resize_regions
from bmask.quality.scores import Scores

if TYPE_CHECKING:
    from bmask.data.split.dataset import Dataset
    from bmask.quality.judge import Judge


@dataclass(frozen=True)
class Reference:
    """The real unmasked photos of a split, as features; taken once for all systems."""

    prefix: str  # of the distances' names: "" or "judge_"
    extract: Extract
    features: NDArray[np.float32]
    groups: NDArray[np.str_]


def reference(dataset: Dataset, split: str, judge: Judge, size: int, device: str = "cpu") -> Reference:
    """Features of the split's real unmasked photos at `size` px."""
    from bmask.data.split.dataset import resize

    prefix, extract = extractor(judge, device)
    features = extract(resize(dataset.photos("unmasked", split), size))
    return Reference(prefix, extract, features, dataset.groups("unmasked", split))


def score(
    translate: Translate,
    dataset: Dataset,
    split: str,
    judge: Judge,
    size: int,
    threshold: float,
    real: Reference | None = None,
) -> Scores:
    """Translates the split's masked photos at `size` px and measures the composites. `real` saves taking it again.

    Raises DataError when the split has fewer than two masked or unmasked photos.
    """
    rendered = render(translate, dataset, split, size, threshold)
    return measure(rendered, dataset, split, judge, real or reference(dataset, split, judge, size))


def measure(rendered: Rendered, dataset: Dataset, split: str, judge: Judge, real: Reference) -> Scores:
    """Scores of the rendered pictures of the split's masked photos."""
    from bmask.data.split.dataset import resize

    inputs, images, attention = rendered
    size = images.shape[1]
    probability = judge.unmasked(images)
    photos = {"probability": probability, "unmask_rate": (probability > 0.5).astype(np.float64)}
    pairs = list(zip(images, inputs, strict=True))
    crops = [(similarity.upper(y), similarity.upper(x)) for y, x in pairs]
    photos["upper_ssim"] = _each(similarity.ssim, crops)
    photos["upper_mae"] = _each(similarity.mae, crops)
    photos["untouched"] = (images == inputs).all(axis=3).mean(axis=(1, 2))
    if attention is not None:
        photos["attention"] = attention.mean(axis=(1, 2), dtype=np.float64)
    if (truth := dataset.truth(split)) is not None:
        twins, regions = resize(truth[0], size), resize_regions(truth[1], size)
        inside = list(zip(images, twins, regions, strict=True))
        outside = [(y, x, region) for (y, x), region in zip(pairs, regions, strict=True)]
        photos["region_psnr"] = _each(similarity.psnr, inside)
        photos["region_ssim"] = _each(similarity.ssim_inside, inside)
        photos["region_mae"] = _each(similarity.mae, inside)
        photos["outside_ssim"] = _each(similarity.ssim_outside, outside)
        photos["outside_mae"] = _each(lambda y, x, region: similarity.mae(y, x, ~region), outside)
    return Scores(
        names=np.array(dataset.names("masked", split)),
        groups=np.asarray(dataset.groups("masked", split)),
        slices=np.array([";".join(sorted(labels)) for labels in dataset.slices(split)], dtype=np.str_),
        photos=photos,
        features=real.extract(images),
        real=real.features,
        real_groups=np.asarray(real.groups),
        prefix=real.prefix,
    )


def ceiling(dataset: Dataset, split: str, judge: Judge) -> dict[str, float]:
    """What the judge says of real faces: no system can be expected to score above that."""
    shares = {"real unmasked photos": (judge.unmasked(dataset.photos("unmasked", split)) > 0.5).mean()}
    if (truth := dataset.truth(split)) is not None:
        shares["the true faces behind the masks"] = (judge.unmasked(truth[0]) > 0.5).mean()
    return {what: float(share) for what, share in shares.items()}


def _each(function: Callable[..., float], rows: list[tuple]) -> NDArray[np.float64]:
    return np.array([function(*row) for row in rows], dtype=np.float64)
