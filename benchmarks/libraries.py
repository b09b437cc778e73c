"""Four parts of bmask against libraries that do the same, in turn in one process of one thread: docs/libraries.md.

    PYTHONPATH=DIR python benchmarks/libraries.py     # after pip install --target DIR scikit-image faiss-cpu imagehash

A flipped bit is silent if a checkpoint is read without an error and is not what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module, metadata
from io import BytesIO

import cv2
import numpy as np
import torch
from pairing import pair, table
from PIL import Image

from bmask.data.duplicates.hamming import near_pairs
from bmask.data.duplicates.signatures import MIRROR, perceptual_hash
from bmask.gan.systems.inpainting import Inpainting, InpaintingOptions
from bmask.quality.similarity import ssim_map
from bmask.training import checkpoint

RUNS, HASHES, NEAR, FLIPS = 5, 100_000, 4, 200  # NEAR: bits in which the hashes of near-duplicates may differ
COLUMNS = ("part", "library", "theirs, s", "ours, s", "theirs / ours", "lowest", "highest", "note")
Found = Iterator[tuple[str, Callable[[], object], Callable[[], object], str]]  # what, theirs, ours, note


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows: list[tuple[object, ...]] = []
    for name, part in {"scikit-image": ssim, "faiss-cpu": pairs, "imagehash": hashes, "torch": checkpoints}.items():
        if not (found := [*metadata.distributions(name=name)]):
            rows.append((part.__name__, name, *[""] * 5, f"missing: `pip install --target DIR {name}`, PYTHONPATH=DIR"))
            continue
        for what, theirs, ours, note in part():
            rows.append((what, f"{name} {found[0].version}", *pair(theirs, ours, RUNS, "cpu").summary().values(), note))
    print(table([dict(zip(COLUMNS, row, strict=True)) for row in rows]))


def photos(count: int, side: int) -> list[np.ndarray]:
    draws = np.random.default_rng(3)
    blots = (cv2.resize(draws.integers(0, 256, (12, 12, 3), np.uint8), (side, side)) for _ in range(count))
    return [np.clip(each + draws.normal(0, 8, each.shape), 0, 255).astype(np.uint8) for each in blots]


def ssim() -> Found:
    compare, x = import_module("skimage.metrics").structural_similarity, photos(30, 128)
    theirs = partial(compare, gaussian_weights=True, use_sample_covariance=False, channel_axis=2, full=True)
    apart = max(np.abs(theirs(*both)[1].mean(2) - ssim_map(*both)).max() for both in zip(x, x[::-1], strict=True))
    note = f"maps differ by at most {apart:.1g}"
    yield "SSIM of 30 pairs", lambda: [*map(theirs, x, x[::-1])], lambda: [*map(ssim_map, x, x[::-1])], note


def pairs() -> Found:
    def theirs(kind: str, given: np.ndarray) -> np.ndarray:
        index, rows = faiss.index_binary_factory(64, kind), given.view(np.uint8).reshape(-1, 8)
        index.add(rows)
        ends, _, others = index.range_search(rows, NEAR + 1)  # nearer than this
        asked = np.repeat(np.arange(len(rows)), np.diff(ends.astype(int)))
        return np.unique(np.stack([asked, others])[:, asked < others], axis=1)

    faiss, draws = import_module("faiss"), np.random.default_rng(1)
    faiss.omp_set_num_threads(1)
    known = draws.integers(0, 2**64, HASHES, np.uint64)
    flips = np.uint64(1) << draws.integers(0, 64, (NEAR + 1, HASHES // 50), np.uint64)
    known = np.unique(np.append(known, known[::50] ^ np.bitwise_xor.accumulate(flips)))  # copies, ever farther off
    for kind, some in (("BHash5x12", known), ("BFlat", known[: HASHES // 5])):  # IndexBinaryMultiHash, IndexBinaryFlat
        note = f"{(ours := near_pairs(some, NEAR)).shape[1]} pairs, equal: {np.array_equal(theirs(kind, some), ours)}"
        yield f"pairs of {len(some)} hashes, {kind}", partial(theirs, kind, some), partial(near_pairs, some, NEAR), note


def hashes() -> Found:
    def theirs(photo: np.ndarray) -> np.uint64:
        return np.packbits(phash(Image.fromarray(photo)).hash).view(">u8").astype(np.uint64)[0]

    def mirrored(make: Callable[[np.ndarray], np.uint64], constant: np.uint64) -> int:
        return sum(np.bitwise_count(make(one) ^ make(one[:, ::-1].copy()) ^ constant) <= NEAR for one in given)

    phash, given = import_module("imagehash").phash, photos(300, 256)  # its block begins at frequency 0: ~MIRROR
    note = f"mirrored and found: ours {mirrored(perceptual_hash, MIRROR)}, theirs {mirrored(theirs, ~MIRROR)}"
    yield "hashes of 300 photos", lambda: [*map(theirs, given)], lambda: [*map(perceptual_hash, given)], note


def checkpoints() -> Found:
    def silent(write: Callable[[dict, BytesIO], None], read: Callable[[BytesIO], dict]) -> Iterator[bool]:
        write(few, file := BytesIO())
        whole = file.getvalue()
        for at, bit in np.random.default_rng(7).integers(0, (len(whole), 8), (FLIPS, 2)):
            with suppress(Exception):  # a flip that is noticed
                found = read(BytesIO(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]))
                yield list(found) != list(few) or not all(torch.equal(found[name], few[name]) for name in few)

    state = {n: Inpainting.build_generator(InpaintingOptions()).state_dict() for n in "abcd"}  # with average, moments
    few = dict([*state["a"].items()][:30])
    checkpoint.dump(state, ours := BytesIO())
    torch.save(state, theirs := BytesIO())
    yield "a checkpoint, written", lambda: torch.save(state, BytesIO()), lambda: checkpoint.dump(state, BytesIO()), ""
    flips = [sum(silent(checkpoint.dump, checkpoint.read)), sum(silent(torch.save, torch.load))]  # weights_only
    note = f"silent flips of {FLIPS}: ours {flips[0]}, theirs {flips[1]}"
    yield "the same, read", lambda: torch.load(BytesIO(theirs.getvalue())), lambda: checkpoint.read(ours), note


if __name__ == "__main__":
    main()
