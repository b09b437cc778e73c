"""What a request may hold: base64 as any library writes it, and a sentence for everything else."""

from __future__ import annotations

import base64
import io
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import bmask.serving
from bmask.serving.answering import BadRequest
from bmask.serving.answering import picture as picture_of

SERVED = runpy.run_path(str(Path(bmask.serving.__file__).with_name("served.py")))  # as MLflow executes it


def bmp(height: int = 20, width: int = 20, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue() + bytes(seed)  # any length, so any padding


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode], ids=["standard", "url-safe"])
@pytest.mark.parametrize("start", ["", "data:image/bmp;base64,"])
def test_both_alphabets_padded_or_not_give_the_same_picture(encode, start, seed):
    content = bmp(seed=seed)
    text = encode(content).decode()
    expected = np.asarray(Image.open(io.BytesIO(content)))
    for form in (text, text.rstrip("="), "\n".join(text[i : i + 76] for i in range(0, len(text), 76))):
        np.testing.assert_array_equal(picture_of(start + form, 0).photo, expected)


@pytest.mark.parametrize("null", [None, float("nan"), "None", "nan"])
def test_a_null_is_called_null(null):
    with pytest.raises(BadRequest, match="Row 3 of image is null"):
        picture_of(null, 3)


@pytest.mark.parametrize("frame", [pandas.DataFrame({"image": [pandas.NA]}), pandas.DataFrame({"photo": ["x"]})])
def test_mlflow_gets_an_error_of_its_own_with_our_sentence_alone(frame):
    model = SERVED["UnmaskModel"]()
    model.unmasker = SimpleNamespace(batch=1)
    with pytest.raises(SERVED["BadRequest"], match=r"Row 0 of image is null|holds no photos") as error:
        model.predict(None, frame)
    assert json.loads(error.value.serialize_as_json())["message"] == str(error.value)


@pytest.mark.parametrize("garbage", ["###", "a", "aGVsbG8=x", "aGVsbG8==", "größe", "aGVs*bG8"])
def test_what_is_no_base64_is_refused(garbage):
    with pytest.raises(BadRequest, match="Row 0 of image is not base64"):
        picture_of(garbage, 0)


@pytest.mark.parametrize("value", [7, ["aGVs"], b"aGVs"])
def test_what_is_no_text_is_told_so(value):
    with pytest.raises(BadRequest, match="Row 0 of image holds no text"):
        picture_of(value, 0)


@given(st.text(max_size=30))
def test_any_text_is_a_picture_or_a_bad_request(text):
    with pytest.raises(BadRequest, match="Row 5 of image "):
        picture_of(text, 5)
