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
FILE = "generator.safetensors"  # the usual name, in MLflow too


def save_generator(path: Path, generator: nn.Module, about: dict, dtype: torch.dtype | None = None) -> None:
    """Writes the weights as `dtype`, by default float32.

    `about` must hold `network` (the options as a dict); its other values are stored unchanged.
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
        # One entry, since safetensors writes several in random order, and equal generators should give equal files.
        save_file(tensors, temporary, metadata={"about": json.dumps({**about, "format": FORMAT}, sort_keys=True)})
        os.chmod(temporary, 0o644)  # safetensors' 0600 would hide it from other users of a shared volume
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_about(path: Path) -> dict:
    """The JSON in the header, without reading the weights. Raises DataError if the file is not a bmask generator."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise DataError(f"{path} does not exist; name a generator.safetensors that `bmask train` wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is not a safetensors file ({error}); it may be incomplete: fetch or train it again"
        ) from None
    about = {"format": header.get("format"), **json.loads(header.get("about", "{}"))}
    if about["format"] != FORMAT:
        raise DataError(f"{path} is not a bmask generator (format {about['format']!r}, expected {FORMAT!r})")
    return about


def load_generator(path: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict]:
    """The generator in eval mode and its `about`. Raises DataError."""
    import torch
    from safetensors.torch import load_file

    from bmask.gan.lookup import build_generator, read_options

    about = read_about(path)
    try:
        with torch.random.fork_rng(devices=[]):  # building draws weights; the caller's random state must not change
            generator = build_generator(read_options(about["network"]))
        generator.load_state_dict(load_file(path))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise DataError(f"{path} does not fit this bmask ({cause}); use the version that wrote it, or train") from None
    return generator.to(device).eval().requires_grad_(False), about
