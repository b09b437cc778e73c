"""The model that `mlflow models serve` runs. MLflow executes this file when it loads a model; nothing else imports it.

Request, as `inputs`, `dataframe_records` or `dataframe_split`, each photo a base64 string (of either alphabet, padded
or not; a data: URL is accepted):

    {"inputs": {"image": ["...", "..."]}, "params": {"attention": true}}

Response: a record per photo, in order, with base64 PNGs at the photo's own size:

    {"predictions": [{"image": "...", "attention": "...", "faces": [{"box": [40, 62, 90, 118], "masked": true}]}, ...]}

A changed picture says so in its XMP metadata (IPTC's DigitalSourceType). A box is left, top, width and height, px.
Faces without a mask, and photos without a face, come back as they were.

A bad request is answered with status 400 and one sentence that names the row, counted from 0.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import mlflow
import pandas
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from bmask.errors import DataError
from bmask.serving import pictures
from bmask.serving.unmasker import Unmasker

NULLS = ("None", "nan")  # what MLflow makes of a JSON null and of NaN on their way through `inputs`
URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648, section 5


class BadRequest(mlflow.MlflowException):
    """HTTP 400 with one sentence. MLflow's server would put the whole request, photos included, in front of it."""

    def __init__(self, sentence: str):
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": str(self)})


class UnmaskModel(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.unmasker = Unmasker(context.artifacts["generator"])

    def predict(
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        if "image" not in model_input or not len(model_input):
            raise BadRequest("The request holds no photos; send base64 strings in the column image.")
        rows = list(model_input["image"].explode())  # in-process, {"image": [a, b]} arrives as one row with a list
        records = []
        size = self.unmasker.batch
        for start in range(0, len(rows), size):
            group = [_picture(row, start + index) for index, row in enumerate(rows[start : start + size])]
            results = self.unmasker.unmask([picture.photo for picture in group])
            for picture, result in zip(group, results, strict=True):
                record: dict[str, Any] = {"image": _text(pictures.write(picture, result))}
                record["faces"] = [{"box": list(face.box), "masked": face.masked} for face in result.faces]
                if params and params.get("attention"):
                    record["attention"] = _text(pictures.encode(result.attention))
                records.append(record)
        return records


def _picture(text: Any, row: int) -> pictures.Picture:
    if text in NULLS if isinstance(text, str) else pandas.api.types.is_scalar(text) and pandas.isna(text):
        raise BadRequest(f"Row {row} of image is null; send the photo's file as a base64 string.")
    if not isinstance(text, str):
        raise BadRequest(f"Row {row} of image holds no text; send the photo's file as a base64 string.")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()).translate(URL_SAFE)
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"Row {row} of image is not base64; send the photo's file as a base64 string.") from None
    try:
        return pictures.read(content)
    except DataError as error:
        raise BadRequest(f"Row {row} of image {error}.") from None


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


mlflow.models.set_model(UnmaskModel())
