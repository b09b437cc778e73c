"""Pictures as they come and go: what decoding for the networks drops (transparency, colour profile) is kept here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from bmask.data.reading.decoding import FORMATS, decode
from bmask.errors import DataError
from bmask.serving.unmasker import Result

MODES_IN_RGB = ("RGB", "RGBA", "P", "PA")  # their colour profile fits an RGB picture too


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


def png(picture: Picture, result: Result) -> bytes:
    """The unmasked picture as a PNG of the picture's own size, with its transparency and colour profile.

    Where the attention is 0 every pixel is the picture's own. Other metadata, such as the place of a photo, is dropped.
    """
    pixels = result.image
    if picture.pixels is not None:
        pixels = picture.pixels.copy()
        pixels[..., :3] = np.where(result.attention[..., None] > 0, result.image, pixels[..., :3])
    return encode(pixels, picture.profile)


def encode(pixels: np.ndarray, profile: bytes | None = None) -> bytes:
    """uint8 (H, W), (H, W, 3) or (H, W, 4) as a PNG, compressed for speed more than for size."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, icc_profile=profile)
    return buffer.getvalue()
