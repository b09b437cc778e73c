"""Exports a generator to a file that OpenVINO runs without PyTorch."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bmask.compiled import import_openvino
from bmask.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

ENDING = ".xml"  # of an exported generator, which lies beside the .safetensors; its weights end in .bin
ABOUT = "bmask"  # the entry of an exported generator that holds its header


def export(generator: Path, folder: Path) -> Path:
    """Writes `generator.xml` and its weights, `generator.bin`, in the precision of the file; returns the former.

    Takes seconds. Raises DataError if the generator cannot be read or converted, or OpenVINO is not installed.
    """
    import torch

    from bmask.gan.generator_file import load_generator

    openvino = import_openvino()
    network, about = load_generator(generator)
    side = int(about["image_size"])
    file = folder / generator.with_suffix(ENDING).name
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # PyTorch has deprecated tracing, which OpenVINO uses
            model = openvino.convert_model(_outputs(network), example_input=torch.zeros(1, 3, side, side))
        # A variable batch size: with a fixed one, OpenVINO 2026.4 crashes the process when it compiles some networks.
        model.reshape([-1, 3, side, side])
        model.set_rt_info(json.dumps(about, sort_keys=True), ABOUT)
        folder.mkdir(parents=True, exist_ok=True)
        openvino.save_model(model, file, compress_to_fp16=_half(generator))
    except Exception as error:  # OpenVINO's exceptions have no common base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{generator} cannot be converted to OpenVINO ({reason}); PyTorch can run it") from None
    return file


def _half(generator: Path) -> bool:
    from safetensors import safe_open

    with safe_open(generator, framework="numpy") as weights:
        return any(weights.get_slice(name).get_dtype() == "F16" for name in weights.keys())  # noqa: SIM118


def _outputs(generator: nn.Module) -> nn.Module:
    """Wraps the generator so that it returns only the picture and, if it has one, the attention."""
    from torch import nn

    class Outputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = generator

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            made = self.generator(x)
            return (made.image,) if made.attention is None else (made.image, made.attention)

    return Outputs().eval()
