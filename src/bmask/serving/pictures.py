"""Pictures as they come and go: what decoding for the networks drops (transparency, colour profile) is kept here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from bmask.data.reading.decoding import FORMATS, decode
from bmask.errors import DataError
from bmask.serving.unmasker import Result

MODES_IN_RGB = ("RGB", "RGBA", "P", "PA")  # their colour profile fits an RGB picture too

# What a changed picture says of itself, in IPTC's word for a photo into which a trained model has painted.
MARK = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


class Picture(NamedTuple):
    """One picture, upright.

    photo: uint8 (H, W, 3), what the networks see; transparent pixels lie on grey.
    pixels: uint8 (H, W, 4), the picture's own colours and transparency, where it has any.
    profile: its ICC colour profile, where it has one: phones save wide colour spaces, and the same bytes without the
        profile look pale.
    """

    photo: np.ndarray
    pixels: np.ndarray | None
    profile: bytes | None


def read(source: Path | bytes) -> Picture:
    """Decodes a picture at full size. Raises DataError with the reason alone, as `decoding.decode` does."""
    photo = decode(source)
    pixels = None
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            profile = image.info.get("icc_profile") if image.mode in MODES_IN_RGB else None
            if image.has_transparency_data:
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))
    except Exception as error:  # hostile bytes raise nearly anything out of Pillow's readers
        raise DataError(f"cannot be decoded ({type(error).__name__}: {error})") from None
    return Picture(photo, pixels, profile)


def png(picture: Picture, result: Result, mark: bool = True) -> bytes:
    """The unmasked picture as a PNG of the picture's own size, with its transparency and colour profile.

    Where the attention is 0 every pixel is the picture's own. Other metadata, such as the place of a photo, is dropped.
    With `mark`, a picture that was changed says so in its XMP metadata (IPTC's DigitalSourceType).
    """
    pixels = result.image
    if picture.pixels is not None:
        pixels = picture.pixels.copy()
        pixels[..., :3] = np.where(result.attention[..., None] > 0, result.image, pixels[..., :3])
    return encode(pixels, picture.profile, MARK if mark and result.attention.any() else "")


def encode(pixels: np.ndarray, profile: bytes | None = None, xmp: str = "") -> bytes:
    """uint8 (H, W), (H, W, 3) or (H, W, 4) as a PNG, compressed for speed more than for size."""
    buffer, said = io.BytesIO(), PngInfo()
    if xmp:
        said.add_itxt("XML:com.adobe.xmp", xmp)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, icc_profile=profile, pnginfo=said)
    return buffer.getvalue()
