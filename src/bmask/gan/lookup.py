"""All systems: the files in gan/systems/. Each is imported on demand, so a training depends on its own system only."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from torch import nn

from bmask.gan import systems
from bmask.gan.options import SystemOptions
from bmask.gan.system import System, Weights


def names() -> list[str]:
    """The names of all systems, which are those of their files."""
    return sorted(module.name for module in pkgutil.iter_modules(systems.__path__))


def system_class(name: str | None) -> type[System]:
    """The class of a system. Raises ValueError for an unknown name."""
    if name not in names():
        raise ValueError(f"unknown system {name!r}; `system` must be one of {', '.join(names())}")
    module = importlib.import_module(f"{systems.__name__}.{name}")
    own = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    found = [kind for kind in own if issubclass(kind, System)]
    if len(found) != 1:
        raise ValueError(f"{module.__file__} has {len(found)} System classes; it needs one")
    return found[0]


def read_options(tree: Mapping[str, Any]) -> SystemOptions:
    """The inverse of `dataclasses.asdict`. Raises TypeError for unknown keys, ValueError for unfit values."""
    return system_class(tree.get("system")).Options(**tree)


def build_system(options: SystemOptions, frozen: Mapping[str, Weights] = {}) -> System:
    """The system that the options describe, initialised from torch's global seed; see `System`."""
    return system_class(options.system)(options, frozen)


def build_generator(options: SystemOptions) -> nn.Module:
    """One generator of the system, initialised from torch's global seed."""
    return system_class(options.system).build_generator(options)
