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
from PIL import Image
from PIL.JpegImagePlugin import get_sampling
from PIL.PngImagePlugin import PngInfo

from bmask.data.reading.decoding import FORMATS, UPRIGHT, decode, orientation, settle_transparency, with_alpha
from bmask.errors import DataError
from bmask.serving.unmasker import Result

JPEG = dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG")
WRITTEN = {".png": "PNG", **JPEG, ".webp": "WEBP"}  # formats of results, by a file's ending
MODES_IN_RGB = ("RGB", "RGBA", "P", "PA")  # their colour profile fits an RGB picture too
MODES_IN_GREY = ("1", "L", "LA", "I", "I;16")
FINE = MappingProxyType({"quality": 95, "subsampling": 0})  # of a JPEG whose source was none
LONGEST = 65_000  # bytes of EXIF and of XMP that a JPEG can hold
# Of EXIF's first directory: what was photographed, by whom, when, with what, and the ways to the camera's settings and
# to the place. The rest describes the file that it was in, or holds another picture of the same.
KEPT = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)

# What a changed picture says of itself, in IPTC's word for a photo into which a trained model has painted.
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
MARK = f"""<rdf:Description {RDF} rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"/>
"""
PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>
{MARK}</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
SOURCE = "Iptc4xmpExt:DigitalSourceType"
STATED = re.compile(rf"""\s{SOURCE}=("[^"]*"|'[^']*')|<{SOURCE}\b[^>]*/>|<{SOURCE}\b.*?</{SOURCE}>""", re.DOTALL)


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
            profile = image.info.get("icc_profile") if image.mode in (*MODES_IN_RGB, *MODES_IN_GREY) else None
            settle_transparency(image)
            if image.has_transparency_data:
                own, turned = with_alpha(image), orientation(image)
                pixels = np.asarray(own.transpose(UPRIGHT[turned]) if turned in UPRIGHT else own)
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

    Raises:
        DataError: the format cannot hold the picture.
    """
    pixels = result.image
    if picture.pixels is not None and kind != "JPEG":
        pixels = picture.pixels.copy()
        pixels[..., :3] = np.where(result.attention[..., None] > 0, result.image, pixels[..., :3])
    image = Image.fromarray(pixels)
    if picture.grey and image.mode == "RGB":
        image = image.convert("L")
    xmp = _marked(picture.xmp) if mark and result.attention.any() else picture.xmp
    fits = (image.mode == "L") == picture.grey
    options: dict[str, Any] = {"icc_profile": picture.profile if fits else None, "exif": picture.exif}
    if kind == "PNG":
        options |= {"compress_level": 1, "pnginfo": _said(xmp)}
    elif kind == "JPEG":
        xmp = xmp if len(xmp.encode()) <= LONGEST else PACKET if SOURCE in xmp else ""
        options |= {"exif": picture.exif if len(picture.exif) <= LONGEST else b""}
        options |= {"xmp": xmp.encode()} if xmp else {}
    else:
        lossless = picture.format != "WEBP" or b"VP8L" in picture.content
        options |= {"xmp": xmp.encode(), "lossless": lossless, "exact": True, "quality": 75 if lossless else 95}
    return _saved(image, kind, [{**options, **how} for how in (picture.jpeg, FINE)] if kind == "JPEG" else [options])


def _saved(image: Image.Image, kind: str, attempts: list[dict[str, Any]]) -> bytes:
    """With the first options that the encoder takes: it cannot write all tables and scans that Pillow reads."""
    reason = ""
    for options in attempts:
        buffer = io.BytesIO()
        try:
            image.save(buffer, kind, **options)
            return buffer.getvalue()
        except (ValueError, OSError) as error:
            reason = str(error)
    raise DataError(f"cannot be saved as {kind} ({reason}); convert it first")


def encode(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) as a PNG, compressed for speed more than for size."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _jpeg(image: Image.Image) -> Mapping[str, Any]:
    tables = getattr(image, "quantization", {})
    if image.mode not in ("RGB", "L") or sorted(tables) != list(range(len(tables))) or not tables:
        return FINE  # Pillow would leave tables out whose numbers have gaps
    sampling = get_sampling(image) if image.mode == "RGB" else 0
    progressive = {"progressive": True} if image.info.get("progressive") else {}
    return {"qtables": [tables[i] for i in range(len(tables))], "subsampling": max(sampling, 0), **progressive}


def _exif(image: Image.Image) -> bytes:
    with contextlib.suppress(Exception):  # damaged metadata are no reason to refuse a photo
        exif = image.getexif()
        for tag in set(exif) - set(KEPT):
            del exif[tag]
        return exif.tobytes() if exif else b""
    return b""


def _xmp(image: Image.Image) -> str:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or ""
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return re.sub(r"""(tiff:Orientation(?:=["']|>)\s*)\d""", r"\g<1>1", text)  # the picture is upright now


def _marked(xmp: str) -> str:
    """With the mark in it, in a description of its own, in place of what it says of its source so far."""
    parts = re.split(r"(?=</\w+:RDF>)", STATED.sub("", xmp))
    return f"{''.join(parts[:-1])}{MARK}{parts[-1]}" if len(parts) > 1 else PACKET


def _said(xmp: str) -> PngInfo:
    said = PngInfo()
    if xmp:
        said.add_itxt("XML:com.adobe.xmp", xmp)
    return said
