"""Lays out many small pictures on one sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 4  # px
TEXT = 13  # font size, px


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str] = (), side: int = 96) -> bytes:
    """Lays out rows of pictures on white, an optional label at the left of each row.

    Args:
        rows: pictures uint8 (H, W, 3), or (H, W) for masks; rows may differ in length, pictures in size.
        labels: one per row, or none at all.
        side: longer side of a picture on the sheet, px; the shape is kept.

    Returns:
        A PNG file.
    """
    font = ImageFont.load_default(TEXT)
    margin = max((round(font.getlength(label)) + 2 * GAP for label in labels), default=0)
    columns = max(map(len, rows), default=0)
    sheet = Image.new("RGB", (margin + columns * (side + GAP) + GAP, len(rows) * (side + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = GAP + number * (side + GAP)
        if labels:
            pen.text((GAP, top + side // 2), labels[number], fill="black", font=font, anchor="lm")
        for column, picture in enumerate(row):
            image = Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")
            scale = side / max(image.size)
            shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            left = margin + GAP + column * (side + GAP)
            at = (left + (side - shape[0]) // 2, top + (side - shape[1]) // 2)
            sheet.paste(image.resize(shape, Image.Resampling.BICUBIC), at)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
