"""Writes the set as a photo folder: two unpaired domains of different people, and the truth of the masked faces."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bmask.errors import DataError
from bmask.files import fresh_folder, write_text
from bmask.parallel import ahead, one_thread_each
from bmask.progress import bar
from bmask.synthetic.masks import KINDS
from bmask.synthetic.picture import CASES, Face, draw_face

if TYPE_CHECKING:
    from bmask.params.sections import Drawn


def draw_set(folder: Path, faces: Drawn, masked: str = "masked", unmasked: str = "unmasked") -> None:
    """Draws the whole set; `folder` appears only when it is complete.

    Writes `<masked>/face_00000.png` and so on, `<unmasked>/`, `truth/twin/` (same names as in masked), `truth/region/`
    (0 or 255) and `truth/slices.csv` (name, slices joined by `;`). Picture i of a domain does not depend on how many
    pictures there are.

    Raises:
        DataError: `folder` is not empty, or `masked` and `unmasked` are not two valid names of folders beside `truth`.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; name a new folder for the drawn faces")
    for name in (masked, unmasked):
        if Path(name).name != name or name in ("", "..", "truth") or masked == unmasked:
            names = f"ingest.masked {masked!r} and ingest.unmasked {unmasked!r}"
            raise DataError(f"{names} must be two different folder names without a path, and not `truth`; change them")
    with fresh_folder(folder) as temporary:
        for part in (masked, unmasked, "truth/twin", "truth/region"):
            (temporary / part).mkdir(parents=True)
        plan = Plan(temporary, masked, unmasked, faces.seed, faces.size, faces.hard)
        tasks = [(0, i) for i in range(faces.masked)] + [(1, i) for i in range(faces.unmasked)]
        rows = list(bar(_drawn(plan, tasks), total=len(tasks), what="drawing faces"))
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("name", "slices"), *rows[: faces.masked]])
        write_text(temporary / "truth" / "slices.csv", table.getvalue())


@dataclass(frozen=True)
class Plan:
    """Draws and writes the picture of a task: (domain, index); domain 0 is masked, 1 unmasked."""

    folder: Path
    masked: str
    unmasked: str
    seed: int
    size: int
    hard: float

    def __call__(self, task: tuple[int, int]) -> tuple[str, str]:
        domain, index = task
        name, face = f"face_{index:05d}.png", self.face(domain, index)
        if domain == 0:
            _write(self.folder / self.masked / name, face.masked)
            _write(self.folder / "truth" / "twin" / name, face.unmasked)
            _write(self.folder / "truth" / "region" / name, face.region)
        else:
            _write(self.folder / self.unmasked / name, face.unmasked)
        return name, ";".join(face.slices)

    def face(self, domain: int, index: int) -> Face:
        """Kinds and cases alternate, so that a small set also contains all of them; everything else is random."""
        before, after = int(index * self.hard + 1e-9), int((index + 1) * self.hard + 1e-9)
        case = CASES[before % len(CASES)] if after > before else None
        seed = (self.seed, domain, index)
        if domain == 1:  # as many failure cases as in the masked domain, so that they do not reveal the domain
            return draw_face(seed, self.size, None, case)
        turn = before // len(CASES) + before if case else index
        return draw_face(seed, self.size, KINDS[turn % len(KINDS)], case)


def _drawn(plan: Plan, tasks: list[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Uses two threads: OpenCV and NumPy release the interpreter's lock. More threads gain nothing."""
    with one_thread_each():
        yield from ahead(plan, tasks, 2)


def _write(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])[1].tobytes())
