"""One loop for all translation systems: initialise, resume, train, report, save.

The same seed, data, threads, processes, precision and versions give the same bits on one CPU, even after a kill.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bmask.gan.device import pick_device, pick_precision
from bmask.gan.inference import translate
from bmask.gan.lookup import build_system
from bmask.gan.options import SystemOptions
from bmask.gan.system import Weights
from bmask.gan.translation import Translation
from bmask.training import checkpoint
from bmask.training.batches import Feed, arrays_of
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.health import collapsed_epochs, memory_explained, summarise
from bmask.training.options import LoopOptions
from bmask.training.schedule import rate, steps_per_epoch
from bmask.training.stopping import Stopped, on_sigterm


class Observer(Protocol):
    """What the loop reports to, in the first process only: tracking, progress bars."""

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None: ...
    def losses(self, row: dict) -> None: ...
    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None: ...
    def saved(self) -> None: ...  # a checkpoint


@dataclass(frozen=True)
class Trained:
    """The averaged generators, the discriminators and the losses, one row per `log_every` steps."""

    generators: nn.ModuleDict
    discriminators: nn.ModuleDict
    history: list[dict]
    steps: int
    seconds: float  # of all starts and resumptions, each up to its last checkpoint
    placed: list[dict]  # where it ran and from which step on; one entry unless it moved


@dataclass
class State:
    """The progress of a training; checkpoints use these names."""

    epoch: int = 0  # number of completed epochs
    step: int = 0
    history: list[dict] = field(default_factory=list)  # a row per `log_every` steps
    window: list[dict[str, Tensor]] = field(default_factory=list)  # the steps since the last row
    collapsed: int = 0  # epochs in a row with collapsed attention
    placed: list[dict] = field(default_factory=list)  # where it ran and from which step on


def train(
    system_options: SystemOptions,
    photos: dict[str, np.ndarray],
    shown: Tensor,
    options: LoopOptions,
    folder: Path,
    fingerprint: dict,
    observers: Sequence[Observer] = (),
    warm: Mapping[str, Weights] = {},
    world: World = World(),
    frozen: Mapping[str, Weights] = {},
) -> Trained:
    """Trains one system, going on from its last checkpoint in `folder` if there is one.

    Args:
        photos: domain "a" and "b" -> uint8 (copies, N, S, S, 3), and what else the system needs; see `batches.Feed`.
        shown: (n, 3, H, W) in [-1, 1], photos of domain a whose translation is reported during the training.
        folder: of the checkpoints; only the first process uses it.
        fingerprint: what must be the same for a checkpoint to be used, JSON values by name.
        observers: empty in all processes but the first.
        warm: weights to begin from instead of random ones, by "ab" and "ba" (the generators) and "discriminators".
        world: the processes that train together; see `distributed.joined`.
        frozen: weights of the networks that are not trained, by their names in the options.

    Raises:
        Diverged: a loss became NaN or infinite, or an attention mask collapsed.
        OutOfMemory: a step does not fit.
        Stopped: SIGTERM came; the state is saved.
        Lost: another process is gone.
        ValueError: the data or options do not fit together.
    """
    # Initialise.
    began = time.monotonic()
    device = pick_device(options.device)
    precision = pick_precision(options.precision, device)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    system = build_system(system_options, frozen)
    for name, weights in warm.items():
        network = system.discriminators if name == "discriminators" else system.generators[name]
        network.load_state_dict(dict(weights))
    engine = Engine(system, options, device, precision, world)
    needed = arrays_of(system_options.needs) & set(photos)
    arrays = {name: torch.from_numpy(photos[name]).to(device) for name in sorted(needed)}
    feeds = [
        Feed(system_options.needs, arrays, options.image_size, options.batch_size, options.seed, world, turn)
        for turn in range(system.discriminator_steps)
    ]
    length = steps_per_epoch(photos, options.epoch_photos, options.batch_size)
    state = State()

    # Resume.
    found = _resumed(folder, fingerprint, options, world)
    if found:
        engine.load(found)
        state = replace(state, **{key: found[key] for key in vars(state) if key in found})
        state.window = [
            {k: (v[world.rank] if len(v) == world.size else v.mean()).to(device) for k, v in row.items()}
            for row in state.window
        ]
        began -= found.get("seconds", 0.0)
    if state.epoch < options.epochs:
        here = {"device": device.type, "precision": precision, "processes": world.size}
        state.placed = checkpoint.placed(state.placed, here | {"threads": torch.get_num_threads()}, state.step)
    for observer in observers:
        observer.started(state.epoch, length, state.history)

    def save(before_decay: bool = False) -> None:
        if world.first:
            whole = {**vars(state), **engine.state(), "fingerprint": fingerprint, "seconds": time.monotonic() - began}
            checkpoint.save(folder, whole | {"schedule": [options.epochs, options.constant_epochs]}, before_decay)
            for observer in observers:
                observer.saved()

    # Train.
    shown = shown.to(device)
    with on_sigterm() as stopped, memory_explained(options, device, world.size):
        for epoch in range(state.epoch, options.epochs):
            factor = rate(epoch, options.epochs, options.constant_epochs)
            engine.set_rate(factor)
            system.start_epoch(epoch)
            lr = options.lr * factor
            while state.step < (epoch + 1) * length:
                step = state.step
                batch, *others = (feed.at(step) for feed in feeds)
                state.window.append(engine.step(batch, epoch, step, *others))
                state.step += 1
                if len(state.window) == options.log_every or state.step % length == 0:
                    row = summarise(state.window, state.step, epoch, lr, world)
                    state.window = []
                    state.history.append(row)
                    for observer in observers:
                        observer.losses(row)
                if world.any(stopped()):
                    if state.window:
                        summarise(state.window, state.step, epoch, lr, world)  # raises before a broken state is saved
                        rows = state.window
                        state.window = [{k: world.gather(v[None]) for k, v in row.items()} for row in rows]
                    save()
                    world.any(False)  # wait for the save: the launcher takes an early exit for a failure
                    raise Stopped(f"stopped at step {state.step} of {options.epochs * length}")
            state.epoch = epoch + 1
            state.collapsed = collapsed_epochs(state.history, epoch, state.collapsed)
            last, before_decay = state.epoch == options.epochs, state.epoch == options.constant_epochs

            # Report and save.
            if world.first and (state.epoch % options.sample_every == 0 or last):
                translated = translate(engine.average.network["ab"], shown, precision)
                for observer in observers:
                    observer.samples(state.epoch, state.step, shown, translated)
            if state.epoch % options.checkpoint_every == 0 or before_decay or last:
                save(before_decay)
    networks = engine.average.network, system.discriminators
    return Trained(*networks, state.history, state.step, time.monotonic() - began, state.placed)


def _resumed(folder: Path, fingerprint: dict, options: LoopOptions, world: World) -> dict | None:
    """The checkpoint to go on from. The first process sends it to the others, which need not see its disk."""
    content = b""
    if world.first:
        found, _ = checkpoint.find(folder, fingerprint, options.epochs, options.constant_epochs)
        if found is None or world.size == 1:
            world.broadcast(content)
            return found
        buffer = io.BytesIO()
        checkpoint.dump(found, buffer)
        content = buffer.getvalue()
    content = world.broadcast(content)
    return checkpoint.read(io.BytesIO(content)) if content else None
