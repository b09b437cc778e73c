"""Unmasks photos of any size, at their own size; serving, the command line and register use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmask.data.reading.framing import frame as pad
from bmask.errors import DataError
from bmask.faces.template import TEMPLATE
from bmask.faces.watch import watch_beside
from bmask.files import read_json
from bmask.parallel import batched
from bmask.serving.compositing import composite, composite_face, frame, opacity, settled, shows_mask
from bmask.serving.engines import SETTINGS, Engine, Name, open_engine

THRESHOLD = 0.1  # the default attention threshold, as in params.evaluate
DETECTOR = "centerface.onnx"  # the face detector's weights, which lie beside a generator of faces in a packed model
GPU_BATCH = 16
EDGE = 2.0  # px of a generator's square along the photo's edge that get the colours from further inside
COLOURLESS = 2  # grey levels by which a black and white photo's channels may differ; what is painted on it becomes grey


class DoneFace(NamedTuple):
    """A face of a photo.

    box: left, top, width and height, px; of the part that lies in the photo.
    masked: whether the generator saw a mask, and so changed the face: its attention is above one half on at least
        MIN_MASK_SHARE of the face's square. None without attention: then every face is changed.
    mask_shows: the judge's certainty that a mask shows in the resulting face, 0 to 1; None without a judge.
    """

    box: tuple[int, int, int, int]
    masked: bool | None
    mask_shows: float | None = None


class Result(NamedTuple):
    """The result of one photo.

    image: uint8 (H, W, 3), the size of the photo.
    attention: uint8 (H, W), 0 exactly where the pixel is the photo's own, 255 where it is wholly the generator's. A
        generator without attention replaces the whole middle square, or an oval around each face.
    faces: the most prominent first; empty if faces are not looked for.
    """

    image: np.ndarray
    attention: np.ndarray
    faces: tuple[DoneFace, ...] = ()


class Unmasker:
    """A generator with the compositing around it. It holds no state between calls, so threads may share one.

    Args:
        generator: a generator file, an exported one, or an engine that runs one. `image_size` in its header is the side
            of the squares it was trained on, `fit` how they were framed (see params.ingest).
        threshold: in [0, 1); where the attention is not above it, the photo's pixel is kept. None means the threshold
            that a packed model states beside its generator, else THRESHOLD.
        device, precision, engine: arguments of engines.open_engine, for a file.
        watch: let the judge beside the file, if there is one, see every resulting face (DoneFace.mask_shows).

    Raises:
        DataError: the file is missing or not a bmask generator.
    """

    def __init__(
        self,
        generator: Path | str | Engine,
        threshold: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        engine: Name = "auto",
        watch: bool = False,
    ):
        self._detector = None  # None: the installed one
        self._watch: Callable[[np.ndarray], float] | None = None
        if isinstance(generator, Path | str):
            file = Path(generator)
            threshold = _stated_threshold(file) if threshold is None else threshold
            beside = file.with_name(DETECTOR)
            self._detector = beside if beside.is_file() else None
            generator = open_engine(file, engine, device, precision)
            self._watch = watch_beside(file) if watch and generator.about.get("fit") == "face" else None
        self.engine, self.about, self.device = generator, generator.about, generator.device
        self.threshold = THRESHOLD if threshold is None else threshold
        self.finds_faces = self.about.get("fit") == "face"
        if self.finds_faces and "template" not in self.about:
            raise DataError("the generator is too old: it does not say how faces are to be framed; train it again")
        self.template = np.array(self.about.get("template", TEMPLATE))  # where the generator expects a face's landmarks
        self.size = int(self.about["image_size"])  # side of the squares the generator takes, px
        self.batch = 1 if self.device == "cpu" else GPU_BATCH  # squares in one call of the generator

    def unmask(self, photos: Sequence[np.ndarray], framed: bool = False) -> list[Result]:
        """Unmasks photos, uint8 (H, W, 3) RGB, each of its own size. The order is kept.

        A photo's result does not depend on the other photos. A generator of faces changes every masked face that the
        detector is sure of, and nothing else.

        Args:
            framed: the photos are squares, framed as ingest frames them today.
        """
        results: list[Result] = []
        if self.finds_faces and not (framed and np.array_equal(self.template, TEMPLATE)):
            for start in range(0, len(photos), self.batch):
                results += self._unmask_faces(photos[start : start + self.batch], framed)
            return results
        for start in range(0, len(photos), self.batch):
            batch = [self._widen(photo) for photo in photos[start : start + self.batch]]
            low = np.stack([frame(photo, self.size) for photo in batch])
            images, attentions = self._translate(low)
            for index, photo in enumerate(batch):
                attention = None if attentions is None else attentions[index]
                if self.finds_faces and attention is not None:
                    attention = settled(attention)
                weight = opacity(photo.shape, attention, self.threshold)
                image = composite(photo, low[index], images[index], attention, self.threshold)
                height, width = photos[start + index].shape[:2]
                top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
                place = slice(top, top + height), slice(left, left + width)
                # Rounded up: a value of 0 promises an untouched pixel.
                results.append(Result(image[place], np.ceil(weight[place] * 255).astype(np.uint8)))
        return results

    def _unmask_faces(self, photos: Sequence[np.ndarray], framed: bool) -> list[Result]:
        """Unmasks every face of each photo; of a framed square, the one face whose place is known."""
        from bmask.faces.alignment import align, bounds, extend, lay_back
        from bmask.faces.alignment import to_square as similarity
        from bmask.faces.finding import find_faces

        to_square = partial(similarity, side=self.size, centre=1, template=self.template)
        images = [photo.copy() for photo in photos]
        weights = [np.zeros(photo.shape[:2], np.uint8) for photo in photos]
        done: list[list[DoneFace]] = [[] for _ in photos]
        found: list[tuple[int, np.ndarray, np.ndarray]] = []  # photo, landmarks, box
        for index, photo in enumerate(photos):
            height, width = photo.shape[:2]
            if framed:
                found.append((index, TEMPLATE * (width, height), np.array([0, 0, width, height])))
            else:  # the most prominent last, so that it covers the others
                faces = find_faces(photo, self._detector, small=True)
                found += [(index, face.landmarks, face.box) for face in reversed(faces)]
        for batch in batched(found, self.batch):
            transforms = [to_square(landmarks) for _, landmarks, _ in batch]
            low = np.stack([align(photos[i], t, self.size) for (i, *_), t in zip(batch, transforms, strict=True)])
            made, attentions = self._translate(low)
            for row, ((index, landmarks, box), transform) in enumerate(zip(batch, transforms, strict=True)):
                height, width = photos[index].shape[:2]
                attention = None if attentions is None else attentions[row]
                masked = None if attention is None else shows_mask(attention)
                shows = None
                if self._watch:
                    final = low[row]
                    if masked is not False:
                        final = composite(final, final, made[row], attention, self.threshold)
                    shows = self._watch(final)
                done[index].insert(0, DoneFace(_inside(box, height, width), masked, shows))
                if masked is False:
                    continue
                top, bottom, left, right = bounds(transform, self.size, height, width)
                here = to_square(landmarks - [left, top])
                back = partial(lay_back, transform=here, height=bottom - top, width=right - left)
                part = slice(top, bottom), slice(left, right)
                inside = partial(extend, transform=transform, height=height, width=width, margin=EDGE)
                images[index][part], weight = composite_face(
                    images[index][part],
                    inside(low[row]),
                    inside(made[row]),
                    None if attention is None else inside(attention),
                    self.threshold,
                    back,
                )
                weights[index][part] = np.maximum(weights[index][part], np.ceil(weight * 255).astype(np.uint8))
        return [Result(*each) for each in zip(images, weights, map(tuple, done), strict=True)]

    def _widen(self, photo: np.ndarray) -> np.ndarray:
        """Pads the photo if the generator was trained on padded photos."""
        return pad(photo, "pad") if self.about.get("fit") == "pad" else photo

    def _translate(self, low: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (N, h, w, 3) in [-1, 1] and attention (N, h, w) of up to N = batch squares, uint8 (n, h, w, 3).

        Every call gets `batch` squares: the batch size changes the order of sums in convolutions, so a photo's last
        bits would depend on the other photos. On a CPU, one square at a time costs little; a GPU needs many.
        """
        filled = np.zeros((self.batch, *low.shape[1:]), np.uint8)
        filled[: len(low)] = low
        images, attention = self.engine(filled)
        for index, square in enumerate(low):
            if np.ptp(square, axis=2).max() <= COLOURLESS:
                images[index] = images[index].mean(axis=2, keepdims=True)
        return images, attention


def _inside(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """The intersection of a box (left, top, width, height) and the photo, in whole px."""
    left, top = np.clip(box[:2].round(), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip((box[:2] + box[2:]).round(), 0, (width, height)).astype(int).tolist()
    return left, top, right - left, bottom - top


def _stated_threshold(path: Path) -> float | None:
    settings = path.with_name(SETTINGS)
    return read_json(settings)["threshold"] if settings.is_file() else None
