"""The contract between a translation system and the training loop.

A system owns its options, its networks, its losses and their weights. The loop owns everything else: data,
devices, precision, image pool, schedule, averages, checkpoints. A new system needs only one new file in gan/systems/,
with a dataclass of options and a subclass of `System`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bmask.gan.draws import Draws
from bmask.gan.options import SystemOptions
from bmask.gan.translation import Translation

Batch = Mapping[str, Tensor]  # the tensors of a step, by their names in NEEDS
Weights = Mapping[str, Tensor]  # of a network, as in its state_dict

# What a system may need in a batch, and the tensors that it gets. Pictures are (N, 3, H, W) in [-1, 1], regions
# (N, 1, H, W) in [0, 1]. Tensors of one need share photo, crop and flip; those of different needs are independent.
NEEDS: dict[str, tuple[str, ...]] = {
    "unpaired": ("a", "b"),  # a masked and an unmasked photo, drawn independently
    "pasted": ("pasted", "photo", "region"),  # an unmasked photo with a pasted mask, without it, where the mask is
    "cutouts": ("masked", "cutout"),  # a masked photo, and where its own mask is
    "paired": ("input", "target"),  # two pictures of one face
    "labels": ("labelled", "label"),  # a masked photo, and the number of its kind of mask, int64 (N,)
}


class Rates(Protocol):
    """The options that `System.optimizers` may use, a part of the loop's options."""

    @property
    def lr(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...


class GeneratorStep(NamedTuple):
    """The result of a generator pass.

    losses: unweighted scalars; the same names throughout an epoch; the part before the first `_` names the weight.
    fakes: what the discriminators will judge, by name, (N, C, H, W); those in `pooled` pass through the image pool.
    statistics: scalars that are logged but not optimised; the same names throughout an epoch. `attention_...` is the
        mean of an attention mask: the loop stops a training whose mask is 0 or 1 everywhere for some epochs.
    """

    losses: dict[str, Tensor]
    fakes: dict[str, Tensor]
    statistics: dict[str, Tensor]


class System(nn.Module):
    """Base of all systems. Domain a (masked) is translated to b (unmasked) by `generators["ab"]`.

    A system implements `build`, `build_generator`, `generator_losses`, `discriminator_losses` and `weights`. All else
    has a default.

    Args:
        options: its own `Options`.
        frozen: weights of the networks that are not trained, by their names in `options.frozen`.

    Raises ValueError where one of them is missing or does not fit.
    """

    Options: ClassVar[type[SystemOptions]]

    generators: nn.ModuleDict  # by direction, "ab" and perhaps "ba"; these are averaged, exported and registered
    discriminators: nn.ModuleDict  # any names
    helpers: nn.ModuleDict  # trained with the generators, neither averaged nor exported: projectors, encoders
    frozen: dict[str, nn.Module]  # filled by `freeze`; in no optimizer, checkpoint or export
    pooled: frozenset[str] = frozenset(("a", "b"))  # names of the fakes that go through the image pool
    couples_samples: bool = False  # a loss compares photos of a batch, so the batch is never divided
    discriminator_steps: int = 1  # per step; each after the first gets a new batch and new fakes

    def __init__(self, options: SystemOptions, frozen: Mapping[str, Weights] = {}):
        super().__init__()
        self.options: Any = options
        self.generators, self.discriminators, self.helpers = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.frozen, self._given = {}, frozen
        self.build(options)

    def build(self, options: Any) -> None:
        """Fills `generators` and, if the system has them, `discriminators` and `helpers`; calls `freeze`.

        Networks are initialised from torch's global seed, in an order that must not change.
        """
        raise NotImplementedError

    @classmethod
    def build_generator(cls, options: Any) -> nn.Module:
        """A generator as the options describe it, initialised from torch's global seed; (N, 3, H, W) -> Translation.

        Generator files are loaded into it, so it must depend on the options alone.
        """
        raise NotImplementedError

    def start_epoch(self, epoch: int) -> None:
        """Called before the steps of each epoch (0-based), also when a training resumes within an epoch."""

    def generator_losses(self, batch: Batch, draws: Draws) -> GeneratorStep:
        """One pass of generators and helpers. `draws` is its only source of randomness."""
        raise NotImplementedError

    def discriminator_losses(self, batch: Batch, fakes: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        """Losses by name, to be summed; without any, nothing is updated. `fakes` carry no gradient."""
        return {}

    def weights(self, epoch: int) -> dict[str, float]:
        """The weight of each generator loss in this epoch (0-based), by the part of its name before the first `_`."""
        raise NotImplementedError

    def optimizers(self, schedule: Rates) -> dict[str, torch.optim.Optimizer]:
        """One for "generators" (helpers included), one for "discriminators"; the loop scales both rates alike."""
        groups = {
            "generators": [*self.generators.parameters(), *self.helpers.parameters()],
            "discriminators": [*self.discriminators.parameters()],
        }
        betas = schedule.beta1, schedule.beta2
        return {
            name: torch.optim.Adam(weights, lr=schedule.lr, betas=betas, fused=True)
            for name, weights in groups.items()
            if weights
        }

    def after_discriminator_step(self) -> None:
        """Called after each update of the discriminators, for example to clip weights."""

    def freeze(self, name: str, network: nn.Module) -> None:
        """Loads the weights given under this name of `Options.frozen` into a network, and keeps it fixed.

        Raises ValueError when the weights are missing or do not fit.
        """
        if name not in self._given:
            raise ValueError(f"the system needs the frozen network {name!r} and was not given its weights")
        try:
            network.load_state_dict(dict(self._given[name]))
        except RuntimeError as error:
            raise ValueError(f"frozen network {name!r}: {' '.join(str(error).split())[:300]}") from None
        self.frozen[name] = network.eval().requires_grad_(False)

    def _apply(self, fn: Any, recurse: bool = True) -> System:
        """`to` moves the frozen networks too, though they are no sub-modules."""
        for network in self.frozen.values():
            network._apply(fn)
        return super()._apply(fn, recurse)

    def total(self, losses: dict[str, Tensor], epoch: int) -> Tensor:
        """The generators' objective: the weighted sum of `losses`."""
        weights = self.weights(epoch)
        first, *others = (weights[name.split("_")[0]] * loss for name, loss in losses.items())
        return sum(others, first)

    def translate(self, a: Tensor) -> Translation:
        return self.generators["ab"](a)


def translate_both(
    generator: nn.Module, first: Tensor, second: Tensor | None
) -> tuple[Translation, Translation | None]:
    """Translates two batches in one pass, with the results of two, since instance norm treats samples separately."""
    if second is None:
        return generator(first), None
    both: Translation = generator(torch.cat([first, second]))
    n = len(first)
    image = both.image[:n], both.image[n:]
    rest = [(None, None) if part is None else (part[:n], part[n:]) for part in both[1:]]
    return Translation(image[0], *(half for half, _ in rest)), Translation(image[1], *(half for _, half in rest))


def judge_both(discriminator: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of a real and a fake batch in one pass, with the results of two, for the same reason."""
    return discriminator(torch.cat([real, fake])).split([len(real), len(fake)])
