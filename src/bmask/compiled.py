"""Networks that OpenVINO runs on this machine's processor: the face detector, and generators that were exported."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from bmask.errors import DataError
from bmask.parallel import cores

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class Compiled:
    """A network loaded from a file of ONNX or OpenVINO; several threads may call it.

    Args:
        shape: of the input, if not the file's.
        precision: `fp32`, `bf16`, or `auto` for OpenVINO's own choice on this processor.

    Raises:
        DataError: the file is not a network, or OpenVINO is not installed.
    """

    def __init__(self, file: Path, shape: tuple[int, ...] | None = None, precision: str = "auto"):
        openvino = import_openvino()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores()}
        if precision != "auto":
            settings["INFERENCE_PRECISION_HINT"] = PRECISIONS[precision]
        try:
            core = openvino.Core()
            self._model = core.read_model(file)
            if shape:
                self._model.reshape(shape)
            self._compiled = core.compile_model(self._model, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"{file} cannot be read as a network ({reason}); fetch or make it again") from None
        self._own = threading.local()  # a request holds the state of one call

    def noted(self, key: str) -> str:
        """The file's metadata under a key; empty if there is none."""
        return self._model.get_rt_info(key).astype(str) if self._model.has_rt_info(key) else ""

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """The outputs, which are the thread's own until its next call."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        return list(self._own.request.infer([x], share_inputs=True, share_outputs=True).values())


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which reports each import to its makers. Raises DataError where it is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes importing it fail
    try:
        import openvino
    except ImportError as error:
        raise DataError(f"OpenVINO cannot be used ({error}); pip install openvino, or run make setup") from None
    return openvino
