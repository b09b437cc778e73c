"""A contact sheet shows every picture, whatever its size, and its label."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from bmask.data.sheets import contact_sheet


def colours(sheet: bytes) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(Image.open(io.BytesIO(sheet))).reshape(-1, 3)))


def test_every_picture_is_on_the_sheet_in_its_own_shape():
    red, green = np.full((10, 20, 3), (255, 0, 0), np.uint8), np.full((40, 40, 3), (0, 255, 0), np.uint8)
    sheet = contact_sheet([[red, green], [np.full((8, 8), 77, np.uint8)]], side=32)
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    assert {(255, 0, 0), (0, 255, 0), (77, 77, 77)} <= colours(sheet)
    rows, columns = np.nonzero((pixels == (255, 0, 0)).all(-1))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (32, 16)


def test_labels_are_written_beside_their_rows():
    picture = [[np.full((8, 8, 3), 255, np.uint8)]]
    assert (0, 0, 0) in colours(contact_sheet(picture, ["masked train"]))
    assert colours(contact_sheet(picture)) == {(255, 255, 255)}


def test_a_sheet_of_nothing_is_a_sheet():
    assert Image.open(io.BytesIO(contact_sheet([]))).size[0] > 0
