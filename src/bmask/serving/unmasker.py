"""Photos of any size in, unmasked photos of the same size out: what serving, the command line and register share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bmask.data.reading.framing import frame as pad
from bmask.faces.template import CLOSE
from bmask.files import read_json
from bmask.parallel import batched
from bmask.serving.compositing import composite, composite_face, frame, opacity

if TYPE_CHECKING:
    from torch import nn

THRESHOLD = 0.1  # the attention threshold where none is stated, as in params.evaluate
DETECTOR = "centerface.onnx"  # lies beside a generator of faces in a packed model: the face detector's weights
SETTINGS = "serving.json"  # lies beside the generator in a packed model and states the threshold
GPU_BATCH = 16
LEAST = 0.04  # share of a face's square: on 60 bare faces the attention covered at most 0.02, on 63 of 64 masked ones over 0.2


class DoneFace(NamedTuple):
    """A face of a photo.

    box: left, top, width and height, px of the photo.
    masked: whether the generator saw a mask, and so changed it; None where it has no attention, and changes every face.
    """

    box: tuple[int, int, int, int]
    masked: bool | None


class Result(NamedTuple):
    """One photo done.

    image: uint8 (H, W, 3), the size of the photo.
    attention: uint8 (H, W), 0 exactly where the pixel is the photo's own, 255 where it is wholly the generator's. A
        generator without attention replaces the whole middle square, or an oval about each face.
    faces: the most prominent first; the whole square where faces are not looked for.
    """

    image: np.ndarray
    attention: np.ndarray
    faces: tuple[DoneFace, ...] = ()


class Unmasker:
    """A generator with the compositing around it. It holds no state between calls, so threads may share one.

    Args:
        generator: a generator file, or what `bmask.gan.generator_file.load_generator` made of one. `image_size` in its
            header is the side of the squares it was trained on, `fit` how they were framed (see params.ingest).
        threshold: in [0, 1); where the attention is not above it, the photo's pixel is kept. None takes what a packed
            model states beside its generator, else THRESHOLD.
        device: `auto` takes CUDA when it is there.
        precision: `auto` takes bf16 where the device is faster in it, else fp32; either can be named.

    Raises:
        DataError: the file is missing or none of ours.
    """

    def __init__(
        self,
        generator: Path | str | tuple[nn.Module, dict[str, Any]],
        threshold: float | None = None,
        device: str = "auto",
        precision: str = "auto",
    ):
        import torch

        from bmask.gan.generator_file import load_generator

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if isinstance(generator, tuple):
            network, self.about = generator
            self.generator = network.to(device)
        else:
            threshold = _stated_threshold(Path(generator)) if threshold is None else threshold
            self.generator, self.about = load_generator(Path(generator), device)
        beside = None if isinstance(generator, tuple) else Path(generator).with_name(DETECTOR)
        self._detector = beside if beside and beside.is_file() else None  # else the installed one
        self.threshold = THRESHOLD if threshold is None else threshold
        self.device, self.precision = device, precision
        self.size = int(self.about["image_size"])  # side of the squares the generator takes, px
        self.batch = 1 if device == "cpu" else GPU_BATCH  # squares in one call of the generator

    def unmask(self, photos: Sequence[np.ndarray], framed: bool = False) -> list[Result]:
        """Unmasks photos, uint8 (H, W, 3) RGB, each of its own size. The order is kept.

        A photo's result does not depend on the photos beside it. A generator of faces changes every masked face that it
        finds, wherever it is, and nothing where there is none.

        Args:
            framed: the photos are squares that were framed for this generator already.
        """
        results: list[Result] = []
        if self.about.get("fit") == "face" and not framed:
            for start in range(0, len(photos), self.batch):
                results += self._unmask_faces(photos[start : start + self.batch])
            return results
        for start in range(0, len(photos), self.batch):
            batch = [self._widen(photo) for photo in photos[start : start + self.batch]]
            low = np.stack([frame(photo, self.size) for photo in batch])
            images, attentions = self._translate(low)
            for index, photo in enumerate(batch):
                attention = None if attentions is None else attentions[index]
                weight = opacity(photo.shape, attention, self.threshold)
                image = composite(photo, low[index], images[index], attention, self.threshold)
                height, width = photos[start + index].shape[:2]
                top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
                place = slice(top, top + height), slice(left, left + width)
                # Rounded up: a value of 0 promises an untouched pixel.
                corner = (width - min(width, height)) // 2, (height - min(width, height)) // 2
                face = DoneFace((*corner, min(width, height), min(width, height)), _masked(attention))
                results.append(Result(image[place], np.ceil(weight[place] * 255).astype(np.uint8), (face,)))
        return results

    def _unmask_faces(self, photos: Sequence[np.ndarray]) -> list[Result]:
        from bmask.faces.alignment import align, bounds, lay_back
        from bmask.faces.alignment import to_square as similarity
        from bmask.faces.finding import find_faces

        template = np.array(self.about.get("template", CLOSE))
        to_square = partial(similarity, side=self.size, centre=1, template=template)
        images = [photo.copy() for photo in photos]
        weights = [np.zeros(photo.shape[:2], np.uint8) for photo in photos]
        done: list[list[DoneFace]] = [[] for _ in photos]
        found = [(index, face) for index, photo in enumerate(photos) for face in find_faces(photo, self._detector)]
        for some in batched(found, self.batch):
            transforms = [to_square(face.landmarks) for _, face in some]
            low = np.stack([align(photos[i], t, self.size) for (i, _), t in zip(some, transforms, strict=True)])
            made, attentions = self._translate(low)
            for row, ((index, face), transform) in enumerate(zip(some, transforms, strict=True)):
                attention = None if attentions is None else attentions[row]
                left, top, width, height = face.box.round().astype(int).tolist()
                done[index].append(DoneFace((left, top, width, height), _masked(attention)))
                if done[index][-1].masked is False:
                    continue
                top, bottom, left, right = bounds(transform, self.size, *photos[index].shape[:2])
                here = to_square(face.landmarks - [left, top])
                back = partial(lay_back, transform=here, height=bottom - top, width=right - left)
                part = slice(top, bottom), slice(left, right)
                images[index][part], weight = composite_face(
                    images[index][part], low[row], made[row], attention, self.threshold, back
                )
                # Of two faces that overlap, the later one lies over the other.
                weights[index][part] = np.maximum(weights[index][part], np.ceil(weight * 255).astype(np.uint8))
        return [Result(*each) for each in zip(images, weights, map(tuple, done), strict=True)]

    def _widen(self, photo: np.ndarray) -> np.ndarray:
        """The photo with the borders that a generator of padded photos was trained on; most were trained on crops."""
        return pad(photo, "pad") if self.about.get("fit") == "pad" else photo

    def _translate(self, low: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (N, h, w, 3) in [-1, 1] and attention (N, h, w) of up to N = batch squares, uint8 (n, h, w, 3).

        Every call sees `batch` squares: convolutions sum in another order for another batch size, so a photo's last
        bits would depend on its companions. On a CPU one at a time costs little; a GPU wants many.
        """
        import torch

        from bmask.gan.inference import translate

        filled = np.zeros((self.batch, *low.shape[1:]), np.uint8)
        filled[: len(low)] = low
        x = torch.from_numpy(filled).to(self.device).permute(0, 3, 1, 2).contiguous().float().div(127.5).sub(1)
        translation = translate(self.generator, x, self.precision)
        images = translation.image.permute(0, 2, 3, 1).cpu().numpy()
        attention = translation.attention
        return images, None if attention is None else attention[:, 0].cpu().numpy()


def _masked(attention: np.ndarray | None) -> bool | None:
    return None if attention is None else bool((attention > 0.5).mean() >= LEAST)


def _stated_threshold(path: Path) -> float | None:
    settings = path.with_name(SETTINGS)
    return read_json(settings)["threshold"] if settings.is_file() else None
