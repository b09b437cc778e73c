"""Truth of the masked photos, for evaluation only: the picture without the mask, and where the mask is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bmask.data.arrays import ArrayFile
from bmask.data.catalog import USED, Catalog
from bmask.data.reading.decoding import decode_image
from bmask.data.reading.matching import region_square, square
from bmask.data.records import Photo
from bmask.errors import DataError
from bmask.parallel import parallel
from bmask.progress import bar

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

SPLITS = ("validation", "test")


def write_truth(catalog: Catalog, folder: Path, settings: Ingest) -> bool:
    """Writes `truth_{split}_{twin,region}.npy`, a row for each masked photo. Returns whether there is truth.

    Raises:
        DataError: a picture is missing or damaged, or its size is not that of its photo.
    """
    if not catalog.count(f"{USED} AND length(twin)"):
        return False
    for split in SPLITS:
        wanted = f"domain = 'masked' AND split = '{split}'"
        count = catalog.count(wanted)
        shape = (count, settings.load_size, settings.load_size)
        with (
            ArrayFile(folder / f"truth_{split}_twin.npy", (*shape, 3)) as twins,
            ArrayFile(folder / f"truth_{split}_region.npy", shape) as regions,
        ):

            def write(photo: Photo, twins: ArrayFile = twins, regions: ArrayFile = regions) -> None:
                twins.write(photo.index, square(_decode(photo.entry.twin, photo), photo, settings))
                region = np.asarray(_decode(photo.entry.region, photo))
                regions.write(photo.index, region_square(region, photo, settings))

            for _ in bar(parallel(write, catalog.photos(wanted)), count, f"ingest: reading truth of {split}"):
                pass
    return True


def _decode(path: str, photo: Photo) -> Image.Image:
    try:
        pixels, size = decode_image(Path(path))
    except DataError as error:
        raise DataError(f"{path}: the truth of {photo.entry.name} {error}; repair it or remove all truth") from None
    if size != (photo.width, photo.height):
        sizes = f"{size[0]}x{size[1]} px, but the photo is {photo.width}x{photo.height}"
        raise DataError(f"{path}: the truth of {photo.entry.name} is {sizes}; save both at the same size")
    return pixels
