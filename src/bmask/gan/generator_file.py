"""A generator as one file: safetensors weights with the JSON that rebuilds the network in the file's header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bmask.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import nn

FORMAT = "bmask-generator-1"
FILE = "generator.safetensors"  # its usual name; MLflow keeps it


def save_generator(path: Path, generator: nn.Module, about: dict, dtype: torch.dtype | None = None) -> None:
    """Writes the weights, in float32 unless told otherwise.

    `about` must hold `network` (the options as a dict); the rest is carried along.
    """
    import torch
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().to(dtype or torch.float32).cpu().contiguous()
        for name, value in generator.state_dict().items()
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        # One entry: safetensors writes several in an order of chance, and equal generators should be equal files.
        save_file(tensors, temporary, metadata={"about": json.dumps({**about, "format": FORMAT}, sort_keys=True)})
        os.chmod(temporary, 0o644)  # safetensors' 0600 would hide it from other users of a shared volume
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_about(path: Path) -> dict:
    """The JSON in the header, without reading the weights. Raises DataError if the file is no generator of ours."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise DataError(f"{path} is not there; name a generator.safetensors that `bmask train` wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is no safetensors file ({error}); it may be cut short: fetch or train it again"
        ) from None
    about = {"format": header.get("format"), **json.loads(header.get("about", "{}"))}
    if about["format"] != FORMAT:
        raise DataError(f"{path} is not a bmask generator (format {about['format']!r}, expected {FORMAT!r})")
    return about


def load_generator(path: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict]:
    """The generator in eval mode and its `about`. Raises DataError."""
    import torch
    from safetensors.torch import load_file

    from bmask.gan.registry import build_generator, read_options

    about = read_about(path)
    try:
        with torch.random.fork_rng(devices=[]):  # building draws initial weights; the caller's seed must not move
            generator = build_generator(read_options(about["network"]))
        generator.load_state_dict(load_file(path))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise DataError(f"{path} does not fit this version of bmask ({cause}); load it with its own or train") from None
    return generator.to(device).eval().requires_grad_(False), about
