"""Draws any number of different small JPEG files, as fast as a disk can write them."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

# Quantiles of the shorter sides (px) of the 3432 photos of the public face-mask set.
QUANTILES = (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1)
SIDES = (32, 67, 83, 117, 138, 276, 500, 512, 640)
COPY_EVERY = 50  # every 50th photo is a copy of the one before, compressed again
CHUNK = 500  # files in a folder, drawn by one task


def draw_folder(folder: Path, count: int) -> None:
    """Writes `count` files alternately below folder/masked and folder/unmasked; one count always gives the same."""
    starts = range(0, count, CHUNK)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        list(pool.map(_draw_chunk, [folder] * len(starts), starts, [min(s + CHUNK, count) for s in starts]))


def _draw_chunk(folder: Path, start: int, end: int) -> None:
    cv2.setNumThreads(1)
    folders = [folder / domain / f"{start:07}" for domain in ("masked", "unmasked")]
    for path in folders:
        path.mkdir(parents=True, exist_ok=True)
    for number in range(start, end):
        copied = number % COPY_EVERY == COPY_EVERY - 1
        photo = draw(number - 1 if copied else number)
        quality = 70 if copied else 80 + number % 16
        done, content = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        (folders[number % 2] / f"{number:07}.jpg").write_bytes(content.tobytes())


def draw(seed: int) -> np.ndarray:
    """uint8 (H, W, 3): soft colours, some ellipses, grain; sizes as in the public set."""
    rng = np.random.default_rng(seed)
    shorter = np.interp(rng.random(), QUANTILES, SIDES)
    height, width = (round(shorter * stretch) for stretch in rng.permutation((1, rng.uniform(1, 1.6))))
    photo = cv2.resize(rng.integers(0, 256, (12, 12, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(4):
        centre, axes = rng.integers((width, height)), rng.integers(4, (width // 2, height // 2))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.ellipse(photo, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    grain = cv2.resize(rng.integers(0, 24, (64, 64, 3), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.add(photo, grain)
