"""The contract between a translation system and the training loop.

A system owns its networks, names its losses and says how they are weighed. The loop owns everything else: devices,
precision, optimizers, image pool, schedule, EMA, checkpoints. A new system is one new file and one
line in `systems.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bmask.gan.translation import Translation


class GeneratorStep(NamedTuple):
    """What a generator pass gives to the loop.

    losses: unweighted scalars by name; the part before the first `_` names the weight.
    fakes: what the discriminators will judge, by domain: (N, C, H, W), through the image pool.
    statistics: scalars that are logged but not optimised.
    """

    losses: dict[str, Tensor]
    fakes: dict[str, Tensor]
    statistics: dict[str, Tensor]


class System(nn.Module):
    """Base of all systems. Domain a is translated to b by `generators["ab"]`, b to a by `generators["ba"]`."""

    generators: nn.ModuleDict
    discriminators: nn.ModuleDict

    def generator_losses(self, a: Tensor, b: Tensor) -> GeneratorStep:
        """a, b: (N, 3, H, W) in [-1, 1], unpaired."""
        raise NotImplementedError

    def discriminator_losses(self, a: Tensor, b: Tensor, fakes: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, to be summed. `fakes` come from the image pool and carry no gradient."""
        raise NotImplementedError

    def weights(self, epoch: int) -> dict[str, float]:
        """The weight of each generator loss in this epoch (0-based), by the part of its name before the first `_`."""
        raise NotImplementedError

    def total(self, losses: dict[str, Tensor], epoch: int) -> Tensor:
        """The generators' objective: the weighted sum of `losses`."""
        weights = self.weights(epoch)
        return sum(weights[name.split("_")[0]] * loss for name, loss in losses.items())

    def translate(self, a: Tensor) -> Translation:
        return self.generators["ab"](a)


def translate_both(
    generator: nn.Module, first: Tensor, second: Tensor | None
) -> tuple[Translation, Translation | None]:
    """Two batches through one generator in one pass: the same as two, since instance norm keeps samples apart."""
    if second is None:
        return generator(first), None
    both = generator(torch.cat([first, second]))
    n = len(first)
    halves = [None if part is None else (part[:n], part[n:]) for part in both]
    return Translation(*(h and h[0] for h in halves)), Translation(*(h and h[1] for h in halves))


def judge_both(discriminator: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of a real and a fake batch in one pass; the same as two passes, for the same reason."""
    return discriminator(torch.cat([real, fake])).split([len(real), len(fake)])
