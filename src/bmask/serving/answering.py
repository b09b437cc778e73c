"""What is asked about photos and what is answered, in `mlflow models serve` and in `bmask serve` alike."""

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

NULLS = ("None", "nan")  # what MLflow makes of a JSON null and of NaN on their way through `inputs`
FIND, ALIGNED = "find", "aligned"  # what `faces` in a request's params can be
URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648, section 5


class BadRequest(Exception):
    """A request that cannot be answered, in one sentence that shows nothing of the photos."""


class Wanted(NamedTuple):
    """What a request asks for besides, its `params`.

    attention: whether records hold the attention masks too.
    aligned: the photos are squares of faces already, framed as ingest frames them; else faces are found.
    """

    attention: bool = False
    aligned: bool = False


def wanted(params: Any) -> Wanted:
    """A request's params; each may be left out, and unknown ones are ignored, as MLflow does. Raises BadRequest."""
    params = {} if params is None else params
    if isinstance(params, Mapping):
        attention, faces = params.get("attention", False), params.get("faces", FIND)
        if isinstance(attention, bool) and faces in (FIND, ALIGNED):
            return Wanted(attention, faces == ALIGNED)
    raise BadRequest('params must be an object such as {"attention": true, "faces": "find"}, or "aligned".')


class Done(NamedTuple):
    """What was done to a photo: its faces, and the share of its pixels that changed."""

    faces: tuple[DoneFace, ...]
    changed: float


def answer(
    unmasker: Unmasker, rows: Sequence[Any], asked: Wanted = Wanted(), megapixels: float = math.inf
) -> tuple[list[dict[str, Any]], list[Done]]:
    """A record for each photo, fit for JSON, and what was done. Pictures are held for a batch of photos alone.

    Args:
        rows: base64 strings, of either alphabet, padded or not; `data:` URLs are accepted.
        megapixels: of all photos together.

    Raises:
        BadRequest: names the row, counted from 0.
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
    """The picture in row number `row`. Raises BadRequest."""
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
        # Pillow's own words can hold bytes of the file.
        reason = re.sub(r"^(cannot be decoded \(\w+):.*\)$", r"\1)", str(error), flags=re.DOTALL)
        raise BadRequest(f"Row {row} of image {reason}.") from None


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
