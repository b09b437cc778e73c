"""Measures one translation of the test photos: per photo and, as features, for the set.

Everything is measured on the composite that serving returns, before it is enlarged and the photo's grain is added.
Per masked photo (grey levels are of 255):

    residue        mean opacity of the remaining mask over the mask's area
    residue_rate   1 where a mask still shows; unmask_rate is 1 where none does
    probability    how sure the judge is that no mask shows
    grade          how bad the mask's area looks, from 0 for a photo to 1 for an opaque mask
    told           1 where a classifier recognises the lower face as generated: one half of `realism`
    upper_ssim     SSIM with the input on the upper 45 % of the picture; upper_mae, its mean absolute difference
    attention      mean of the attention mask above its threshold, if the system has one
    untouched      share of pixels that are identical to the input's
    cutout_...     change outside the mask, attention divided by the mask's area, IoU; if cut-outs are given
    region_psnr, region_ssim, region_mae, region_distance    against the true face inside its mask region, if known
    outside_ssim, outside_mae                                against the input outside that region, if known

Per unmasked photo: paste_..., the result for a mask pasted on it, against the photo itself (`pasted`); bare_untouched,
the share of its pixels that stay identical if it has no mask; told, the other half of `realism`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmask.errors import DataError
from bmask.files import read_json
from bmask.quality import realism, similarity
from bmask.quality.features import Extract, extractor
from bmask.quality.judge import TOP_SHARE, Seen, inside
from bmask.quality.pasted import Pasted, measure_cutouts, measure_pasted, paste
from bmask.quality.perceptual import perceptual_distance
from bmask.quality.render import Photos, Render, Rendered, require_photos, resize_regions
from bmask.quality.scores import TOLD, Scores

if TYPE_CHECKING:
    from bmask.data.split.dataset import Dataset
    from bmask.quality.judge import Judge

SEED = 19  # of pasted masks: the same for all systems, here and at the gate
SHOWS = 0.5  # a pixel counts as the mask's above this probability


@dataclass(frozen=True)
class Reference:
    """What all systems are compared with, computed once for a split at one size."""

    dataset: Dataset
    split: str
    judge: Judge
    size: int
    prefix: str  # of the distances' names: "" or "judge_"
    extract: Extract
    masked: Photos  # (N, size, size, 3)
    real: NDArray[np.float32]  # features of the real unmasked photos
    lower: NDArray[np.float64]  # features of their lower faces
    pasted: Pasted
    regions: NDArray[np.bool_]  # (N, S, S) where the masked photos' masks are
    cutouts: NDArray[np.uint8] | None = None  # (N, size, size)
    twins: Seen | None = None  # what the judge sees in the true faces, where they are known
    unsound: tuple[str, ...] = ()  # scores whose measures failed the ladder

    @property
    def groups(self) -> NDArray[np.str_]:
        return np.asarray(self.dataset.groups("unmasked", self.split))


def reference(
    dataset: Dataset,
    split: str,
    judge: Judge,
    size: int,
    device: str = "cpu",
    cutouts: NDArray[np.uint8] | None = None,
    unsound: tuple[str, ...] = (),
) -> Reference:
    """The Reference of a split, at `size` px.

    Args:
        cutouts: uint8 (N, S, S), of the masked photos. Where a photo has neither cut-out nor truth, the judge says
            where its mask is, so that hard photos stay in the means.
        unsound: scores whose measures failed the ladder on these photos.

    Raises:
        DataError: the split has fewer than two masked or unmasked photos.
    """
    from bmask.data.split.dataset import resize

    require_photos(dataset, split)
    masked, unmasked = (
        resize(dataset.centre(dataset.photos(domain, split)), size) for domain in ("masked", "unmasked")
    )
    cutouts = None if cutouts is None else _resized(dataset.centre(cutouts), size)
    truth = dataset.truth(split)
    if truth is not None:
        regions = resize_regions(dataset.centre(truth[1]), size)
    else:
        regions = _seen_regions(judge, masked)
        if cutouts is not None:
            there = cutouts > 127
            regions = np.where(there.any(axis=(1, 2), keepdims=True), there, regions)
    twins = None if truth is None else judge.see(resize(dataset.centre(truth[0]), size))
    prefix, extract = extractor(judge, device)
    features, lower = extract(unmasked), realism.lower_features(unmasked)
    pasted = paste(judge, unmasked, SEED, masked, cutouts)
    return Reference(
        dataset, split, judge, size, prefix, extract, masked, features, lower, pasted, regions, cutouts, twins, unsound
    )


def read_cutouts(folder: Path | None, dataset: Dataset, split: str) -> NDArray[np.uint8] | None:
    """The cut-outs of a split's masked photos, uint8 (N, S, S), from the stage `masks`; None if it did not run.

    Raises DataError if they belong to another dataset's photos.
    """
    from bmask.data.split.dataset import open_array

    path = None if folder is None else folder / f"cutouts_{split}.npy"
    if path is None or not path.is_file():
        return None
    if read_json(path.with_name("summary.json"))["data_digest"] != dataset.digest:
        raise DataError(f"{folder} was made of other photos than {dataset.folder} holds; run `bmask masks` again")
    return open_array(path)


def score(render: Render, real: Reference) -> Scores:
    """Renders masked, pasted and bare photos and measures the pictures."""
    return measure(render(real.masked), render, real)


def measure(own: Rendered, render: Render, real: Reference) -> Scores:
    """Scores of the results for the masked photos, and of what `render` makes of pasted masks and of bare photos."""
    dataset, split = real.dataset, real.split
    photos, told = measure_masked(own, real), _told(own.images, real)
    covered, bare = render(real.pasted.covered), render(real.pasted.photos)
    unmasked = measure_pasted(covered, bare, real.pasted, real.judge)
    return Scores(
        names=np.array(dataset.names("masked", split)),
        groups=np.asarray(dataset.groups("masked", split)),
        slices=np.array([";".join(sorted(labels)) for labels in dataset.slices(split)], dtype=np.str_),
        photos={**photos, TOLD: told.fake},
        features=real.extract(own.images),
        real=real.real,
        real_groups=real.groups,
        prefix=real.prefix,
        unmasked={**unmasked, TOLD: told.real},
        unsound=real.unsound,
        lost=dataset.lost("masked"),
    )


def measure_masked(own: Rendered, real: Reference) -> dict[str, NDArray[np.float64]]:
    """Scores (N,) of the results for the masked photos."""
    inputs, images, attention = own
    seen = real.judge.see(images)
    probability = real.judge.sure(seen.shows)
    left = (probability <= 0.5).astype(np.float64)
    photos = {"residue": inside(seen.opacity, real.regions), "residue_rate": left, "unmask_rate": 1 - left}
    photos |= {"grade": inside(seen.grade, real.regions), "probability": probability}
    pairs = list(zip(images, inputs, strict=True))
    crops = [(similarity.upper(y), similarity.upper(x)) for y, x in pairs]
    photos["upper_ssim"] = _each(similarity.ssim, crops)
    photos["upper_mae"] = _each(similarity.mae, crops)
    photos["untouched"] = (images == inputs).all(axis=3).mean(axis=(1, 2))
    if attention is not None:
        photos["attention"] = attention.mean(axis=(1, 2), dtype=np.float64)
    if real.cutouts is not None:
        photos |= measure_cutouts(own, real.cutouts)
    if (truth := real.dataset.truth(real.split)) is not None and real.twins is not None:
        photos |= _against_twins(own, truth[0], perceptual_distance(seen, real.twins, real.regions), real)
    return photos


def _against_twins(
    own: Rendered, truth: Photos, distance: NDArray[np.float64], real: Reference
) -> dict[str, NDArray[np.float64]]:
    from bmask.data.split.dataset import resize

    size = own.images.shape[1]
    twins, regions = resize(real.dataset.centre(truth), size), real.regions
    within = list(zip(own.images, twins, regions, strict=True))
    outside = list(zip(own.images, own.photos, regions, strict=True))
    return {
        "region_psnr": _each(similarity.psnr, within),
        "region_ssim": _each(similarity.ssim_inside, within),
        "region_mae": _each(similarity.mae, within),
        "region_distance": distance,
        "outside_ssim": _each(similarity.ssim_outside, outside),
        "outside_mae": _each(lambda y, x, region: similarity.mae(y, x, ~region), outside),
    }


def _told(images: Photos, real: Reference) -> realism.Told:
    groups = np.asarray(real.dataset.groups("masked", real.split))
    return realism.two_sample(realism.lower_features(images), real.lower, (groups, real.groups))


def ceiling(real: Reference) -> dict[str, float]:
    """What the measures say about real faces; no system can be expected to be better."""
    unmasked = real.pasted.photos
    shares = {"of real unmasked photos show a mask": real.judge.unmasked(unmasked) <= 0.5}
    if (truth := real.dataset.truth(real.split)) is not None:
        shares["of the true faces behind the masks show one"] = (
            real.judge.unmasked(real.dataset.centre(truth[0])) <= 0.5
        )
    told = realism.real_against_real(real.lower, real.groups).accuracy
    return {
        **{what: float(share.mean()) for what, share in shares.items()},
        "accuracy in separating real lower faces from real ones": told,
    }


def _seen_regions(judge: Judge, photos: Photos) -> NDArray[np.bool_]:
    """Where the judge sees a mask (N, S, S); where it sees none, the TOP_SHARE of most probable pixels."""
    import cv2

    size = photos.shape[1]
    maps = [cv2.resize(own, (size, size), interpolation=cv2.INTER_LINEAR) for own in judge.see(photos).shows]
    return np.stack([own > SHOWS if (own > SHOWS).any() else own >= np.quantile(own, 1 - TOP_SHARE) for own in maps])


def _resized(cutouts: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    import cv2

    return np.stack([cv2.resize(np.asarray(own), (size, size), interpolation=cv2.INTER_AREA) for own in cutouts])


def _each(function: Callable[..., float], rows: list[tuple]) -> NDArray[np.float64]:
    return np.array([function(*row) for row in rows], dtype=np.float64)
