"""The model that `mlflow models serve` runs. MLflow executes this file when it loads a model; nothing else imports it.

Request, as `inputs`, `dataframe_records` or `dataframe_split`. Each photo is a base64 string, in the standard or
URL-safe alphabet, padded or not, or a data: URL:

    {"inputs": {"image": ["...", "..."]}, "params": {"attention": true, "faces": "find"}}

If `faces` is "aligned", the photos must be squares of faces, framed as ingest frames them.

Response: a record for each photo, in order, with base64 PNGs at the photo's own size:

    {"predictions": [{"image": "...", "attention": "...", "faces": [{"box": [40, 62, 90, 118], "masked": true}]}, ...]}

A changed picture is marked in its XMP metadata (IPTC's DigitalSourceType). A box is left, top, width and height, px.
Faces without a mask, and photos without a face, come back unchanged.

A bad request is answered with status 400 and one sentence that names the row, counted from 0.
"""

from __future__ import annotations

import json
from typing import Any

import mlflow
import pandas
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from bmask.serving import answering
from bmask.serving.unmasker import Unmasker


class BadRequest(mlflow.MlflowException):
    """HTTP 400 with one sentence. MLflow's server would otherwise put the whole request, photos included, before it."""

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
        # In-process, {"image": [a, b]} arrives as one row with a list.
        rows = list(model_input["image"].explode()) if "image" in model_input else []
        rows = [None if pandas.api.types.is_scalar(row) and pandas.isna(row) else row for row in rows]
        try:
            return answering.answer(self.unmasker, rows, answering.wanted(params))[0]
        except answering.BadRequest as error:
            raise BadRequest(str(error)) from None


mlflow.models.set_model(UnmaskModel())
