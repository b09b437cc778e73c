"""The engines that run a generator: PyTorch on any device, or OpenVINO on a CPU with a file from exporting.py.

Both compute the same; docs/results.md compares their speed and says why these two were chosen.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from bmask.compiled import Compiled
from bmask.errors import DataError
from bmask.progress import say
from bmask.serving.exporting import ABOUT, ENDING, export

if TYPE_CHECKING:
    from torch import nn

Name = Literal["auto", "fastest", "openvino", "pytorch"]
SETTINGS = "serving.json"  # the file beside the generator in a packed model that states the threshold
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg")  # device files on Linux, and on Linux inside Windows


class Engine(Protocol):
    """A generator that is ready to run; several threads may call it.

    about: the generator's header.
    device: `cpu`, `cuda`, `cuda:1`.
    """

    name: str
    about: dict[str, Any]
    device: str

    def __call__(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Maps uint8 (N, h, w, 3) to float32 pictures (N, h, w, 3) in [-1, 1] and attention (N, h, w) or None."""


class PyTorch:
    """A generator's network in PyTorch. `precision`: see bmask.gan.device.pick_precision."""

    name = "pytorch"

    def __init__(self, generator: nn.Module, about: dict[str, Any], device: str = "cpu", precision: str = "auto"):
        self.generator, self.about = generator.to(device), about
        self.device, self.precision = device, precision

    def __call__(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        import torch

        from bmask.gan.inference import translate

        x = torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2).contiguous().float().div(127.5).sub(1)
        made = translate(self.generator, x, self.precision)
        attention = None if made.attention is None else made.attention[:, 0].cpu().numpy()
        return made.image.permute(0, 2, 3, 1).cpu().numpy(), attention


class OpenVINO:
    """A generator that exporting.py wrote, on the CPU. It runs without PyTorch.

    precision: `fp32`, `bf16`, or `auto` to let OpenVINO choose for this CPU. Raises DataError.
    """

    name, device = "openvino", "cpu"

    def __init__(self, file: Path, precision: str = "auto"):
        self._compiled = Compiled(file, precision=precision)
        if not (noted := self._compiled.noted(ABOUT)):
            raise DataError(f"{file} is not an exported bmask generator")
        self.about = json.loads(noted)

    def __call__(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        x = np.ascontiguousarray(squares.transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - 1
        made = [output.copy() for output in self._compiled(x)]
        return made[0].transpose(0, 2, 3, 1), made[1][:, 0] if len(made) > 1 else None


def open_engine(file: Path, name: Name = "auto", device: str = "auto", precision: str = "auto") -> Engine:
    """Opens a generator's file, .safetensors or exported, with an engine.

    `auto` takes CUDA if there is a GPU, else OpenVINO if the generator was exported, else PyTorch. `fastest` also
    exports a generator that was not, which takes seconds and pays off for many calls. It does not export packed
    models: registering has exported those for which OpenVINO agrees with PyTorch. `openvino` and `pytorch` use only
    that engine.

    Raises:
        DataError: the file is missing or not a bmask generator, it cannot be converted, or the engine is not installed.
    """
    exported, generator = file.with_suffix(ENDING), file.with_suffix(".safetensors")
    on_cpu = device == "cpu" or (device == "auto" and not _cuda())
    if name in ("auto", "fastest"):
        there = on_cpu and _installed("openvino")
        if there and exported.is_file():
            return OpenVINO(exported, precision)
        if there and name == "fastest" and not generator.with_name(SETTINGS).is_file():
            try:
                return _converted(generator, precision)
            except DataError as error:
                say(str(error))
    elif name == "openvino":
        return OpenVINO(exported, precision) if exported.is_file() else _converted(generator, precision)
    if not _installed("torch"):
        raise DataError(f"{generator} needs PyTorch, which is not installed; pip install 'bmask[train]'")
    from bmask.gan.generator_file import load_generator

    device = ("cpu" if on_cpu else "cuda") if device == "auto" else device
    network, about = load_generator(generator, device)
    return PyTorch(network, about, device, precision)


def _converted(generator: Path, precision: str) -> OpenVINO:
    with TemporaryDirectory() as folder:
        return OpenVINO(export(generator, Path(folder)), precision)


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def _cuda() -> bool:
    """Whether PyTorch can use a GPU. Imports PyTorch, which takes seconds, only if there may be one."""
    if not _installed("torch") or (sys.platform == "linux" and not any(Path(gpu).exists() for gpu in GPU_FILES)):
        return False
    import torch

    return torch.cuda.is_available()
