"""The gate before the alias `champion`: thresholds first, then one primary score against the present champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bmask.quality.scores import LOWER_IS_BETTER, Scores, paired_bootstrap, photo_interval, primary_name, primary_value

if TYPE_CHECKING:
    from bmask.params import sections


class Decision(NamedTuple):
    promote: bool
    reasons: tuple[str, ...]  # sentences with the numbers behind the decision


FALLBACKS = ("residue", "kid")
THRESHOLDS = {  # the score of each threshold and what it means
    "residue_rate": "share of photos that still show a mask",
    "grade": "grade of the masks' areas",
    "paste_outside": "change outside pasted masks",
    "cutout_outside": "change outside real masks",
    "cutout_area": "attention divided by the area of real masks",
}
CUTOUT_SCORES = ("cutout_outside", "cutout_area")  # measured only where the dataset has cut-outs of its masks


def check_thresholds(scores: Scores, register: sections.Register, evaluate: sections.Evaluate) -> Decision:
    """Whether the upper end of the interval of each score in THRESHOLDS is at most its threshold.

    A score also misses its threshold if it was not measured, or if its measure failed the ladder on these photos: a
    failed measure must not open the gate. Only CUTOUT_SCORES may be missing. The reasons name each case.
    """
    met, reasons = True, []
    for name, what in THRESHOLDS.items():
        if not scores.has(name) and name in CUTOUT_SCORES:
            reasons.append(f"The {what} was not measured, because the masks have no cut-outs; it is not required.")
            continue
        if not scores.has(name) or name in scores.unsound:
            why = "its measure failed the ladder on these photos" if scores.has(name) else "it was not measured"
            met = False
            reasons.append(f"The {what} misses register.max_{name}, because {why}; `bmask champion set` overrides it.")
            continue
        found, most = photo_interval(scores, name, evaluate.bootstrap, evaluate.seed), getattr(register, f"max_{name}")
        meets = bool(found.high <= most)
        met = met and meets
        reasons.append(
            f"The {what} is {found.value:.3f} (95 % interval up to {found.high:.3f}), which "
            f"{'meets' if meets else 'misses'} register.max_{name} {most:g}."
        )
    return Decision(met, tuple(reasons))


def deciding(scores: Scores, register: sections.Register) -> str:
    """The score that decides between systems: register.primary, or the first of FALLBACKS if that was not measured or
    failed the ladder. kid, which no ladder checks, is the last resort."""
    names = (register.primary, *FALLBACKS)
    return next(name for name in names if name == "kid" or (scores.has(name) and name not in scores.unsound))


def decide(
    challenger: Scores, champion: Scores | None, register: sections.Register, evaluate: sections.Evaluate
) -> Decision:
    """Whether the challenger becomes champion. The same judge scores both on today's photos.

    A challenger that misses a threshold is never promoted. One that meets all of them is promoted if there is no
    champion, if the champion itself misses one on today's photos, or if its primary score is better in at least
    `register.confidence` of the paired resamples. Raises DataError if the two were scored on different photos.
    """
    own = check_thresholds(challenger, register, evaluate)
    if not own.promote:
        return own
    if champion is None:
        return Decision(True, (*own.reasons, "There is no champion yet."))
    primary = deciding(challenger, register)
    name = primary_name(challenger, primary)
    sign = -1 if name in LOWER_IS_BETTER else 1
    new, old = (sign * primary_value(scores, primary) for scores in (challenger, champion))
    share = paired_bootstrap(challenger, champion, primary, evaluate.bootstrap, evaluate.seed)
    why = "failed the ladder" if challenger.has(register.primary) else "was not measured"
    instead = f"{register.primary} {why} on these photos, so {name} decides instead."
    reasons = (
        *own.reasons,
        *((instead,) if primary != register.primary else ()),
        f"Its {name} is {new:.4g} against the champion's {old:.4g}, better in {share:.1%} of {evaluate.bootstrap} "
        f"paired resamples; register.confidence requires {register.confidence:.0%}.",
    )
    present = check_thresholds(champion, register, evaluate)
    if not present.promote:
        missed = " ".join(reason for reason in present.reasons if "misses" in reason)
        return Decision(True, (*reasons, f"The champion itself misses a threshold on today's photos: {missed}"))
    return Decision(share >= register.confidence, reasons)


def pick(candidates: dict[str, Scores], register: sections.Register, evaluate: sections.Evaluate) -> str | None:
    """The best in the primary score among those that meet all thresholds; None if none does."""
    kept = [name for name, scores in candidates.items() if check_thresholds(scores, register, evaluate).promote]
    return max(
        kept, key=lambda name: primary_value(candidates[name], deciding(candidates[name], register)), default=None
    )
