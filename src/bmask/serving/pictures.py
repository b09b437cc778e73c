"""Reads and writes pictures, with transparency, colour profile, EXIF and XMP, which the networks do not see."""

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
JPEG_95 = MappingProxyType({"quality": 95, "subsampling": 0})  # of a JPEG whose source was not one
MAX_METADATA_BYTES = 65_000  # bytes of EXIF, and of XMP, that a JPEG can hold
# Tags of EXIF's first directory: description, author, time, camera, and pointers to camera settings and place.
# The others describe the old file or hold previews.
KEPT_TAGS = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)

# The mark of a changed picture: IPTC's term for a photo into which a trained model has painted.
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
MARK = f"""<rdf:Description {RDF} rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"/>
"""
PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>
{MARK}</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
SOURCE = "Iptc4xmpExt:DigitalSourceType"
OLD_SOURCE = re.compile(rf"""\s{SOURCE}=("[^"]*"|'[^']*')|<{SOURCE}\b[^>]*/>|<{SOURCE}\b.*?</{SOURCE}>""", re.DOTALL)


class Picture(NamedTuple):
    """One picture, upright.

    photo: uint8 (H, W, 3), what the networks see; transparent pixels lie on grey.
    pixels: uint8 (H, W, 4), the picture's own colours and transparency; None without transparency.
    grey: whether the file has only one colour channel.
    content: the file's bytes.
    format: PNG, JPEG, WEBP, or another format that can be read.
    profile: the ICC colour profile or None. Phones save wide colour spaces, which look pale without their profile.
    exif: without the orientation, which is applied, and without the thumbnail, which would show the mask.
    xmp: empty if there is none.
    jpeg: Pillow's options for a JPEG's quantization tables, chroma subsampling and progressive coding.
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
    """Decodes a picture at full size. Raises DataError with only the reason, as `decoding.decode` does."""
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
            grey, jpeg = image.mode in MODES_IN_GREY, _jpeg(image) if kind == "JPEG" else JPEG_95
            exif, xmp = _exif(image), _xmp(image)
    except Exception as error:  # Pillow's readers can raise almost anything on hostile bytes
        raise DataError(f"cannot be decoded ({type(error).__name__}: {error})") from None
    return Picture(photo, pixels, grey, content, kind, profile, exif, xmp, jpeg)


def write(picture: Picture, result: Result, kind: str = "PNG", mark: bool = True) -> bytes:
    """Encodes the unmasked picture at its own size, with its transparency, colour profile, EXIF and XMP.

    In a PNG, and in a WEBP unless its source was lossy, pixels with attention 0 are exactly the picture's own. A JPEG
    is compressed again with the tables of its source, so these pixels change by rounding.

    Args:
        kind: PNG, JPEG or WEBP.
        mark: note in a changed picture's XMP metadata that it was changed (IPTC's DigitalSourceType).

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
        options |= {"compress_level": 1, "pnginfo": _png_info(xmp)}
    elif kind == "JPEG":
        xmp = xmp if len(xmp.encode()) <= MAX_METADATA_BYTES else PACKET if SOURCE in xmp else ""
        options |= {"exif": picture.exif if len(picture.exif) <= MAX_METADATA_BYTES else b""}
        options |= {"xmp": xmp.encode()} if xmp else {}
    else:
        lossless = picture.format != "WEBP" or b"VP8L" in picture.content
        options |= {"xmp": xmp.encode(), "lossless": lossless, "exact": True, "quality": 75 if lossless else 95}
    return _saved(image, kind, [{**options, **how} for how in (picture.jpeg, JPEG_95)] if kind == "JPEG" else [options])


def _saved(image: Image.Image, kind: str, attempts: list[dict[str, Any]]) -> bytes:
    """Encodes with the first options that work: the encoder cannot write all tables and scans that Pillow reads."""
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
    """Encodes uint8 (H, W) or (H, W, 3) as a PNG, optimized for speed more than for size."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _jpeg(image: Image.Image) -> Mapping[str, Any]:
    tables = getattr(image, "quantization", {})
    if image.mode not in ("RGB", "L") or sorted(tables) != list(range(len(tables))) or not tables:
        return JPEG_95  # if the numbers of tables have gaps, Pillow would omit tables
    sampling = get_sampling(image) if image.mode == "RGB" else 0
    progressive = {"progressive": True} if image.info.get("progressive") else {}
    return {"qtables": [tables[i] for i in range(len(tables))], "subsampling": max(sampling, 0), **progressive}


def _exif(image: Image.Image) -> bytes:
    with contextlib.suppress(Exception):  # a photo with damaged metadata is still accepted
        exif = image.getexif()
        for tag in set(exif) - set(KEPT_TAGS):
            del exif[tag]
        return exif.tobytes() if exif else b""
    return b""


def _xmp(image: Image.Image) -> str:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or ""
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return re.sub(r"""(tiff:Orientation(?:=["']|>)\s*)\d""", r"\g<1>1", text)  # the picture is upright now


def _marked(xmp: str) -> str:
    """Adds the mark, in a description of its own, and removes any earlier DigitalSourceType."""
    parts = re.split(r"(?=</\w+:RDF>)", OLD_SOURCE.sub("", xmp))
    return f"{''.join(parts[:-1])}{MARK}{parts[-1]}" if len(parts) > 1 else PACKET


def _png_info(xmp: str) -> PngInfo:
    info = PngInfo()
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp)
    return info
