"""The gate before the alias `champion`: thresholds first, then one primary score against the present champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bmask.quality.scores import LOWER_IS_BETTER, Scores, paired_bootstrap, photo_interval, primary_name, primary_value

if TYPE_CHECKING:
    from bmask.params import sections


class Decision(NamedTuple):
    promote: bool
    reasons: tuple[str, ...]  # sentences with the numbers behind the decision


def check_thresholds(scores: Scores, register: sections.Register, evaluate: sections.Evaluate) -> Decision:
    """Whether the lower ends of the intervals of unmask rate and upper-face SSIM clear their thresholds."""
    clears, reasons = True, []
    for name, what in (("unmask_rate", "unmask rate"), ("upper_ssim", "upper-face SSIM")):
        found = photo_interval(scores, name, evaluate.bootstrap, evaluate.seed)
        minimum = getattr(register, f"min_{name}")
        above = bool(found.low >= minimum)
        clears = clears and above
        reasons.append(
            f"The {what} is {found.value:.3f} (95 % interval from {found.low:.3f}), which "
            f"{'clears' if above else 'misses'} register.min_{name} {minimum:g}."
        )
    return Decision(clears, tuple(reasons))


def decide(
    challenger: Scores, champion: Scores | None, register: sections.Register, evaluate: sections.Evaluate
) -> Decision:
    """Whether the challenger becomes champion. Both are scored on the same photos of today by the same judge.

    A challenger under a threshold never does. Over both, it does when there is no champion, when the champion itself
    misses a threshold on today's photos, or when it is better in the primary score in at least `register.confidence` of
    the paired resamples. Raises DataError when the two were scored on different photos.
    """
    own = check_thresholds(challenger, register, evaluate)
    if not own.promote:
        return own
    if champion is None:
        return Decision(True, (*own.reasons, "There is no champion yet."))
    name = primary_name(challenger, register.primary)
    sign = -1 if name in LOWER_IS_BETTER else 1
    new, old = (sign * primary_value(scores, register.primary) for scores in (challenger, champion))
    share = paired_bootstrap(challenger, champion, register.primary, evaluate.bootstrap, evaluate.seed)
    reasons = (
        *own.reasons,
        f"Its {name} is {new:.4g} against the champion's {old:.4g}, better in {share:.1%} of {evaluate.bootstrap} "
        f"paired resamples; register.confidence asks for {register.confidence:.0%}.",
    )
    present = check_thresholds(champion, register, evaluate)
    if not present.promote:
        missed = " ".join(reason for reason in present.reasons if "misses" in reason)
        return Decision(True, (*reasons, f"The champion itself misses a threshold on today's photos: {missed}"))
    return Decision(share >= register.confidence, reasons)


def pick(candidates: dict[str, Scores], register: sections.Register, evaluate: sections.Evaluate) -> str | None:
    """The best in the primary score among those over both thresholds; None where none is."""
    over = [name for name, scores in candidates.items() if check_thresholds(scores, register, evaluate).promote]
    return max(over, key=lambda name: primary_value(candidates[name], register.primary), default=None)
