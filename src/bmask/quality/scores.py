"""Scores of one translation on the test photos, their intervals, and whether one translation is better than another.

`measuring` says what is measured per photo. For the set there are kid and frechet, under the name `judge_...` when they
use the judge's features.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bmask.errors import DataError
from bmask.files import write_bytes
from bmask.quality import distances

LOWER_IS_BETTER = {
    *("kid", "frechet", "judge_kid", "judge_frechet", "upper_mae", "region_mae", "outside_mae"),
    *(
        "residue",
        "residue_rate",
        "paste_distance",
        "paste_outside",
        "cutout_outside",
        "realism",
        "region_distance",
        "grade",
    ),
}
NEUTRAL = {"attention", "untouched", "paste_sharpness", "cutout_area"}  # described, not ranked
RATES = {"unmask_rate", "residue_rate"}
TOLD = "told"  # in photos and unmasked: whether a classifier is right about a photo; both give `realism`
FRECHET_RESAMPLES = 100  # each needs a singular value decomposition


class Interval(NamedTuple):
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """What was measured on N translated masked photos and on M real unmasked ones."""

    names: NDArray[np.str_]  # (N,)
    groups: NDArray[np.str_]  # (N,) photos of one group are resampled together
    slices: NDArray[np.str_]  # (N,) labels joined by ";"
    photos: Mapping[str, NDArray[np.float64]]  # per-photo scores by name, each (N,)
    features: NDArray[np.float32]  # (N, D)
    real: NDArray[np.float32]  # (M, D)
    real_groups: NDArray[np.str_]  # (M,)
    prefix: str  # of the distances' names
    unmasked: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # scores of the unmasked photos, (M,)
    lost: float = 0.0  # share of all masked photos in which no face was found; rates count them as still masked
    unsound: tuple[str, ...] = ()  # scores whose measures failed the ladder on these photos; they decide nothing

    def has(self, name: str) -> bool:
        """Whether the score was measured, in at least one photo."""
        return any(name in own and not np.isnan(own[name]).all() for own in (self.photos, self.unmasked))

    def column(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
        """A score's values and the groups of its photos, masked or unmasked."""
        if name in self.photos:
            return self.photos[name], self.groups
        return self.unmasked[name], self.real_groups

    def save(self, path: Path) -> None:
        """One .npz file without pickles."""
        buffer = io.BytesIO()
        arrays = {f"photos.{name}": values for name, values in self.photos.items()}
        arrays |= {f"unmasked.{name}": values for name, values in self.unmasked.items()}
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        arrays["unsound"] = np.array(self.unsound, dtype=np.str_)
        arrays["lost"] = np.array(self.lost)
        np.savez_compressed(buffer, allow_pickle=False, prefix=np.array(self.prefix), **arrays)
        write_bytes(path, buffer.getvalue())

    @staticmethod
    def load(path: Path) -> Scores:
        """Raises DataError when the file is missing or was not written by save."""
        try:
            with np.load(path, allow_pickle=False) as file:
                by_kind: dict[str, dict[str, NDArray]] = {"photos": {}, "unmasked": {}}
                for name in [name for name in file.files if "." in name]:
                    kind, _, score = name.partition(".")
                    by_kind[kind][score] = file[name]
                unsound = tuple(str(name) for name in file["unsound"])
                arrays = {name: file[name] for name in _ARRAYS}
                arrays |= {"prefix": str(file["prefix"]), "lost": float(file["lost"])}
                return Scores(photos=by_kind["photos"], unmasked=by_kind["unmasked"], unsound=unsound, **arrays)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(f"{path} holds no scores ({error}); run evaluate again") from error


_ARRAYS = ("names", "groups", "slices", "features", "real", "real_groups")


def intervals(scores: Scores, resamples: int, seed: int) -> dict[str, Interval]:
    """Every score of the set with its 95 % interval, from a bootstrap over groups of photos (percentiles).

    The Frechet distance of a resample is too high, because it has fewer different photos; its interval comes from
    FRECHET_RESAMPLES resamples, shifted so that their median is the value.
    """
    weights = group_weights(scores.groups, resamples, seed)
    real_weights = group_weights(scores.real_groups, resamples, seed + 1)
    names = [name for name in (*scores.photos, *scores.unmasked) if name != TOLD]
    found = {name: photo_interval(scores, name, resamples, seed) for name in names}
    if TOLD in scores.photos:
        sides = ((scores.photos, weights), (scores.unmasked, real_weights))
        ones = float(np.mean([_weighted(own[TOLD], np.ones((1, len(own[TOLD])))) for own, _ in sides]))
        resampled = np.mean([_weighted(own[TOLD], drawn) for own, drawn in sides], axis=0)
        found["realism"] = _interval(ones, resampled)
    kid = distances.kernel_distance(scores.features, scores.real)
    resampled = distances.kernel_distances(scores.features, scores.real, weights, real_weights)
    found[f"{scores.prefix}kid"] = _interval(kid, resampled)
    frechet = distances.frechet(scores.features, scores.real)
    few = zip(weights[:FRECHET_RESAMPLES], real_weights[:FRECHET_RESAMPLES], strict=True)
    resampled = np.array([distances.frechet(scores.features, scores.real, w, v) for w, v in few])
    found[f"{scores.prefix}frechet"] = _interval(frechet, resampled + frechet - np.median(resampled))
    return found


def photo_interval(scores: Scores, name: str, resamples: int, seed: int, among: NDArray | None = None) -> Interval:
    """Mean of a per-photo score with its interval; `among`, bool (N,), chooses photos, such as those of one slice.

    A bootstrap cannot vary a rate that is 0 or 1 in all n groups; its interval ends where the binomial distribution
    gives n such groups a probability of 2.5 % (Clopper and Pearson 1934). In rates of the whole set, photos in which no
    face was found (`scores.lost`) count as still masked.
    """
    values, groups = scores.column(name)
    chosen = np.ones(len(values), bool) if among is None else among
    values, groups = values[chosen], groups[chosen]
    value = float(_weighted(values, np.ones((1, len(values))))[0])
    if name in RATES and value in (0, 1):
        end = 0.025 ** (1 / len(np.unique(groups)))
        found = Interval(value, end, 1.0) if value else Interval(value, 0.0, 1 - end)
    else:
        found = _interval(value, _weighted(values, group_weights(groups, resamples, seed)))
    if name in RATES and among is None:
        stays = name == "residue_rate"
        found = Interval(*((1 - scores.lost) * own + scores.lost * stays for own in found))
    return found


def primary_name(scores: Scores, primary: str) -> str:
    """The full name of the primary score: `kid` stands for Inception's kernel distance or the judge's."""
    return f"{scores.prefix}kid" if primary == "kid" else primary


def primary_value(scores: Scores, primary: str) -> float:
    """The value of params.register.primary, with its sign turned where lower is better: larger is always better."""
    ones, real_ones = np.ones((1, len(scores.names))), np.ones((1, len(scores.real)))
    return float(_gain(scores, primary, ones, real_ones)[0])


def paired_bootstrap(challenger: Scores, champion: Scores, primary: str, resamples: int, seed: int) -> float:
    """Share of resamples of groups, the same for both, in which the challenger's primary score is strictly better.

    Raises DataError when the two were not measured on the same photos with the same features.
    """
    same = np.array_equal(challenger.names, champion.names) and challenger.prefix == champion.prefix
    if not same or challenger.real.shape != champion.real.shape:
        raise DataError("challenger and champion were scored on different photos or features; score both again")
    weights = group_weights(challenger.groups, resamples, seed)
    real_weights = group_weights(challenger.real_groups, resamples, seed + 1)
    gains = [_gain(scores, primary, weights, real_weights) for scores in (challenger, champion)]
    return float((gains[0] > gains[1]).mean())


def _gain(scores: Scores, primary: str, weights: NDArray, real_weights: NDArray) -> NDArray:
    if primary == "kid":
        return -distances.kernel_distances(scores.features, scores.real, weights, real_weights)
    values = _weighted(scores.column(primary)[0], weights if primary in scores.photos else real_weights)
    return -values if primary in LOWER_IS_BETTER else values


def group_weights(groups: NDArray, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each photo occurs in each resample, (resamples, N): as many groups are drawn as there are."""
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, member].astype(np.float64)


def _weighted(values: NDArray, weights: NDArray) -> NDArray:
    """Weighted means (R,) of the values that are not NaN."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # a resample without any such value is NaN
        return weights[:, there] @ values[there] / weights[:, there].sum(axis=1)


def _interval(value: float, resampled: NDArray) -> Interval:
    if not np.isfinite(resampled).any():
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
