"""Decodes the formats that cameras and web pages produce, and refuses the rest with a reason."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bmask.data.reading.endings import check_end
from bmask.data.reading.silence import hush, muted
from bmask.data.records import lfs_hint
from bmask.errors import DataError

# A closed list, because one of Pillow's other readers starts Ghostscript. JPEG includes the MPO files of phones.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands; the last two: any HEIF
MIN_SIDE = 16  # px; a face is not recognisable below
MAX_PIXELS = 64_000_000  # a decoded photo then takes at most 192 MB
MAX_ASPECT = 8.0  # the middle square of a longer strip shows no face
GREY = (128, 128, 128)

ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # what undoes each value of the tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: Path | bytes, enough: int = 0) -> np.ndarray:
    """Decodes one photo.

    Any mode becomes 8-bit RGB: palettes are looked up, 16-bit values divided by 257, CMYK converted, EXIF orientation
    applied, the first picture of an animation taken. Transparent pixels are laid on mid grey, which is 0 to the
    networks and contrasts less with most objects than white. Colour profiles are not applied.

    Args:
        source: a file or its bytes.
        enough: the shorter side, px, that the caller needs. JPEG files are then decoded at the smallest of the scales
            1/8, 1/4, 1/2 and 1/1 that keeps it, which is several times faster. 0 decodes in full.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: with the reason alone (the caller knows the name): not an image, incomplete, too small, too large.
    """
    return decode_with_size(source, enough)[0]


def decode_with_size(source: Path | bytes, enough: int = 0) -> tuple[np.ndarray, tuple[int, int]]:
    """As `decode`, with the photo's full (width, height), px, after EXIF orientation."""
    image, size = decode_image(source, enough)
    return np.asarray(image), size


def decode_image(source: Path | bytes, enough: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """As `decode_with_size`, but as a Pillow image: copying its pixels would cost a quarter of decoding them."""
    with _opened(source) as (image, content):
        check_end(image, content)
        return _decode(image, enough)


def stored_size(source: Path | bytes) -> tuple[int, int]:
    """(width, height), px, from the file's header: before EXIF orientation and without decoding pixels.

    Raises:
        DataError: as `decode`, as far as the header shows it.
    """
    with _opened(source) as (image, _):
        return image.size


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[Image.Image, bytes]]:
    """Yields an image of permitted size and its file's content; any error inside becomes a DataError."""
    hush()
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        if not content:
            raise DataError("is empty")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(*image.size)
            yield image, content
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(_known(content) or f"is no picture that can be read ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"has more than {MAX_PIXELS} pixels; shrink it") from None
    except Exception as error:  # hostile bytes make Pillow raise nearly any exception
        raise DataError(f"cannot be decoded ({type(error).__name__}: {error})") from None


def _known(content: bytes) -> str:
    """Names a common kind of file that Pillow cannot read, with the remedy; empty for any other file."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        return "is a HEIC photo, which cannot be read; convert it to JPEG, for example with heif-convert or ImageMagick"
    return lfs_hint(content)


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise DataError(f"is {width}x{height} px; the shorter side must have at least {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise DataError(f"is {width}x{height} px, more than {MAX_PIXELS} pixels; shrink it")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(f"is {width}x{height} px; beyond {MAX_ASPECT:.0f}:1 its middle square shows no face")


def _decode(image: Image.Image, enough: int) -> tuple[Image.Image, tuple[int, int]]:
    width, height = image.size
    if enough:
        scale = enough / min(width, height)
        image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
    settle_transparency(image)
    with muted(image):
        image.load()
    turned = orientation(image)
    image = _to_rgb(image)
    if turned in UPRIGHT:
        image = image.transpose(UPRIGHT[turned])
    return image, (height, width) if turned >= 5 else (width, height)


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 where it has none; UPRIGHT undoes the others."""
    try:
        found = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata; the pixels are sound
        return 1
    return found if found in UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise DataError("has floating-point pixels of unknown range; save it with 8 bits")
    if image.has_transparency_data:
        image = with_alpha(image)
        canvas = Image.new("RGB", image.size, GREY)
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    if image.mode.startswith("I"):
        return Image.fromarray(_tones(image)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def with_alpha(image: Image.Image) -> Image.Image:
    """A picture with transparency as RGBA, eight bits a channel."""
    if image.mode.startswith("I"):
        alpha = (np.asarray(image) != image.info["transparency"]) * np.uint8(255)
        return Image.merge("RGBA", [Image.fromarray(_tones(image))] * 3 + [Image.fromarray(alpha)])
    return image.convert("RGBA")


def settle_transparency(image: Image.Image) -> None:
    """Before loading: Pillow cuts a PNG's 16-bit colours to their high bytes, but not the transparent colour."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and any("16" in str(tile.args) for tile in getattr(image, "tile", ())):
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _tones(image: Image.Image) -> np.ndarray:
    """16-bit grey as 8 bits; Pillow's own conversion would clip it at 255."""
    tones = ((np.arange(65536) + 128) // 257).astype(np.uint8)
    return tones[np.asarray(image).clip(0, 65535)]
