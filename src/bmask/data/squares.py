"""The arrays of a split: the photos' squares, and truth where there is some."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from bmask.data.manifest import Photo
from bmask.data.matching import region_square, square
from bmask.data.parallel import parallel
from bmask.data.photos import decode_with_size
from bmask.errors import DataError
from bmask.progress import bar
from bmask.sections import Ingest


def write_arrays(used: list[Photo], folder: Path, settings: Ingest, truth: bool) -> None:
    side = settings.load_size
    shapes: Counter[str] = Counter(f"{photo.entry.domain}_{photo.part}" for photo in used)
    arrays = {name: _create(folder / f"{name}.npy", (count, side, side, 3)) for name, count in shapes.items()}
    for part in ("validation", "test") if truth else ():
        count = shapes[f"masked_{part}"]
        arrays[f"truth_{part}_twin"] = _create(folder / f"truth_{part}_twin.npy", (count, side, side, 3))
        arrays[f"truth_{part}_region"] = _create(folder / f"truth_{part}_region.npy", (count, side, side))

    def write(photo: Photo) -> None:
        entry = photo.entry
        arrays[f"{entry.domain}_{photo.part}"][photo.index] = square(entry.path, photo.side, settings)
        if f"truth_{photo.part}_twin" in arrays and entry.domain == "masked":
            _check_truth(photo)
            arrays[f"truth_{photo.part}_twin"][photo.index] = square(entry.twin, photo.side, settings)
            arrays[f"truth_{photo.part}_region"][photo.index] = region_square(entry.region, settings)

    for _ in bar(parallel(write, used), len(used), "ingest: writing squares"):
        pass
    for array in arrays.values():
        array.flush()


def _check_truth(photo: Photo) -> None:
    for path in (photo.entry.twin, photo.entry.region):
        try:
            size = decode_with_size(path)[1]
        except DataError as error:
            raise DataError(f"{path}: truth of {photo.entry.name} {error}; mend it or remove all truth") from None
        if size != (photo.width, photo.height):
            sizes = f"{size[0]}x{size[1]} px, the photo {photo.width}x{photo.height}"
            raise DataError(f"{path}: truth of {photo.entry.name} is {sizes}; save both at one size")


def _create(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)
