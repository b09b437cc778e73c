"""Files of full length whose end was never written."""

from __future__ import annotations

import io

from PIL import Image

from bmask.errors import DataError


def check_end(image: Image.Image, content: bytes) -> None:
    """Copies and downloads that broke off can leave a file of full length with zeros from somewhere on.

    Pillow shows such a tail as grey or black. Formats without a mark at their end and without check sums (BMP, TIFF)
    cannot be told from dark photos.

    Args:
        image: opened and not yet loaded.
        content: its file.

    Raises:
        DataError: with the reason alone. What Pillow raises of a damaged PNG comes through.
    """
    whole = True
    if content.startswith(b"\xff\xd8"):
        whole = content.rfind(b"\xff\xd9", _first_scan(content)) >= 0  # from the end, where it nearly always is
    elif image.format == "PNG":
        with Image.open(io.BytesIO(content), formats=("PNG",)) as other:
            other.verify()  # the check sums of all chunks, which reading the pixels skips
    elif image.format in ("WEBP", "AVIF"):
        whole = not content.endswith(bytes(max(64, len(content) // 16)))
    if not whole:
        raise DataError("was not written to its end; copy it again")


def _first_scan(content: bytes) -> int:
    """Where a JPEG's pixels begin; thumbnails before have ends of their own."""
    place = 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xda":
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return place
