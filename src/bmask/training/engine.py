"""What a training step changes, and the step itself."""

from __future__ import annotations

import torch
from torch import Tensor

from bmask.gan.device import autocast
from bmask.gan.system import GeneratorStep, System
from bmask.training import checkpoint
from bmask.training.distributed import World
from bmask.training.ema import EMA
from bmask.training.options import LoopOptions
from bmask.training.pool import ImagePool


class Engine:
    """A system with its averaged generators, optimizers and image pools."""

    def __init__(self, system: System, options: LoopOptions, device: torch.device, precision: str, world: World):
        self.system, self.device, self.precision, self.world = system.to(device), device, precision, world
        self.parts, self.rows = options.accumulate_steps, world.share(options.batch_size)
        if (self.rows.stop - self.rows.start) % self.parts:
            raise ValueError(
                f"schedule.batch_size {options.batch_size} on {world.size} processes cannot be worked through in"
                f" schedule.accumulate_steps {self.parts} equal parts; make it a multiple of {self.parts * world.size}"
            )
        self.average = EMA(system.generators, options.ema)
        adam = {"lr": options.lr, "betas": (options.beta1, options.beta2), "fused": True}
        self.optimizers = {
            "generators": torch.optim.Adam(system.generators.parameters(), **adam),
            "discriminators": torch.optim.Adam(system.discriminators.parameters(), **adam),
        }
        self.pools = {domain: ImagePool(options.pool, options.seed, domain) for domain in ("a", "b")}
        if options.compile:
            for network in (*system.generators.values(), *system.discriminators.values()):
                network.compile()  # after the average's copy, which runs as it is

    def set_rate(self, lr: float) -> None:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr

    def step(self, a: Tensor, b: Tensor, epoch: int, step: int) -> dict[str, Tensor]:
        """One update of the generators, one of the discriminators on pooled fakes, one of the average.

        Nothing here waits for the device.

        Args:
            a, b: this process's rows of the batch, (N, 3, H, W) in [-1, 1], unpaired.
            epoch, step: counted from 0; they decide the weights of the losses and what the pool gives back.

        Returns:
            Losses and statistics by name, detached scalars: means over this process's rows.
        """
        a_parts, b_parts = a.chunk(self.parts), b.chunk(self.parts)

        self.system.discriminators.requires_grad_(False)
        made = [self._generators(*part, epoch) for part in zip(a_parts, b_parts, strict=True)]
        named = _mean([part.losses | part.statistics for part in made])
        named["gradient_generators"] = self._update("generators")

        self.system.discriminators.requires_grad_(True)
        fakes = {d: self._pooled(d, torch.cat([part.fakes[d] for part in made]), step) for d in self.pools}
        parts = zip(a_parts, b_parts, fakes["a"].chunk(self.parts), fakes["b"].chunk(self.parts), strict=True)
        named |= _mean([self._discriminators(*part) for part in parts])
        named["gradient_discriminators"] = self._update("discriminators")

        self.average.update(self.system.generators, step)
        return named

    def state(self) -> dict:
        """All of it, for a checkpoint."""
        return {
            "system": self.system.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizers": {name: checkpoint.moments(optimizer) for name, optimizer in self.optimizers.items()},
            "pools": {domain: pool.kept for domain, pool in self.pools.items()},
        }

    def load(self, state: dict) -> None:
        """The inverse of `state`."""
        self.system.load_state_dict(state["system"])
        self.average.network.load_state_dict(state["average"])
        for name, optimizer in self.optimizers.items():
            checkpoint.restore(optimizer, state["optimizers"][name])
        for domain, pool in self.pools.items():
            kept = state["pools"][domain]
            pool.kept = None if kept is None else kept.to(self.device)

    def _generators(self, a: Tensor, b: Tensor, epoch: int) -> GeneratorStep:
        with autocast(self.device, self.precision):
            made = self.system.generator_losses(a, b)
        total = self.system.total(made.losses, epoch)
        (total / self.parts).backward()
        return GeneratorStep(
            {"total": total.detach(), **_detached(made.losses)}, _detached(made.fakes), _detached(made.statistics)
        )

    def _discriminators(self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor) -> dict[str, Tensor]:
        with autocast(self.device, self.precision):
            judged = self.system.discriminator_losses(a, b, {"a": fake_a, "b": fake_b})
        (torch.stack(list(judged.values())).sum() / self.parts).backward()
        return _detached(judged)

    def _pooled(self, domain: str, fakes: Tensor, step: int) -> Tensor:
        """The pool sees the whole batch, in every process alike; this process goes on with its rows."""
        return self.pools[domain].swap(self.world.gather(fakes), step)[self.rows]

    def _update(self, name: str) -> Tensor:
        """Averages the gradients over the processes, steps, forgets them; returns their norm."""
        optimizer = self.optimizers[name]
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.world.average(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm


def _detached(named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in named.items()}


def _mean(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
