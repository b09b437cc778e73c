"""Random numbers of a training. Each depends on (seed, purpose, number) only: checkpoints need no generator states."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from types import TracebackType

import torch
from torch import Tensor, nn

_CURRENT: ContextVar[Draws | None] = ContextVar("draws", default=None)


def generator_for(seed: int, purpose: str, number: int) -> torch.Generator:
    """A CPU generator for one draw; the same arguments give the same numbers on every machine."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class Draws:
    """The random numbers that a system may use in one pass of a step.

    A batch is divided into `parts` equal shares: one per process, each cut again by `accumulate_steps`. A pass works on
    share number `part`. Numbers are drawn for the whole batch and cut to the share, so the result does not depend on
    the number of shares. Inside `with draws:`, `Dropout` uses them, and torch's own generator is seeded anew: layers
    that use it repeat their draws after a resume, but only with the same number of shares.
    """

    def __init__(self, seed: int, purpose: str, step: int, part: int = 0, parts: int = 1):
        self.part, self.parts = part, parts
        self._generator = generator_for(seed, purpose, step)
        self._global = generator_for(seed, f"{purpose} {part}/{parts}", step).initial_seed()

    def uniform(self, like: Tensor, *shape: int) -> Tensor:
        """float32 (len(like), *shape) in [0, 1), on the device of `like`."""
        return self._cut(torch.rand(len(like) * self.parts, *shape, generator=self._generator), like)

    def normal(self, like: Tensor, *shape: int) -> Tensor:
        """float32 (len(like), *shape) from N(0, 1), on the device of `like`."""
        return self._cut(torch.randn(len(like) * self.parts, *shape, generator=self._generator), like)

    def integers(self, below: int, like: Tensor, *shape: int) -> Tensor:
        """int64 (len(like), *shape) in [0, below), on the device of `like`."""
        return self._cut(torch.randint(below, (len(like) * self.parts, *shape), generator=self._generator), like)

    def _cut(self, whole: Tensor, like: Tensor) -> Tensor:
        return whole[self.part * len(like) : (self.part + 1) * len(like)].to(like.device, non_blocking=True)

    def __enter__(self) -> Draws:
        torch.manual_seed(self._global)
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _CURRENT.reset(self._token)


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) whose masks come from the `Draws` of the pass; none in eval mode.

    Raises RuntimeError when it trains outside of `with draws:`.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        draws = _CURRENT.get()
        if draws is None:
            raise RuntimeError("Dropout trains outside of `with draws:`, so its masks would not repeat")
        return x * (draws.uniform(x, *x.shape[1:]) >= self.p).to(x.dtype) / (1 - self.p)
