"""A translation system that uses all that the contract offers, as a newcomer would add it to gan/systems/.

It follows no paper. A generator with dropout learns from pasted masks and cut-outs; a discriminator compares its
output with unmasked photos of other people; a helper projects features of a frozen network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bmask.gan.blocks import initialise
from bmask.gan.draws import Draws, Dropout
from bmask.gan.options import SystemOptions, check_values
from bmask.gan.system import Batch, GeneratorStep, Rates, System
from bmask.gan.translation import Translation


@dataclass(frozen=True)
class NovelOptions(SystemOptions):
    system: Literal["novel"] = "novel"
    filters: int = 6
    features: str = "features.safetensors"  # of the frozen network
    clip: float = 0.05
    w_photo: float = 5.0
    w_found: float = 1.0
    w_game: float = 0.1
    w_likeness: float = 0.5

    def __post_init__(self) -> None:
        check_values(self, {"filters": 1})

    @property
    def needs(self) -> dict[str, float]:
        return {"unpaired": 1.0, "pasted": 1.0, "cutouts": 0.5}

    @property
    def frozen(self) -> dict[str, str]:
        return {"features": self.features}

    def check_size(self, image_size: int) -> None:
        if image_size < 8:
            raise ValueError(f"train.image_size {image_size} is below 8")


class Painter(nn.Module):
    """(N, 3, H, W) -> Translation: the content where the attention mask is high, the photo elsewhere."""

    def __init__(self, filters: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, filters, 3, padding=1), nn.ReLU(), Dropout(0.2))
        self.head = nn.Conv2d(filters, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Translation:
        out = self.head(self.body(x)).float()
        attention = torch.sigmoid(8 * out[:, :1])
        return Translation(x.lerp(torch.tanh(out[:, 1:]), attention), attention)


def feature_network() -> nn.Module:
    return nn.Conv2d(3, 5, 4, stride=4)


class Novel(System):
    Options = NovelOptions
    pooled = frozenset()
    discriminator_steps = 3

    def build(self, options: NovelOptions) -> None:
        self.generators["ab"] = self.build_generator(options)
        self.discriminators["critic"] = initialise(nn.Conv2d(4, 1, 4, stride=2))
        self.helpers["projector"] = nn.Conv2d(5, 3, 1)
        self.freeze("features", feature_network())

    @classmethod
    def build_generator(cls, options: NovelOptions) -> nn.Module:
        return initialise(Painter(options.filters))

    def generator_losses(self, batch: Batch, draws: Draws) -> GeneratorStep:
        made, found = self.translate(batch["pasted"]), self.translate(batch["masked"])
        project = self.helpers["projector"]
        features = self.frozen["features"]
        named = {
            "photo": F.l1_loss(made.image, batch["photo"]),
            "found_pasted": F.mse_loss(made.attention, batch["region"]),
            "found_cutout": F.mse_loss(found.attention, batch["cutout"]),
            "game": -self.discriminators["critic"](torch.cat([made.image, batch["region"]], 1)).float().mean(),
            "likeness": F.mse_loss(project(features(made.image)).float(), project(features(batch["photo"])).float()),
        }
        noise = draws.normal(made.image, 1, 1, 1) * 0.1
        fakes = {"face": torch.cat([made.image + noise, batch["region"]], 1)}
        return GeneratorStep(named, fakes, {"attention_ab": made.attention.detach().mean()})

    def discriminator_losses(self, batch: Batch, fakes: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        brightness = (draws.uniform(batch["b"], 1, 1, 1) - 0.5) * 0.2
        real = torch.cat([batch["b"] + brightness, batch["region"]], 1)
        critic = self.discriminators["critic"]
        return {"critic": critic(fakes["face"]).float().mean() - critic(real).float().mean()}

    def weights(self, epoch: int) -> dict[str, float]:
        o = self.options
        return {"photo": o.w_photo, "found": o.w_found, "game": o.w_game, "likeness": o.w_likeness}

    def optimizers(self, schedule: Rates) -> dict[str, torch.optim.Optimizer]:
        trained: list[Any] = [*self.generators.parameters(), *self.helpers.parameters()]
        return {
            "generators": torch.optim.RMSprop(trained, lr=schedule.lr),
            "discriminators": torch.optim.RMSprop(self.discriminators.parameters(), lr=schedule.lr / 2),
        }

    @torch.no_grad()
    def after_discriminator_step(self) -> None:
        for parameter in self.discriminators.parameters():
            parameter.clamp_(-self.options.clip, self.options.clip)
