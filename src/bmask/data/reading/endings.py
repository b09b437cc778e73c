"""Refuses files of full length whose end was never written."""

from __future__ import annotations

import io

from PIL import Image

from bmask.errors import DataError


def check_end(image: Image.Image, content: bytes) -> None:
    """Refuses a file whose end is missing: interrupted copies and downloads can fill it up with zeros.

    Pillow shows the missing part as grey or black. In formats without end mark and checksums (BMP, TIFF), it cannot be
    distinguished from a dark photo.

    Args:
        image: opened but not yet loaded.
        content: the bytes of its file.

    Raises:
        DataError: with the reason alone. Pillow's own errors about a damaged PNG pass through.
    """
    whole = True
    if content.startswith(b"\xff\xd8"):
        whole = content.rfind(b"\xff\xd9", _first_scan(content)) >= 0  # it is nearly always at the end
    elif image.format == "PNG":
        with Image.open(io.BytesIO(content), formats=("PNG",)) as other:
            other.verify()  # the checksums of all chunks, which decoding skips
    elif image.format in ("WEBP", "AVIF"):
        whole = not content.endswith(bytes(max(64, len(content) // 16)))
    if not whole:
        raise DataError("is incomplete; copy it again")


def _first_scan(content: bytes) -> int:
    """Offset of a JPEG's pixels; thumbnails before it have end marks of their own."""
    place = 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xda":
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return place
