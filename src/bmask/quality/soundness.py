"""Which measures pass the ladder on the photos at hand; the others are shown but decide nothing.

The perceptual distance is checked on five coarse rungs, because it cannot rank the whole ladder (see COARSE).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmask.quality import similarity
from bmask.quality.judge import Judge, Seen, inside, most
from bmask.quality.ladder import RUNGS, Climb, Ladder, Rungs, climb
from bmask.quality.perceptual import perceptual_distance

CLEAN = ("photo", "other face", "blurred", "mean face", "inpainted")
# Rungs were merged after the perceptual distance had failed the whole ladder: its judge, trained for a few minutes,
# ranks these five but not the kinds within one, such as a smear and a mask at 25 %, or masks at 50 % and 100 %.
# "the same, rung by rung" is the same distance, checked on the whole ladder.
COARSE: Rungs = (
    ("photo",),
    ("other face",),
    ("blurred", "mean face", "inpainted"),
    ("smeared", "recoloured", "distorted", "mask at 25 %"),
    ("mask at 50 %", "mask at 75 %", "mask at 100 %"),
)
MASKS = tuple((f"mask at {share} %",) for share in (25, 50, 75, 100))


@dataclass(frozen=True)
class Measure:
    """A measure that is checked on the ladder."""

    name: str
    claims: Rungs
    scores: tuple[str, ...]  # of the leaderboard that depend on it
    values: Callable[[Ladder, str, dict[str, Seen]], NDArray[np.float64]]  # of the pictures of a kind; lower is better


MEASURES = (
    Measure(
        "perceptual distance",
        COARSE,
        ("paste_distance", "region_distance"),
        lambda ladder, kind, seen: perceptual_distance(seen[kind], seen["photo"], ladder.regions),
    ),
    Measure(
        "the same, rung by rung",
        RUNGS,
        (),
        lambda ladder, kind, seen: perceptual_distance(seen[kind], seen["photo"], ladder.regions),
    ),
    Measure(
        "residue",
        (CLEAN, *MASKS),
        ("residue",),
        lambda ladder, kind, seen: inside(seen[kind].opacity, ladder.regions),
    ),
    Measure(
        "mask found",
        (CLEAN, tuple(kind for rung in MASKS for kind in rung)),
        ("residue_rate", "unmask_rate"),
        lambda ladder, kind, seen: most(seen[kind].shows),
    ),
    Measure(
        "PSNR",
        RUNGS,
        ("paste_psnr", "region_psnr"),
        lambda ladder, kind, seen: -_each(similarity.psnr, ladder, kind),
    ),
    Measure(
        "SSIM",
        RUNGS,
        ("paste_ssim", "region_ssim"),
        lambda ladder, kind, seen: -_each(similarity.ssim_inside, ladder, kind),
    ),
)


def climbs(judge: Judge, ladder: Ladder) -> list[Climb]:
    """The result of every measure."""
    seen, found = {kind: judge.see(pictures) for kind, pictures in ladder.pictures.items()}, []
    for measure in MEASURES:
        kinds = [kind for rung in measure.claims for kind in rung]
        values = {kind: measure.values(ladder, kind, seen) for kind in kinds}
        found.append(climb(measure.name, values, measure.claims))
    return found


def unsound(found: list[Climb], told: float) -> tuple[str, ...]:
    """The scores that depend on a measure that failed."""
    failed = {own.measure for own in found if not own.passed(told)}
    return tuple(score for measure in MEASURES if measure.name in failed for score in measure.scores)


def as_rows(found: list[Climb], told: float) -> list[dict[str, Any]]:
    """The results for files and reports."""
    return [
        {
            "measure": own.measure,
            "scores": measure.scores,
            "passed": own.passed(told),
            "share": own.share,
            "worst": own.worst,
            "inverted": own.inverted,
            "claims": own.claims,
            "means": own.means,
            "photos": own.photos,
        }
        for own, measure in zip(found, MEASURES, strict=True)
    ]


def _each(function: Callable[..., float], ladder: Ladder, kind: str) -> NDArray[np.float64]:
    rows = zip(ladder.pictures[kind], ladder.photos, ladder.regions, strict=True)
    return np.array([function(*row) for row in rows])
