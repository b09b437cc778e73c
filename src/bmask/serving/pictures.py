"""Pictures as they come and go: transparency, colour profile and EXIF, which the networks do not see, are kept."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import get_sampling
from PIL.PngImagePlugin import PngInfo

from bmask.data.reading.decoding import FORMATS, ORIENTATION, decode
from bmask.errors import DataError
from bmask.serving.unmasker import Result

WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # formats of results, by a file's ending
MODES_IN_RGB = ("RGB", "RGBA", "P", "PA")  # their colour profile fits an RGB picture too
MODES_IN_GREY = ("1", "L", "LA", "I", "I;16")
FINE = MappingProxyType({"quality": 95, "subsampling": 0})  # of a JPEG whose source was none
LONGEST = 65_000  # bytes of EXIF and of XMP that a JPEG can hold

# What a changed picture says of itself, in IPTC's word for a photo into which a trained model has painted.
MARK = """<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"/>
"""
PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
{MARK}</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


class Picture(NamedTuple):
    """One picture, upright.

    photo: uint8 (H, W, 3), what the networks see; transparent pixels lie on grey.
    pixels: uint8 (H, W, 4), the picture's own colours and transparency, where it has any.
    grey: whether its file has one channel alone.
    content: the file's bytes.
    format: PNG, JPEG, WEBP, or another one that is read.
    profile: its ICC colour profile, where it has one: phones save wide colour spaces, and the same bytes without the
        profile look pale.
    exif: without the orientation, which is applied, and without the thumbnail, which would show the mask.
    xmp: empty where it has none.
    jpeg: Pillow's words for quantization tables, sampling of colours and progression of a JPEG.
    """

    photo: np.ndarray
    pixels: np.ndarray | None
    grey: bool
    content: bytes
    format: str
    profile: bytes | None
    exif: bytes
    xmp: str
    jpeg: Mapping[str, Any]


def read(source: Path | bytes) -> Picture:
    """Decodes a picture at full size. Raises DataError with the reason alone, as `decoding.decode` does."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    photo = decode(content)
    pixels = None
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            profile = image.info.get("icc_profile") if image.mode in MODES_IN_RGB else None
            if image.has_transparency_data:
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))
            kind = "JPEG" if image.format == "MPO" else str(image.format)
            grey, jpeg = image.mode in MODES_IN_GREY, _jpeg(image) if kind == "JPEG" else FINE
            exif, xmp = _exif(image), _xmp(image)
    except Exception as error:  # hostile bytes raise nearly anything out of Pillow's readers
        raise DataError(f"cannot be decoded ({type(error).__name__}: {error})") from None
    return Picture(photo, pixels, grey, content, kind, profile, exif, xmp, jpeg)


def write(picture: Picture, result: Result, kind: str = "PNG", mark: bool = True) -> bytes:
    """The unmasked picture as a file of the picture's own size, with its transparency, colour profile, EXIF and XMP.

    Every pixel whose attention is 0 is the picture's own in a PNG, and in a WEBP but for one whose source was lossy. A
    JPEG is compressed again with the tables of its source, so such pixels move by rounding.

    Args:
        kind: PNG, JPEG or WEBP.
        mark: a picture that was changed says so in its XMP metadata (IPTC's DigitalSourceType).
    """
    pixels = result.image
    if picture.pixels is not None and kind != "JPEG":
        pixels = picture.pixels.copy()
        pixels[..., :3] = np.where(result.attention[..., None] > 0, result.image, pixels[..., :3])
    image = Image.fromarray(pixels)
    if picture.grey and image.mode == "RGB":
        image = image.convert("L")
    xmp = _marked(picture.xmp) if mark and result.attention.any() else picture.xmp
    options: dict[str, Any] = {"icc_profile": picture.profile if image.mode != "L" else None, "exif": picture.exif}
    if kind == "PNG":
        options |= {"compress_level": 1, "pnginfo": _said(xmp)}
    elif kind == "JPEG":
        options |= {**picture.jpeg, "exif": picture.exif[: LONGEST * (len(picture.exif) <= LONGEST)]}
        options |= {"xmp": xmp.encode()} if xmp and len(xmp.encode()) <= LONGEST else {}
    else:
        lossless = picture.format != "WEBP" or b"VP8L" in picture.content
        options |= {"xmp": xmp.encode(), "lossless": lossless, "exact": True, "quality": 75 if lossless else 95}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) as a PNG, compressed for speed more than for size."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _jpeg(image: Image.Image) -> Mapping[str, Any]:
    tables = getattr(image, "quantization", {})
    if image.mode not in ("RGB", "L") or not tables:
        return FINE
    sampling = get_sampling(image) if image.mode == "RGB" else 0
    progressive = {"progressive": True} if image.info.get("progressive") else {}
    return {"qtables": tables, "subsampling": sampling if sampling >= 0 else 0, **progressive}


def _exif(image: Image.Image) -> bytes:
    with contextlib.suppress(Exception):  # damaged metadata are no reason to refuse a photo
        exif = image.getexif()
        exif.pop(ORIENTATION, None)
        return exif.tobytes() if exif else b""
    return b""


def _xmp(image: Image.Image) -> str:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or ""
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return re.sub(r"""(tiff:Orientation=["'])\d""", r"\g<1>1", text)  # the picture is upright now


def _marked(xmp: str) -> str:
    """With the mark in it, in a description of its own."""
    before, end, after = xmp.rpartition("</rdf:RDF>")
    return f"{before}{MARK}{end}{after}" if end else PACKET


def _said(xmp: str) -> PngInfo:
    said = PngInfo()
    if xmp:
        said.add_itxt("XML:com.adobe.xmp", xmp)
    return said
