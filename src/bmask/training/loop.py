"""One loop for all translation systems: initialise, resume, train, report, save.

The same seed, data, threads, precision and versions give the same bits on one CPU, with or without a kill in between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bmask.gan.options import SystemOptions
from bmask.gan.system import System
from bmask.gan.systems import build_system
from bmask.gan.translation import Translation
from bmask.training import checkpoint
from bmask.training.batches import Batches
from bmask.training.device import autocast, pick_device, pick_precision
from bmask.training.ema import EMA
from bmask.training.pool import ImagePool
from bmask.training.schedule import rate


@dataclass(frozen=True)
class LoopOptions:
    epochs: int = 200
    constant_epochs: int = 100  # then the rate falls linearly to 0
    batch_size: int = 4
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    epoch_photos: int = 0  # photos in an epoch; 0: as many as the larger domain has
    image_size: int = 64
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    threads: int = 2
    pool: int = 50
    ema: float = 0.999
    sample_every: int = 5  # epochs
    checkpoint_every: int = 2  # epochs
    log_every: int = 20  # steps


class Diverged(RuntimeError):
    """The training cannot go on; the message says why and what to change."""


class Observer(Protocol):
    """What the loop reports to; tracking and progress bars are such."""

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None: ...
    def losses(self, row: dict) -> None: ...
    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None: ...
    def saved(self) -> None: ...  # a checkpoint


@dataclass(frozen=True)
class Trained:
    """The averaged generators and the losses, one row per `log_every` steps."""

    generators: nn.ModuleDict
    history: list[dict]
    steps: int
    seconds: float  # of all processes that trained, each up to its last checkpoint


def train(
    system_options: SystemOptions,
    photos: dict[str, np.ndarray],
    shown: Tensor,
    options: LoopOptions,
    folder: Path,
    fingerprint: dict,
    observers: Sequence[Observer] = (),
    warm: dict[str, dict[str, Tensor]] | None = None,
) -> Trained:
    """Trains one system, going on from its last checkpoint in `folder` if there is one.

    Args:
        photos: domain "a" and "b" -> uint8 (copies, N, S, S, 3).
        shown: (n, 3, H, W) in [-1, 1], photos of domain a whose translation is reported through time.
        folder: where checkpoints live.
        fingerprint: what must be the same for a checkpoint to be used, JSON values by name.
        warm: weights to begin from by direction ("ab", "ba"), instead of random ones.

    Raises:
        Diverged: a loss became NaN or infinite, or an attention mask collapsed.
        ValueError: the data or options do not fit together.
    """
    # Initialise.
    began = time.monotonic()
    device = pick_device(options.device)
    precision = pick_precision(options.precision, device)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    system = build_system(system_options)
    for way, weights in (warm or {}).items():
        system.generators[way].load_state_dict(weights)
    system.to(device)
    average = EMA(system.generators, options.ema)
    adam = {"lr": options.lr, "betas": (options.beta1, options.beta2), "fused": True}
    optimizers = {
        "generators": torch.optim.Adam(system.generators.parameters(), **adam),
        "discriminators": torch.optim.Adam(system.discriminators.parameters(), **adam),
    }
    batches = {
        d: Batches(p, options.image_size, options.batch_size, options.seed, d, device) for d, p in photos.items()
    }
    pools = {domain: ImagePool(options.pool, options.seed, domain) for domain in photos}
    steps_per_epoch = max(1, (options.epoch_photos or max(map(len, batches.values()))) // options.batch_size)
    state = {"epoch": 0, "step": 0, "history": [], "collapsed": 0}

    # Resume.
    found, _ = checkpoint.find(folder, fingerprint, options.epochs, options.constant_epochs)
    if found:
        system.load_state_dict(found["system"])
        average.network.load_state_dict(found["average"])
        for name, optimizer in optimizers.items():
            checkpoint.restore(optimizer, found["optimizers"][name])
        for domain, pool in pools.items():
            kept = found["pools"][domain]
            pool.kept = None if kept is None else kept.to(device)
        state = {key: found[key] for key in state}
        began -= found.get("seconds", 0.0)  # older checkpoints do not say
    for observer in observers:
        observer.started(state["epoch"], steps_per_epoch, state["history"])

    # Train.
    window: list[dict[str, Tensor]] = []
    shown = shown.to(device)
    for epoch in range(state["epoch"], options.epochs):
        factor = rate(epoch, options.epochs, options.constant_epochs)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = options.lr * factor
        for _ in range(steps_per_epoch):
            a, b = batches["a"].at(state["step"]), batches["b"].at(state["step"])
            window.append(_step(system, optimizers, pools, a, b, epoch, state["step"], device, precision))
            average.update(system.generators, state["step"])
            state["step"] += 1
            if len(window) == options.log_every or state["step"] % steps_per_epoch == 0:
                row = _summarise(window, state["step"], epoch, options.lr * factor)
                window = []
                state["history"].append(row)
                for observer in observers:
                    observer.losses(row)
        state["epoch"] = epoch + 1
        state["collapsed"] = _collapsed_epochs(state["history"], epoch, state["collapsed"])
        last = state["epoch"] == options.epochs

        # Report and save.
        if state["epoch"] % options.sample_every == 0 or last:
            with torch.inference_mode(), autocast(device, precision):
                translated = average.network["ab"](shown)
            for observer in observers:
                observer.samples(state["epoch"], state["step"], shown, translated)
        before_decay = state["epoch"] == options.constant_epochs
        if state["epoch"] % options.checkpoint_every == 0 or before_decay or last:
            saved = {
                **state,
                "seconds": time.monotonic() - began,
                "fingerprint": fingerprint,
                "schedule": [options.epochs, options.constant_epochs],
                "system": system.state_dict(),
                "average": average.network.state_dict(),
                "optimizers": {name: checkpoint.moments(optimizer) for name, optimizer in optimizers.items()},
                "pools": {domain: pool.kept for domain, pool in pools.items()},
            }
            checkpoint.save(folder, saved, before_decay)
            for observer in observers:
                observer.saved()
    return Trained(average.network, state["history"], state["step"], time.monotonic() - began)


def _step(
    system: System,
    optimizers: dict[str, torch.optim.Optimizer],
    pools: dict[str, ImagePool],
    a: Tensor,
    b: Tensor,
    epoch: int,
    step: int,
    device: torch.device,
    precision: str,
) -> dict[str, Tensor]:
    """One update of the generators, one of the discriminators on pooled fakes. Nothing here waits for the device."""
    system.discriminators.requires_grad_(False)
    with autocast(device, precision):
        made = system.generator_losses(a, b)
    total = system.total(made.losses, epoch)
    optimizers["generators"].zero_grad(set_to_none=True)
    total.backward()
    optimizers["generators"].step()

    system.discriminators.requires_grad_(True)
    fakes = {domain: pools[domain].swap(fake.detach(), step) for domain, fake in made.fakes.items()}
    with autocast(device, precision):
        judged = system.discriminator_losses(a, b, fakes)
    optimizers["discriminators"].zero_grad(set_to_none=True)
    torch.stack(list(judged.values())).sum().backward()
    optimizers["discriminators"].step()
    named = {"total": total, **made.losses, **judged, **made.statistics}
    return {name: value.detach() for name, value in named.items()}


def _summarise(window: list[dict[str, Tensor]], step: int, epoch: int, lr: float) -> dict:
    """Means over the window; one transfer from the device. Raises Diverged when a loss is not finite."""
    names = list(window[0])
    means = torch.stack([torch.stack([row[name] for name in names]) for row in window]).double().mean(0).tolist()
    row = {"step": step, "epoch": epoch, "lr": lr, **dict(zip(names, means, strict=True))}
    broken = [name for name in names if not math.isfinite(row[name])]
    if broken:
        raise Diverged(
            f"{', '.join(broken)} became NaN or infinite by step {step} (epoch {epoch});"
            " lower schedule.lr, or set train.precision to fp32; either makes it another training, which starts anew"
        )
    return row


def _collapsed_epochs(history: list[dict], epoch: int, before: int, patience: int = 3) -> int:
    """Counts epochs in a row whose attention is 0 or 1 everywhere. Raises Diverged at `patience`."""
    rows = [row for row in history if row["epoch"] == epoch]
    means = {k: np.mean([row[k] for row in rows]) for k in rows[0] if k.startswith("attention_")}
    stuck = {name: mean for name, mean in means.items() if mean < 0.005 or mean > 0.995}
    if not stuck:
        return 0
    if before + 1 >= patience:
        name, mean = next(iter(stuck.items()))
        advice = (
            "the output equals the input: lower w_pixel, w_identity or background_bias"
            if mean < 0.5
            else "the whole photo is replaced: raise w_tv or w_pixel"
        )
        raise Diverged(f"the attention mask collapsed: {name} is {mean:.4f} for {patience} epochs, so {advice}")
    return before + 1
