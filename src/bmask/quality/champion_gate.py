"""The gate before the alias `champion`: thresholds first, then one primary score against the present champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bmask.quality.scores import LOWER_IS_BETTER, Scores, paired_bootstrap, photo_interval, primary_name, primary_value

if TYPE_CHECKING:
    from bmask.params import sections


class Decision(NamedTuple):
    promote: bool
    reasons: tuple[str, ...]  # sentences with the numbers behind the decision


INSTEAD = ("residue", "kid")
LIMITS = {  # score: what it is
    "residue_rate": "share of photos that still show a mask",
    "grade": "distance of the masks' areas from a photo",
    "paste_outside": "change outside of pasted masks",
    "cutout_outside": "change beyond real masks",
    "cutout_area": "attention over the area of real masks",
}
CUTOUTS = ("cutout_outside", "cutout_area")  # which a dataset without cut-outs of its masks cannot have


def check_thresholds(scores: Scores, register: sections.Register, evaluate: sections.Evaluate) -> Decision:
    """Whether the upper ends of the intervals of LIMITS keep to their thresholds.

    What was not measured, or was measured by what failed the ladder on these photos, keeps to no threshold: a gate
    that opens when its measures fall is none. Only CUTOUTS may be missing. Each is named in the reasons.
    """
    keeps, reasons = True, []
    for name, what in LIMITS.items():
        if not scores.has(name) and name in CUTOUTS:
            reasons.append(f"The {what} was not measured, for want of cut-outs of the masks; it is not asked for.")
            continue
        if not scores.has(name) or name in scores.unsound:
            why = "its measure failed the ladder on these photos" if scores.has(name) else "it was not measured"
            keeps = False
            reasons.append(f"The {what} misses register.max_{name}, since {why}; a person may promote by hand.")
            continue
        found, limit = photo_interval(scores, name, evaluate.bootstrap, evaluate.seed), getattr(register, f"max_{name}")
        below = bool(found.high <= limit)
        keeps = keeps and below
        reasons.append(
            f"The {what} is {found.value:.3f} (95 % interval up to {found.high:.3f}), which "
            f"{'keeps to' if below else 'misses'} register.max_{name} {limit:g}."
        )
    return Decision(keeps, tuple(reasons))


def deciding(scores: Scores, register: sections.Register) -> str:
    """The score that decides between systems: register.primary, or the first of INSTEAD where it was not measured or
    failed the ladder. One that is held to no ladder, such as kid, is the last resort."""
    rivals = (register.primary, *INSTEAD)
    return next(name for name in rivals if name == "kid" or (scores.has(name) and name not in scores.unsound))


def decide(
    challenger: Scores, champion: Scores | None, register: sections.Register, evaluate: sections.Evaluate
) -> Decision:
    """Whether the challenger becomes champion. Both are scored on the same photos of today by the same judge.

    A challenger that misses a threshold never does. One that keeps to all of them does when there is no champion, when
    the champion itself misses one on today's photos, or when it is better in the primary score in at least
    `register.confidence` of the paired resamples. Raises DataError when the two were scored on different photos.
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
        f"paired resamples; register.confidence asks for {register.confidence:.0%}.",
    )
    present = check_thresholds(champion, register, evaluate)
    if not present.promote:
        missed = " ".join(reason for reason in present.reasons if "misses" in reason)
        return Decision(True, (*reasons, f"The champion itself misses a threshold on today's photos: {missed}"))
    return Decision(share >= register.confidence, reasons)


def pick(candidates: dict[str, Scores], register: sections.Register, evaluate: sections.Evaluate) -> str | None:
    """The best in the primary score among those that keep to all thresholds; None where none does."""
    kept = [name for name, scores in candidates.items() if check_thresholds(scores, register, evaluate).promote]
    return max(
        kept, key=lambda name: primary_value(candidates[name], deciding(candidates[name], register)), default=None
    )
