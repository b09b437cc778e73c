"""Finds the faces of all photos for `fit: face`, and caches them by the photo's content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from bmask.data.arrays import blocks
from bmask.data.catalog import FACELESS, SOUND, Catalog
from bmask.data.reading.photo import FACE_NUMBERS, take_faces
from bmask.data.reading.workers import Readers
from bmask.data.records import DOMAINS, NO_FACE, Photo
from bmask.errors import DataError
from bmask.faces.cache import Cache
from bmask.faces.network import weights
from bmask.parallel import batched, in_chunks
from bmask.progress import bar

if TYPE_CHECKING:
    from bmask.params.sections import Ingest

BATCH = 256  # photos whose faces are stored at a time; a killed run loses at most these


def find_all(catalog: Catalog, readers: Readers, settings: Ingest) -> None:
    """Fills in score and landmarks of every sound photo's most prominent face, or NO_FACE as its reason.

    With `settings.faces` all, each other face gets a row of its own. It shares its photo's file and hash, and so its
    group and split.

    Raises DataError if the detector's weights are not installed, or if no face is found in more than the share
    `settings.max_faceless` of a domain's photos, or in all: without its hard photos, a dataset flatters the models.
    """
    weights()
    with Cache() as cache:
        new = []
        for block in blocks(catalog.column("number", np.int64, SOUND), BATCH):
            known = []
            for photo in catalog.at(block):
                face = cache.get(photo.sha256)
                if face is None:
                    new.append(photo.number)
                else:
                    known.append(_with_faces(photo, face))
            catalog.save(known, "score", "landmarks", "reason")
            if settings.faces == "all":
                catalog.add(each for photo in known for each in _further(photo))
        with closing(in_chunks(readers.find, catalog.at(np.array(new, np.int64)))) as found:
            for batch in batched(bar(found, len(new), "ingest: looking for faces"), BATCH):
                catalog.save(batch, "width", "height", "score", "landmarks", "reason")
                cache.put([(p.sha256, _numbers(p)) for p in batch if p.reason in ("", NO_FACE)])
                if settings.faces == "all":
                    catalog.add(each for photo in batch for each in _further(photo))
    for domain in DOMAINS:
        own = f"domain = '{domain}' AND face = 1"
        lost = catalog.count(f"{own} AND {FACELESS}")
        total = lost + catalog.count(f"{own} AND {SOUND}")
        if lost and (lost > settings.max_faceless * total or lost == total):
            names = [photo.entry.name for photo in islice(catalog.photos(f"{own} AND {FACELESS}"), 4)]
            raise DataError(
                f"no face was found in {lost} of {total} {domain} photos, more than the share ingest.max_faceless"
                f" {settings.max_faceless:g} ({', '.join(names)}{', ...' * (lost > len(names))}); if the photos are"
                " already cropped to faces, set ingest.fit to aligned; if not, remove them or raise ingest.max_faceless"
            )


def _numbers(photo: Photo) -> tuple[float, ...]:
    return (photo.score, *photo.landmarks, *photo.further) if photo.landmarks else ()


def _further(photo: Photo) -> Iterator[Photo]:
    """A row for each face but the first: `name#2` is the second most prominent face of the photo `name`."""
    for number, place in enumerate(range(0, len(photo.further), FACE_NUMBERS), start=2):
        entry = replace(photo.entry, name=f"{photo.entry.name}#{number}")
        face = replace(photo, entry=entry, number=-1, face=number, further=())
        take_faces(face, photo.further[place : place + FACE_NUMBERS])
        yield face


def _with_faces(photo: Photo, numbers: tuple[float, ...]) -> Photo:
    if numbers:
        take_faces(photo, numbers)
    else:
        photo.reason = NO_FACE
    return photo
