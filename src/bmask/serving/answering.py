"""Answers requests about photos, for both `mlflow models serve` and `bmask serve`."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bmask.errors import DataError
from bmask.serving import pictures
from bmask.serving.unmasker import DoneFace, Unmasker

NULLS = ("None", "nan")  # MLflow turns a JSON null and NaN in `inputs` into these strings
FIND, ALIGNED = "find", "aligned"  # values of `faces` in a request's params
URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648, section 5


class BadRequest(Exception):
    """A request that cannot be answered. The message is one sentence that shows nothing of the photos."""


class Wanted(NamedTuple):
    """The `params` of a request.

    attention: whether records hold the attention masks too.
    aligned: whether the photos are squares of faces, framed as ingest frames them; if not, faces are searched for.
    """

    attention: bool = False
    aligned: bool = False


def wanted(params: Any) -> Wanted:
    """Reads a request's params. All are optional; unknown ones are ignored, as in MLflow. Raises BadRequest."""
    params = {} if params is None else params
    if isinstance(params, Mapping):
        attention, faces = params.get("attention", False), params.get("faces", FIND)
        if isinstance(attention, bool) and faces in (FIND, ALIGNED):
            return Wanted(attention, faces == ALIGNED)
    raise BadRequest('params must be an object such as {"attention": true, "faces": "find"} or "aligned".')


class Done(NamedTuple):
    """What was done to a photo: its faces, and the share of its pixels that changed."""

    faces: tuple[DoneFace, ...]
    changed: float


def answer(
    unmasker: Unmasker, rows: Sequence[Any], asked: Wanted = Wanted(), megapixels: float = math.inf
) -> tuple[list[dict[str, Any]], list[Done]]:
    """Returns a JSON-ready record and a Done for each photo. Memory holds the pictures of one batch only.

    Args:
        rows: base64 strings, in the standard or URL-safe alphabet, padded or not, or `data:` URLs.
        megapixels: the most that all photos together may have.

    Raises:
        BadRequest: the message names the row, counted from 0.
    """
    if not len(rows):
        raise BadRequest("The request holds no photos; send base64 strings in the column image.")
    records: list[dict[str, Any]] = []
    done: list[Done] = []
    left = megapixels * 1e6
    for start in range(0, len(rows), unmasker.batch):
        group = []
        for number, row in enumerate(rows[start : start + unmasker.batch], start):
            group.append(picture(row, number))
            if (left := left - group[-1].photo[..., 0].size) < 0:
                raise BadRequest(f"The photos up to row {number} have more than {megapixels:g} megapixels; send fewer.")
        results = unmasker.unmask([own.photo for own in group], asked.aligned)
        for own, result in zip(group, results, strict=True):
            record: dict[str, Any] = {"image": _text(pictures.write(own, result))}
            record["faces"] = [{"box": list(face.box), "masked": face.masked} for face in result.faces]
            if asked.attention:
                record["attention"] = _text(pictures.encode(result.attention))
            records.append(record)
            done.append(Done(result.faces, float((result.attention > 0).mean())))
    return records, done


def picture(text: Any, row: int) -> pictures.Picture:
    """Decodes the picture in row number `row`. Raises BadRequest."""
    if text is None or text in NULLS or (isinstance(text, float) and math.isnan(text)):
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
        # Pillow's messages can contain bytes of the file.
        reason = re.sub(r"^(cannot be decoded \(\w+):.*\)$", r"\1)", str(error), flags=re.DOTALL)
        raise BadRequest(f"Row {row} of image {reason}.") from None


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
