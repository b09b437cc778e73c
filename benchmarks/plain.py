"""The training step as the papers describe it: fp32, eager, F.instance_norm, one pass at a time.

The optimisations of `bmask.training.engine` can be switched on one by one, so that a table shows what each brings.
The layers' shapes and weights are bmask's; the code of the step is separate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bmask.gan.blocks import InstanceNorm
from bmask.gan.lookup import build_system
from bmask.gan.options import SystemOptions
from bmask.gan.systems.attentiongan import AttentionGANOptions


@dataclass(frozen=True)
class Switches:
    """With all of them off, the step is the plain one."""

    group_norm: bool = False  # instance norm computed as group norm with one channel a group
    joined: bool = False  # fake and identity in one generator pass, real and fake in one discriminator pass
    fused: bool = False  # Adam in one kernel
    bf16: bool = False  # autocast; statistics, losses and weights stay fp32
    compile: bool = False  # torch.compile of the networks


class PlainStep:
    """Networks, optimizers and one update of each. Images are (N, 3, H, W) in [-1, 1]; no image pool."""

    def __init__(
        self, options: SystemOptions, seed: int, lr: float, device: str = "cpu", switches: Switches = Switches()
    ):
        torch.manual_seed(seed)
        self.system = build_system(options).to(device)
        self.generators, self.discriminators = self.system.generators, self.system.discriminators
        if not switches.group_norm:
            _use_plain_norm(self.system)
        if switches.compile:
            for network in (*self.generators.values(), *self.discriminators.values()):
                network.compile()
        self.options: Any = options
        self.switches, self.device = switches, device
        adam = partial(torch.optim.Adam, lr=lr, betas=(0.5, 0.999), fused=switches.fused)
        self.optimizer_g, self.optimizer_d = adam(self.generators.parameters()), adam(self.discriminators.parameters())

    def step(self, a: Tensor, b: Tensor, epoch: int = 0) -> dict[str, Tensor]:
        """Returns the unweighted losses by name, as `bmask.gan` names them."""
        self.discriminators.requires_grad_(False)
        self.optimizer_g.zero_grad()
        with self._precision():
            losses, fake_a, fake_b = self._generator_losses(a, b)
        weights = self.system.weights(epoch)
        _sum(weights[name.split("_")[0]] * loss for name, loss in losses.items()).backward()
        self.optimizer_g.step()

        self.discriminators.requires_grad_(True)
        self.optimizer_d.zero_grad()
        with self._precision():
            losses_d = self._discriminator_losses({"a": (a, fake_a.detach()), "b": (b, fake_b.detach())})
        _sum(losses_d.values()).backward()
        self.optimizer_d.step()
        return {name: loss.detach() for name, loss in {**losses, **losses_d}.items()}

    def _generator_losses(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        ab, ba = self.generators["ab"], self.generators["ba"]
        d_a, d_b = self.discriminators["a"], self.discriminators["b"]
        if self.switches.joined and self.options.w_identity:
            to_b, to_a = ab(torch.cat([a, b])), ba(torch.cat([b, a]))
            (fake_b, same_b), (fake_a, same_a) = to_b.image.chunk(2), to_a.image.chunk(2)
            attention_b, attention_a = (
                t.attention.chunk(2)[0] if t.attention is not None else None for t in (to_b, to_a)
            )
        else:
            to_b, to_a = ab(a), ba(b)
            fake_b, fake_a, attention_b, attention_a = to_b.image, to_a.image, to_b.attention, to_a.attention
            if self.options.w_identity:
                same_b, same_a = ab(b).image, ba(a).image
        scores_b, scores_a = d_b(fake_b), d_a(fake_a)
        losses = {
            "gan_ab": F.mse_loss(scores_b, torch.ones_like(scores_b)),
            "gan_ba": F.mse_loss(scores_a, torch.ones_like(scores_a)),
            "cycle_a": F.l1_loss(ba(fake_b).image, a),
            "cycle_b": F.l1_loss(ab(fake_a).image, b),
        }
        if self.options.w_identity:
            losses |= {"identity_a": F.l1_loss(same_a, a), "identity_b": F.l1_loss(same_b, b)}
        if isinstance(self.options, AttentionGANOptions):
            if self.options.w_pixel:
                losses |= {"pixel_ab": F.l1_loss(fake_b, a), "pixel_ba": F.l1_loss(fake_a, b)}
            if self.options.w_tv and attention_b is not None and attention_a is not None:
                losses |= {"tv_ab": _tv(attention_b), "tv_ba": _tv(attention_a)}
        return losses, fake_a, fake_b

    def _discriminator_losses(self, pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        losses = {}
        for domain, (real, fake) in pairs.items():
            discriminator = self.discriminators[domain]
            if self.switches.joined:
                scores, fakes = discriminator(torch.cat([real, fake])).chunk(2)
            else:
                scores, fakes = discriminator(real), discriminator(fake)
            real_loss, fake_loss = (
                F.mse_loss(scores, torch.ones_like(scores)),
                F.mse_loss(fakes, torch.zeros_like(fakes)),
            )
            losses[f"d_{domain}"] = (real_loss + fake_loss) / 2
        return losses

    def _precision(self) -> contextlib.AbstractContextManager:
        if not self.switches.bf16:
            return contextlib.nullcontext()  # autocast does not know the meta device, even if disabled
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)


def _use_plain_norm(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, InstanceNorm):
                setattr(parent, name, PlainNorm())


class PlainNorm(nn.Module):
    """nn.InstanceNorm2d without its number of channels, which only affine weights need."""

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x)


def _sum(losses: Iterable[Tensor]) -> Tensor:
    first, *others = losses
    return sum(others, first)


def _tv(attention: Tensor) -> Tensor:
    down, across = attention.diff(dim=2), attention.diff(dim=3)
    return down.abs().mean() + across.abs().mean()
