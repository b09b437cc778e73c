"""The pictures that the report shows, as evaluate saves them: chosen photos, rendered by all systems."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bmask.errors import DataError
from bmask.files import write_bytes

if TYPE_CHECKING:
    from bmask.quality.render import Rendered
    from bmask.quality.scores import Scores

PICTURES = "pictures.npz"  # in evaluate's folder
STRIP = 8  # photos in before_after.png


@dataclass(frozen=True)
class Pictures:
    """K photos of the split before and after each system."""

    index: NDArray[np.int64]  # (K,) positions among the split's masked photos, ascending
    photos: NDArray[np.uint8]  # (K, S, S, 3) as the systems saw them
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # by system, each (K, S, S, 3)
    attention: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # (K, S, S), 255 where the pixel is replaced
    truth: NDArray[np.uint8] | None = None  # (K, S, S, 3) the true faces, if they are known

    def save(self, path: Path) -> None:
        """One .npz file without pickles."""
        arrays: dict[str, NDArray] = {"index": self.index, "photos": self.photos}
        arrays |= {f"images.{name}": own for name, own in self.images.items()}
        arrays |= {f"attention.{name}": own for name, own in self.attention.items()}
        arrays |= {} if self.truth is None else {"truth": self.truth}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_bytes(path, buffer.getvalue())

    @staticmethod
    def load(path: Path) -> Pictures:
        """Raises DataError when the file is missing or was not written by save."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: dict[str, Any] = {name: file[name] for name in file.files}
            by_kind: dict[str, dict[str, NDArray]] = {"images": {}, "attention": {}}
            for name in [name for name in arrays if "." in name]:
                kind, _, system = name.partition(".")
                by_kind[kind][system] = arrays.pop(name)
            return Pictures(**arrays, images=by_kind["images"], attention=by_kind["attention"])
        except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise DataError(f"{path} holds no pictures ({error}); run evaluate again") from error


def chosen_pictures(
    rendered: dict[str, Rendered], leaders: list[Scores], rows: int, truth: NDArray[np.uint8] | None
) -> Pictures:
    """All photos that before_after.png or a report of `rows` photos may show, whichever of the leaders it puts first.

    Args:
        rendered: every system's pictures of the split. leaders: scores of the systems that may lead.
        truth: uint8 (N, S, S, 3), the true faces behind the masks.
    """
    first = next(iter(rendered.values())).photos
    wanted = set(range(min(STRIP, len(first))))
    for scores in leaders:
        wanted.update(*shown_photos(scores, rows))
    index = np.array(sorted(wanted))
    attention = {name: own.attention[index] for name, own in rendered.items() if own.attention is not None}
    return Pictures(
        index,
        first[index],
        {name: own.images[index] for name, own in rendered.items()},
        {name: (own * 255).round().clip(0, 255).astype(np.uint8) for name, own in attention.items()},
        None if truth is None else truth[index],
    )


def shown_photos(scores: Scores, rows: int) -> tuple[list[int], dict[int, str]]:
    """Photos around the median and the worst ones of a system, with a note: `rows` in all, at least one of each."""
    badness = seen_badness(scores)
    worst = dict(hardest_photos(badness, scores.slices)[: max(1, rows // 2)])
    order = np.argsort(badness, kind="stable")
    count = min(max(1, rows - len(worst)), len(order))
    start = (len(order) - count) // 2
    return sorted(int(i) for i in order[start : start + count]), worst


def seen_badness(scores: Scores) -> NDArray[np.float64]:
    """How bad each masked photo's result looks: its distance to the true face, or its grade if that is not known."""
    known = scores.photos.get("region_distance")
    return scores.photos["grade"] if known is None else known


def hardest_photos(badness: NDArray[np.float64], slices: NDArray[np.str_]) -> list[tuple[int, str]]:
    """(index, note): the worst photo of each slice, then all others, worst first."""
    labels = [set(filter(None, text.split(";"))) for text in slices]
    order = np.argsort(-badness, kind="stable")
    chosen: dict[int, str] = {}
    for label in sorted(set().union(*labels)):
        index = next((int(i) for i in order if label in labels[i] and i not in chosen), None)
        if index is not None:
            chosen[index] = label
    return [*chosen.items(), *((int(i), "") for i in order if i not in chosen)]
