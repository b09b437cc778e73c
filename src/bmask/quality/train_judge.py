"""Trains the judge, and checks it on photos and on styles of masks that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bmask.errors import TrainingError
from bmask.gan.device import autocast, pick_precision
from bmask.progress import bar
from bmask.quality.judge import Judge, digest, most
from bmask.quality.ladder import MIN_CONTRAST, build, left_part
from bmask.quality.specimens import Specimens, draw_bank

if TYPE_CHECKING:
    from bmask.params import sections

Photos = NDArray[np.uint8]
CLEAN_SHARE = 0.99  # the threshold is set so that this share of the unmasked training photos shows no mask,
MIN_THRESHOLD = 0.5  # but no lower, because the judge was trained on these photos
CHECKS_SEED = 77


def train_judge(masked: Photos, unmasked: Photos, options: sections.Judge) -> Judge:
    """Trains on uint8 photos (N, S, S, 3), S a multiple of 16. The same photos, options and thread count give the same
    bits on a CPU."""
    rng = np.random.default_rng(options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        judge = Judge(options.filters, unmasked.shape[1]).train()
        optimizer = torch.optim.AdamW(judge.parameters(), lr=options.lr, weight_decay=0.02)
        span = max(options.steps, 8)  # with fewer steps the schedule has no warm-up and divides by 0
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, span, pct_start=0.15)
        bank = draw_bank(Specimens(masked, unmasked, rng), min(options.specimens, options.steps * options.batch_size))
        cpu = torch.device("cpu")
        precision = pick_precision("auto", cpu)
        for _ in bar(range(options.steps), what="judge"):
            pictures, truths = bank.batch(rng, options.batch_size // 2)
            with autocast(cpu, precision):
                kinds, opacity = judge(pictures)
            loss = judging_loss(kinds.float(), opacity.float(), truths)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    judge.eval()
    real = np.concatenate([judge.photo_features(masked), judge.photo_features(unmasked)])
    judge.scale.fill_(1 / max(float(np.sqrt((real**2).mean())), 1e-6))
    judge.limit.fill_(np.clip(np.quantile(most(judge.see(unmasked).shows), CLEAN_SHARE), MIN_THRESHOLD, 0.99))
    return judge


def judging_loss(kinds: Tensor, opacity: Tensor, truths: Tensor) -> Tensor:
    """Cross entropy of each pixel's kind, plus that of the square root of the mask's opacity.

    kinds, opacity: logits (N, KINDS, s, s) and (N, s, s). truths: (N, 2, s, s), the number in KINDS and the opacity.
    """
    kind = F.cross_entropy(kinds, truths[:, 0].long())
    return kind + F.binary_cross_entropy_with_logits(opacity, truths[:, 1].sqrt())


def check_judge(
    judge: Judge,
    masked: Photos,
    unmasked: Photos,
    groups: tuple[NDArray[np.str_], NDArray[np.str_]],
    options: sections.Judge,
) -> dict[str, Any]:
    """Measures the judge on photos that it has not seen, uint8 (N, S, S, 3), and on masks of a style that it has not
    seen; masks in the skin's colour are left out.

    `groups` names each masked and each unmasked photo's group of near-duplicates. Each group counts once, so that eight
    near-duplicates of one odd photo do not decide. Returns {"clean", "found", "fooled", "passed", "failures", "digest",
    "kinds": {kind: {"share", "photos", "groups"}}}: clean is the share of unmasked photos in which it finds no mask,
    found the share of masks at half opacity that it finds, fooled the share of smears that it calls unmasked; `kinds`
    has the share of each kind of picture that it calls unmasked.
    """

    def called_unmasked(photos: Photos, own: NDArray[np.str_]) -> dict[str, Any]:
        _, member, sizes = np.unique(own, return_inverse=True, return_counts=True)
        share = np.average(judge.unmasked(photos) > 0.5, weights=1 / sizes[member])
        return {"share": float(share), "photos": len(photos), "groups": len(sizes)}

    covered, bare = groups
    kinds = {"masked": called_unmasked(masked, covered), "unmasked": called_unmasked(unmasked, bare)}
    ladder = build(unmasked, CHECKS_SEED, most=len(unmasked))
    seen = ladder.contrast > MIN_CONTRAST
    seen = seen if seen.any() else np.ones_like(seen)  # all, if no mask has enough contrast
    for kind, pictures in ladder.pictures.items():
        if kind != "photo":
            among = seen if "mask" in kind or kind == "smeared" else np.ones(len(seen), bool)
            kinds[kind] = called_unmasked(pictures[among], bare[among])
    for name, share in (("half left", 0.5), ("quarter left", 0.25)):
        kinds[name] = called_unmasked(left_part(ladder, share)[seen], bare[seen])
    found = {
        "clean": kinds["unmasked"]["share"],
        "found": 1 - kinds["mask at 50 %"]["share"],
        "fooled": kinds["smeared"]["share"],
    }
    failures = [
        f"{name} is {found[name]:.3f}, {'above' if at_most else 'below'} judge.{field} {limit:g}"
        for name, field, limit, at_most in (
            ("clean", "min_clean", options.min_clean, False),
            ("found", "min_found", options.min_found, False),
            ("fooled", "max_fooled", options.max_fooled, True),
        )
        if (found[name] > limit if at_most else found[name] < limit)
    ]
    return {**found, "passed": not failures, "failures": failures, "digest": digest(judge), "kinds": kinds}


def require_passed(checks: dict[str, Any], where: str) -> None:
    """Raises TrainingError when a check failed."""
    if not checks["passed"]:
        raise TrainingError(
            f"the judge failed its checks: {'; '.join(checks['failures'])}; its scores would be misleading: raise "
            f"judge.steps or judge.filters, or give more photos ({where} lists the judge's errors)"
        )
