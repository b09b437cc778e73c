"""Measures how well near-duplicates stay in one split, with planted copies and with a second detector.

    python benchmarks/leaks.py [--photos FOLDER] [--sample 300] [--drawn 1200]

FOLDER holds a folder of photos for each domain. Prints Markdown tables; `hash` is grouping by the hash alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from keypoints import find_pairs
from planted import changes

from bmask.data.duplicates.groups import find_groups
from bmask.data.duplicates.signatures import signature
from bmask.data.reading.decoding import decode
from bmask.data.split.assignment import settle, split_of
from bmask.errors import DataError
from bmask.params.sections import Ingest
from bmask.synthetic import KINDS, draw_face

MAX_DISTANCE = Ingest().near_duplicates
MAX_SIDE = 256  # px; photos are kept in memory with a shorter side of at most this


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--photos", type=Path, help="a folder with a folder of photos for each domain")
    options.add_argument("--sample", type=int, default=300, help="number of photos of each set that get a planted copy")
    options.add_argument("--drawn", type=int, default=1200, help="number of faces to draw")
    given = options.parse_args()
    faces = drawn(given.drawn)
    planted("drawn", faces, given.sample)
    unrelated(faces)
    if given.photos:
        photos = real(given.photos)
        planted("real", photos, given.sample)
        existing(photos)


def drawn(count: int) -> list[np.ndarray]:
    """Faces of different people; every second one is masked."""
    kinds = [KINDS[i // 2 % len(KINDS)] if i % 2 else None for i in range(count)]
    faces = [draw_face((7, i % 2, i), 96, kind, None) for i, kind in enumerate(kinds)]
    return [face.masked if kind else face.unmasked for face, kind in zip(faces, kinds, strict=True)]


def real(folder: Path) -> list[np.ndarray]:
    photos = []
    for path in sorted(path for path in folder.glob("*/*") if path.is_file()):
        try:
            photo = decode(path, MAX_SIDE)
        except DataError:
            continue
        scale = MAX_SIDE / min(photo.shape[:2])
        if scale < 1:
            photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photos.append(photo)
    return photos


def grouped(prints: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Group and split of each photo, by the hash alone and by hash and alignment."""
    alone = prints.copy()
    alone["thumbnail"] = 0  # aligns with nothing
    settings = Ingest()
    own = [split_of(value, settings.test, settings.validation) for value in prints["hash"]]
    groups = {"hash": _groups(alone), "all": _groups(prints)}
    return {name: (labels, np.array(settle(labels, own))) for name, labels in groups.items()}


def _groups(prints: np.ndarray) -> np.ndarray:
    return find_groups(prints["hash"], prints["aspect"], prints["thumbnail"].__getitem__, MAX_DISTANCE)


def prints_of(photos: list[np.ndarray]) -> np.ndarray:
    return np.array([signature(np.ascontiguousarray(photo)) for photo in photos])


def planted(name: str, photos: list[np.ndarray], sample: int) -> None:
    rng = np.random.default_rng(0)
    chosen = [photos[i] for i in rng.choice(len(photos), min(sample, len(photos)), replace=False)]
    originals, count = prints_of(chosen), len(chosen)
    print(f"\n{name}: {count} photos and a copy of each: share of pairs in one group, number of pairs in two splits\n")
    print("| change | joined, hash | joined | apart, hash | apart |\n|---|---|---|---|---|")
    for kind, change in changes().items():
        found = grouped(np.concatenate([originals, prints_of([change(photo, rng) for photo in chosen])]))
        share = {how: np.mean(labels[:count] == labels[count:]) for how, (labels, _) in found.items()}
        pairs = [(i, i + count) for i in range(count)]
        apart = {how: in_two_splits(splits, pairs) for how, (_, splits) in found.items()}
        print(f"| {kind} | {share['hash']:.3f} | {share['all']:.3f} | {apart['hash']} | {apart['all']} |", flush=True)


def unrelated(photos: list[np.ndarray]) -> None:
    """Counts wrong pairs: all photos show different people, so every joined pair is wrong."""
    for how, (labels, splits) in grouped(prints_of(photos)).items():
        pairs, largest, aside = len(joined(labels)), np.bincount(labels).max(), (splits == "").sum()
        counts = f"{pairs} pairs joined, largest group {largest}, set aside {aside}"
        print(f"\n{how}: {len(photos)} unrelated photos, {counts}")


def existing(photos: list[np.ndarray]) -> None:
    """Compares the groups of real photos with the pairs that the second detector finds."""
    start = time.perf_counter()
    found = grouped(prints_of(photos))
    seconds = time.perf_counter() - start
    second = find_pairs(photos)
    print(f"\n{len(photos)} photos without planted copies; the second detector finds {len(second)} pairs")
    print(f"(signatures and both groupings: {seconds:.0f} s)\n")
    print("| grouping | groups | largest | set aside | pairs | also second | second alone | second, in two splits |")
    print("|---|---|---|---|---|---|---|---|")
    for how, (labels, splits) in found.items():
        sizes, pairs = np.bincount(labels), joined(labels)
        aside = (splits == "").sum()
        row = [how, len(sizes), sizes.max(), aside, len(pairs), len(pairs & second), len(second - pairs)]
        print("| " + " | ".join(map(str, [*row, in_two_splits(splits, second)])) + " |", flush=True)


def joined(labels: np.ndarray) -> set[tuple[int, int]]:
    members = [np.flatnonzero(labels == group) for group in np.flatnonzero(np.bincount(labels) > 1)]
    return {pair for group in members for pair in combinations(group.tolist(), 2)}


def in_two_splits(splits: np.ndarray, pairs: Iterable[tuple[int, int]]) -> int:
    return sum(splits[i] != splits[j] and splits[i] != "" and splits[j] != "" for i, j in pairs)


if __name__ == "__main__":
    main()
