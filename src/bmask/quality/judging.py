"""Trains a judge on real photos and counterfeits, and checks it on those it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from bmask.errors import TrainingError
from bmask.progress import bar
from bmask.quality.counterfeits import CHECKS, MOUTHLESS, PASTED, SPOILED, TRAINING, Counterfeiter, augment
from bmask.quality.judge import Judge

if TYPE_CHECKING:
    from bmask.params import sections

Photos = NDArray[np.uint8]
SMOOTHING = 0.05  # of the labels: a judge that is never sure leaves room between a good and a perfect face


def train_judge(masked: Photos, unmasked: Photos, size: int, options: sections.Judge) -> Judge:
    """Trains on uint8 photos (N, size, size, 3). The same photos, options and thread count give the same bits on a CPU.

    Half of each batch is labelled unmasked: unmasked photos, some with another's lower face. The other half is masked:
    masked photos, some spoiled, and unmasked ones with pasted masks or spoiled mouths. An epoch shows twice as many
    pictures as there are photos, since about half of them are counterfeits.
    """
    rng = np.random.default_rng(options.seed)
    batches = max(1, round(2 * (len(masked) + len(unmasked)) / options.batch_size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        judge = Judge(options.filters, size).train()
        optimizer = torch.optim.AdamW(judge.parameters(), lr=options.lr, weight_decay=0.02)
        steps = options.epochs * batches
        span = max(steps, 6)  # with five steps or fewer the schedule divides by a warm-up of none
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, span, pct_start=0.2)
        maker = Counterfeiter(masked, unmasked, TRAINING, rng)
        for _ in bar(range(steps), what="judge"):
            pictures, labels = _batch(maker, max(1, options.batch_size // 2))
            logits = judge(_tensor(pictures))
            loss = F.binary_cross_entropy_with_logits(logits, labels * (1 - 2 * SMOOTHING) + SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    judge.eval()
    real = np.concatenate([judge.photo_features(masked), judge.photo_features(unmasked)])
    judge.scale.fill_(1 / max(float(np.sqrt((real**2).mean())), 1e-6))
    return judge


def _batch(maker: Counterfeiter, half: int) -> tuple[NDArray[np.float32], torch.Tensor]:
    """`half` pictures labelled 1 (unmasked), then as many labelled 0."""
    rng, pictures = maker.rng, []
    for _ in range(half):
        photo = maker.unmasked[rng.integers(len(maker.unmasked))].astype(np.float32)
        pictures.append(augment(maker.swap(photo) if rng.random() < 0.15 else photo, rng))
    for _ in range(half):
        kind = rng.choice(["real", "spoiled", "pasted", "mouthless"], p=[0.45, 0.25, 0.2, 0.1])
        domain = maker.masked if kind in ("real", "spoiled") else maker.unmasked
        photo = domain[rng.integers(len(domain))].astype(np.float32)
        if kind == "pasted":
            photo = maker.paste(photo, rng.choice(PASTED))
        elif kind == "spoiled":
            photo = maker.spoil(photo, rng.choice(SPOILED))
        elif kind == "mouthless":
            photo = maker.spoil(photo, rng.choice(MOUTHLESS))
        pictures.append(augment(photo, rng))
    return np.stack(pictures), torch.cat([torch.ones(half), torch.zeros(half)])


def _tensor(pictures: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1  # so laid out that the channels come last


def check_judge(
    judge: Judge,
    masked: Photos,
    unmasked: Photos,
    groups: tuple[NDArray[np.str_], NDArray[np.str_]],
    options: sections.Judge,
) -> dict[str, Any]:
    """Measures the judge on photos it has not seen, real and counterfeit, uint8 (N, S, S, 3).

    `groups` names each masked and each unmasked photo's group of near-duplicates; a group counts once, or one odd photo
    that occurs eight times would decide. Returns {"accuracy", "pasted", "fooled", "passed", "failures", "kinds": {kind:
    {"share", "photos", "groups"}}}: accuracy is the mean over both domains; pasted the share of unmasked photos with
    pasted masks that it calls masked; fooled the share of masked photos with spoiled lower faces that it calls
    unmasked; `kinds` has the share that it calls unmasked for each kind of picture.
    """
    maker = Counterfeiter(masked, unmasked, CHECKS, np.random.default_rng(options.seed + 1))

    def called_unmasked(photos: Photos, own: NDArray[np.str_]) -> dict[str, Any]:
        _, member, sizes = np.unique(own, return_inverse=True, return_counts=True)
        share = np.average(judge.unmasked(photos) > 0.5, weights=1 / sizes[member])
        return {"share": float(share), "photos": len(photos), "groups": len(sizes)}

    def counterfeits(photos: Photos, make: Callable[[NDArray, str], NDArray], kind: str) -> Photos:
        return np.stack([make(photo.astype(np.float32), kind).round() for photo in photos]).astype(np.uint8)

    covered, bare = groups
    kinds = {"masked": called_unmasked(masked, covered), "unmasked": called_unmasked(unmasked, bare)}
    for kind in PASTED:
        kinds[f"pasted {kind}"] = called_unmasked(counterfeits(unmasked, maker.paste, kind), bare)
    for kind in SPOILED:
        kinds[f"spoiled {kind}"] = called_unmasked(counterfeits(masked, maker.spoil, kind), covered)
    found = {
        "accuracy": (1 - kinds["masked"]["share"] + kinds["unmasked"]["share"]) / 2,
        "pasted": 1 - float(np.mean([kinds[f"pasted {kind}"]["share"] for kind in PASTED])),
        "fooled": float(np.mean([kinds[f"spoiled {kind}"]["share"] for kind in SPOILED])),
    }
    failures = [
        f"{name} is {found[name]:.3f}, {'above' if most else 'below'} judge.{field} {limit:g}"
        for name, field, limit, most in (
            ("accuracy", "min_accuracy", options.min_accuracy, False),
            ("pasted", "min_pasted", options.min_pasted, False),
            ("fooled", "max_fooled", options.max_fooled, True),
        )
        if (found[name] > limit if most else found[name] < limit)
    ]
    return {**found, "passed": not failures, "failures": failures, "kinds": kinds}


def require_passed(checks: dict[str, Any], where: str) -> None:
    """Raises TrainingError when a check failed."""
    if not checks["passed"]:
        raise TrainingError(
            f"the judge failed its checks: {'; '.join(checks['failures'])}; scores by it would mislead, so raise "
            f"judge.epochs or judge.filters, or give more photos ({where} lists what it gets wrong)"
        )
