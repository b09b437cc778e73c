"""Sets aside further faces of a photo whose state contradicts their folder."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from bmask.data.arrays import ArrayFile
from bmask.data.catalog import SOUND, Catalog
from bmask.data.records import OTHER_STATE, Photo
from bmask.faces.template import without_margin
from bmask.faces.watch import FILE, Watch
from bmask.parallel import batched
from bmask.progress import bar

JUDGE = "photos-128"  # the network in bmask_weights whose judge is used
THRESHOLD = 0.5  # the judge's score above which a face wears a mask
BATCH = 256  # faces stored at a time


def set_contradicting_aside(catalog: Catalog, squares: ArrayFile) -> None:
    """Gives further faces the reason OTHER_STATE if they wear a mask in the unmasked folder, or none in the masked.

    The judge that ships with bmask decides. A photo's most prominent face is never set aside: its folder describes it,
    and the judge would drop the masks that are hard to see.

    Args:
        squares: holds the faces' squares at their rows.
    """
    where = f"{SOUND} AND face > 1"
    judge = Watch(Path(str(files("bmask_weights"))) / JUDGE / FILE)
    total = catalog.count(where)

    def contradicts(photo: Photo) -> bool:
        (face,) = without_margin(squares.read(photo.row)[None])
        return (judge(face) > THRESHOLD) != (photo.entry.domain == "masked")

    for batch in batched(bar(catalog.photos(where), total, "ingest: looking at further faces"), BATCH):
        catalog.save([replace(photo, reason=OTHER_STATE) for photo in batch if contradicts(photo)], "reason")
