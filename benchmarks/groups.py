"""Counts the faces that serving finds in photos of many people, and times it, on mosaics of a folder's photos.

    python benchmarks/groups.py path/to/photos

A mosaic of 6 photos a side has 1,200 px and 36 people. Some photos show no face that can be found, some several.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np
from pairing import table

from bmask.data.reading.decoding import decode
from bmask.faces.finding import find_faces

TILE, MOSAICS = 200, 4  # px a side; mosaics of each size


def main(folder: str) -> None:
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    rng, rows = np.random.default_rng(3), []
    for side in (3, 6, 10):
        found, seconds = {False: 0, True: 0}, {False: 0.0, True: 0.0}
        for _ in range(MOSAICS):
            mosaic = np.full((side * TILE, side * TILE, 3), 110, np.uint8)
            for place in range(side**2):
                down, across = (TILE * part for part in divmod(place, side))
                photo = decode(paths[rng.integers(len(paths))])
                scale = TILE / max(photo.shape[:2])
                height, width = (max(1, int(length * scale)) for length in photo.shape[:2])
                small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
                mosaic[down : down + height, across : across + width] = small
            for parts in (False, True):
                began = time.perf_counter()
                found[parts] += len(find_faces(mosaic, small=parts))
                seconds[parts] += time.perf_counter() - began
        row: dict[str, object] = {"people a photo": side**2, "photos": MOSAICS, "people": MOSAICS * side**2}
        row |= {"faces, whole photo": found[False], "faces, part by part": found[True]}
        row |= {"s a photo, whole": f"{seconds[False] / MOSAICS:.2f}", "s, parts": f"{seconds[True] / MOSAICS:.2f}"}
        rows.append(row)
    print(table(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
