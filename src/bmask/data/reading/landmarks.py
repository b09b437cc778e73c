"""The face of every photo, for sets that are framed by faces: found once, and remembered by the photo's content."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import numpy as np

from bmask.data.arrays import blocks
from bmask.data.catalog import FACELESS, SOUND, Catalog
from bmask.data.reading.workers import Readers
from bmask.data.records import DOMAINS, NO_FACE, Photo
from bmask.errors import DataError
from bmask.faces.cache import Cache
from bmask.faces.network import weights
from bmask.parallel import batched, in_chunks
from bmask.progress import bar

SOME = 256  # photos whose faces are stored at a time, so that a kill costs few of them


def find_all(catalog: Catalog, readers: Readers, most_lost: float) -> None:
    """Fills in score and landmarks of every sound photo's most prominent face, or NO_FACE as its reason.

    Raises DataError when more than the share `most_lost` of a domain's photos, or all of them, have no face, since a
    set without its hard photos flatters what learns from it; and where the detector's weights are not installed.
    """
    weights()
    with Cache() as cache:
        new = []
        for block in blocks(catalog.column("number", np.int64, SOUND), SOME):
            known = []
            for photo in catalog.at(block):
                face = cache.get(photo.sha256)
                if face is None:
                    new.append(photo.number)
                else:
                    known.append(_with(photo, face))
            catalog.save(known, "score", "landmarks", "reason")
        with closing(in_chunks(readers.find, catalog.at(np.array(new, np.int64)))) as found:
            for some in batched(bar(found, len(new), "ingest: looking for faces"), SOME):
                catalog.save(some, "width", "height", "score", "landmarks", "reason")
                cache.put([(p.sha256, _numbers(p)) for p in some if p.reason in ("", NO_FACE)])
    for domain in DOMAINS:
        own = f"domain = '{domain}'"
        lost = catalog.count(f"{own} AND {FACELESS}")
        total = lost + catalog.count(f"{own} AND {SOUND}")
        if lost and (lost > most_lost * total or lost == total):
            few = [photo.entry.name for photo in islice(catalog.photos(f"{own} AND {FACELESS}"), 4)]
            raise DataError(
                f"no face was found in {lost} of {total} {domain} photos, more than the share ingest.max_faceless"
                f" {most_lost:g} ({', '.join(few)}{', ...' * (lost > len(few))}); if the photos are faces already, set"
                " ingest.fit to aligned; else remove those, or raise ingest.max_faceless"
            )


def _numbers(photo: Photo) -> tuple[float, ...]:
    return (photo.score, *photo.landmarks) if photo.landmarks else ()


def _with(photo: Photo, numbers: tuple[float, ...]) -> Photo:
    if numbers:
        photo.score, *marks = numbers
        photo.landmarks = tuple(marks)
    else:
        photo.reason = NO_FACE
    return photo
