"""The base of all systems' options: frozen dataclasses that check themselves, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class SystemOptions:
    """Base of the `Options` of all systems. `system` is the name of the system's file in gan/systems/.

    A loss weight is named `w_` plus the first part of the names of its losses (see `System.weights`).
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "allow_inf_nan": False}  # for params.yaml

    system: str = ""

    @property
    def needs(self) -> dict[str, float]:
        """What a batch must hold: keys of `system.NEEDS`, each with its number of photos per photo of `batch_size`."""
        return {"unpaired": 1.0}

    @property
    def frozen(self) -> dict[str, str]:
        """The safetensors files of the networks that are loaded and not trained, by name (see `System.frozen`)."""
        return {}

    def check_size(self, image_size: int) -> None:
        """Raises ValueError if the system cannot train on pictures of this size (`train.image_size`, px)."""


def check_values(options: SystemOptions, least: Mapping[str, int], shares: Iterable[str] = ()) -> None:
    """Raises ValueError for a field below its least value, a weight that is negative or infinite, a share above 1."""
    for name, value in vars(options).items():
        if name in least and value < least[name]:
            raise ValueError(f"{name} {value} is below {least[name]}")
        if (name.startswith("w_") or name in shares) and not 0 <= value < math.inf:
            raise ValueError(f"{name} {value} must be finite and not negative")
        if name in shares and value > 1:
            raise ValueError(f"{name} {value} is a share, so it must be at most 1")


def check_patches(image_size: int, discriminator_layers: int) -> None:
    """Raises ValueError if a PatchGAN's last norm would get one value per channel, which it would turn into 0."""
    if image_size % 4:
        raise ValueError(f"train.image_size {image_size} is not a multiple of 4; the generator halves it twice")
    if image_size < 3 * 2**discriminator_layers:
        raise ValueError(
            f"discriminator_layers {discriminator_layers} needs pictures of {3 * 2**discriminator_layers} px or more,"
            f" but train.image_size is {image_size}; lower discriminator_layers or raise train.image_size"
        )
