"""The training step, and the state that it changes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bmask.gan.device import autocast
from bmask.gan.draws import Draws
from bmask.gan.system import Batch, GeneratorStep, System
from bmask.training import checkpoint
from bmask.training.batches import photos_of
from bmask.training.distributed import World
from bmask.training.ema import EMA
from bmask.training.options import LoopOptions
from bmask.training.pool import ImagePool


class Engine:
    """A system with its averaged generators, optimizers and image pools.

    Raises ValueError if the system's batch cannot be divided equally among processes and parts.
    """

    def __init__(self, system: System, options: LoopOptions, device: torch.device, precision: str, world: World):
        self.system, self.device, self.precision, self.world = system.to(device), device, precision, world
        self.seed, self.parts = options.seed, options.accumulate_steps
        _check_shares(system, options, world)
        self.average = EMA(system.generators, options.ema)
        self.optimizers = system.optimizers(options)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        self.pools = {name: ImagePool(options.pool, options.seed, name) for name in sorted(system.pooled)}
        if options.compile:
            for networks in (system.generators, system.discriminators, system.helpers):
                for network in networks.values():
                    network.compile()  # after the average copied them: its networks stay uncompiled

    def set_rate(self, factor: float) -> None:
        """Sets the optimizers' learning rates to `factor` times their initial ones."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def step(self, batch: Batch, epoch: int, step: int, *others: Batch) -> dict[str, Tensor]:
        """One update of the generators, of the discriminators on pooled fakes, and of the average.

        Nothing here waits for the device.

        Args:
            batch: this process's rows of what the system needs.
            epoch, step: counted from 0; they determine loss weights and random numbers.
            others: a batch for each further discriminator step.

        Returns:
            Losses and statistics by name, detached scalars: means over this process's rows.
        """
        parts = self._cut(batch)
        self.system.discriminators.requires_grad_(False)
        made = [self._generators(part, epoch, self._draws("generators", step, i)) for i, part in enumerate(parts)]
        named = _mean([one.losses | one.statistics for one in made])
        named["gradient_generators"] = self._update("generators")

        self.system.discriminators.requires_grad_(True)
        steps = 1 + len(others)
        named |= self._discriminate(parts, made, step * steps)
        for turn, other in enumerate(others, start=1):
            parts = self._cut(other)
            with torch.no_grad(), autocast(self.device, self.precision):
                made = []
                for i, part in enumerate(parts):
                    with self._draws(f"generators turn {turn}", step, i) as draws:
                        made.append(self.system.generator_losses(part, draws))
            named |= self._discriminate(parts, made, step * steps + turn)

        self.average.update(self.system.generators, step)
        return named

    def state(self) -> dict:
        """The whole state, for a checkpoint."""
        return {
            "system": self.system.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizers": {name: checkpoint.moments(optimizer) for name, optimizer in self.optimizers.items()},
            "pools": {name: pool.kept for name, pool in self.pools.items()},
        }

    def load(self, state: dict) -> None:
        """The inverse of `state`."""
        self.system.load_state_dict(state["system"])
        self.average.network.load_state_dict(state["average"])
        for name, optimizer in self.optimizers.items():
            checkpoint.restore(optimizer, state["optimizers"][name])
        for name, pool in self.pools.items():
            kept = state["pools"][name]
            pool.kept = None if kept is None else kept.to(self.device)

    def _cut(self, batch: Batch) -> list[dict[str, Tensor]]:
        chunks = {name: tensor.chunk(self.parts) for name, tensor in batch.items()}
        return [{name: chunk[i] for name, chunk in chunks.items()} for i in range(self.parts)]

    def _draws(self, purpose: str, step: int, part: int) -> Draws:
        parts = self.world.size * self.parts
        return Draws(self.seed, purpose, step, self.world.rank * self.parts + part, parts)

    def _generators(self, part: Batch, epoch: int, draws: Draws) -> GeneratorStep:
        with draws, autocast(self.device, self.precision):
            made = self.system.generator_losses(part, draws)
        total = self.system.total(made.losses, epoch)
        (total / self.parts).backward()
        return GeneratorStep(
            {"total": total.detach(), **_detached(made.losses)}, _detached(made.fakes), _detached(made.statistics)
        )

    def _discriminate(self, parts: Sequence[Batch], made: Sequence[GeneratorStep], number: int) -> dict[str, Tensor]:
        """One update of the discriminators, the `number`-th of the training."""
        fakes = {name: torch.cat([one.fakes[name] for one in made]) for name in made[0].fakes}
        fakes = {name: self._pooled(name, images, number) for name, images in fakes.items()}
        judged = []
        for i, (part, part_fakes) in enumerate(zip(parts, self._cut(fakes), strict=True)):
            with self._draws("discriminators", number, i) as draws, autocast(self.device, self.precision):
                losses = self.system.discriminator_losses(part, part_fakes, draws)
            if losses:
                (torch.stack(list(losses.values())).sum() / self.parts).backward()
                judged.append(_detached(losses))
        if not judged:
            return {}
        named = _mean(judged)
        named["gradient_discriminators"] = self._update("discriminators")
        self.system.after_discriminator_step()
        return named

    def _pooled(self, name: str, fakes: Tensor, number: int) -> Tensor:
        """Passes the whole batch through the pool, in every process alike; returns this process's rows."""
        if name not in self.pools:
            return fakes.detach()
        rank, rows = self.world.rank, len(fakes)
        return self.pools[name].swap(self.world.gather(fakes), number)[rank * rows : (rank + 1) * rows]

    def _update(self, name: str) -> Tensor:
        """Averages the gradients over the processes, steps and clears them; returns their norm."""
        optimizer = self.optimizers[name]
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.world.average(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm


def _check_shares(system: System, options: LoopOptions, world: World) -> None:
    if system.couples_samples and (world.size > 1 or options.accumulate_steps > 1):
        raise ValueError(
            f"{system.options.system} has a loss that compares photos of a batch, so no batch can be divided: set"
            f" train.processes (here {world.size}) and schedule.accumulate_steps (here {options.accumulate_steps}) to 1"
        )
    for need, share in system.options.needs.items():
        count = photos_of(need, share, options.batch_size)
        rows = world.share(count)
        if (rows.stop - rows.start) % options.accumulate_steps:
            raise ValueError(
                f"schedule.batch_size {options.batch_size} on {world.size} processes cannot be divided into"
                f" schedule.accumulate_steps {options.accumulate_steps} equal parts;"
                f" make it a multiple of {options.accumulate_steps * world.size}"
            )


def _detached(named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in named.items()}


def _mean(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
