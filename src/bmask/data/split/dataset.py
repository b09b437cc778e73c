"""The dataset as the other stages read it, and the conversion between stored photos and tensors."""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from bmask.data.records import DOMAINS, SPLITS
from bmask.errors import DataError
from bmask.faces.template import without_margin
from bmask.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 4  # of the folder's layout; raised when readers of the old layout would fail


class Dataset:
    """A folder written by ingest. Pixels stay on disk and are memory-mapped.

    Args:
        folder: results of ingest: `{domain}_{split}.npy`, `manifest.csv`, `summary.json`, truth where there is some.

    Raises:
        DataError: the folder is no dataset, was written by another version, or a file of it is missing.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        try:
            self.summary: dict[str, Any] = read_json(self.folder / "summary.json")
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{self.folder} holds no dataset (no summary.json); run ingest first") from None
        except ValueError as error:
            raise DataError(f"{self.folder}/summary.json is damaged ({error}); run ingest again") from None
        if self.summary.get("version") != VERSION:
            raise DataError(f"{self.folder} has layout {self.summary.get('version')}, not {VERSION}; run ingest again")

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        return cls(folder)

    @property
    def digest(self) -> str:
        """sha256 of everything a training or an evaluation can see; equal digests mean equal datasets."""
        return self.summary["digest"]

    @property
    def private(self) -> bool:
        """Whether no picture of this dataset may reach MLflow, a report or a contact sheet."""
        return self.summary["private"]

    @property
    def load_size(self) -> int:
        """Side of the stored squares, px."""
        return self.summary["load_size"]

    def photos(self, domain: str, split: str) -> np.ndarray:
        """uint8 (N, S, S, 3), RGB, mapped read-only."""
        return open_array(self.folder / f"{domain}_{split}.npy")

    def centre(self, squares: np.ndarray) -> np.ndarray:
        """The part of stored squares (N, S, S, ...) that a generator sees: with `fit: face`, without the margin.

        From squares framed by faces, trainings take random crops of that size; everything else uses the middle crop,
        so that faces have the same scale everywhere.
        """
        return without_margin(squares) if self.summary["fit"] == "face" else squares

    def lost(self, domain: str) -> float:
        """Share of a domain's photos in which no face was found, so that they are in no split.

        With `faces: all`, of its faces, where such a photo counts as one.
        """
        without = self.summary.get("no_face", {}).get(domain, 0)  # only `fit: face` looks for faces
        return without / (without + sum(self.summary["counts"][domain].values())) if without else 0.0

    def names(self, domain: str, split: str) -> list[str]:
        """The photos' names below their domain folder, in the order of `photos`."""
        return [row["name"] for row in self._rows(domain, split)]

    def hashes(self, domain: str, split: str) -> list[str]:
        """sha256 of the photos' files, in the order of `photos`."""
        return [row["sha256"] for row in self._rows(domain, split)]

    def groups(self, domain: str, split: str) -> np.ndarray:
        """str (N,). Photos of one group show the same picture, so they count once in a bootstrap."""
        return np.array([row["group"] for row in self._rows(domain, split)])

    def slices(self, split: str) -> list[set[str]]:
        """The labels of each masked photo, empty where there are none."""
        return [set(filter(None, row["slices"].split(";"))) for row in self._rows("masked", split)]

    def truth(self, split: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Unmasked twins uint8 (N, S, S, 3) and mask regions uint8 (N, S, S), 0 or 255, of the masked photos.

        None where the source has no truth, and for the training split: truth is for evaluation only.
        """
        if not self.summary["truth"] or split == "train":
            return None
        twin, region = (open_array(self.folder / f"truth_{split}_{what}.npy") for what in ("twin", "region"))
        return twin, region

    def _rows(self, domain: str, split: str) -> list[dict[str, str]]:
        if domain not in DOMAINS or split not in SPLITS:
            raise DataError(f"there is no {domain}/{split}; domains are {DOMAINS}, splits {SPLITS}")
        rows = [row for row in self._manifest if row["domain"] == domain and row["split"] == split]
        return sorted(rows, key=lambda row: int(row["index"]))

    @cached_property
    def _manifest(self) -> list[dict[str, str]]:
        try:
            with open(self.folder / "manifest.csv", newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            raise DataError(f"{self.folder} has no manifest.csv; run ingest again") from None


def open_array(path: Path) -> np.memmap:
    """Maps a stored array read-only. Raises DataError when it is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run the stage that writes {path.parent.name} again") from None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); run the stage that writes it again") from None


def to_tensor(photos: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) in 0..255 -> float32 (N, 3, H, W) in [-1, 1], contiguous."""
    import torch

    tensor = torch.from_numpy(np.array(photos, order="C"))  # a copy: mapped photos are read-only
    return tensor.permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1.0)


def to_photos(tensor: Tensor) -> np.ndarray:
    """float (N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3), rounded half up and clamped; undoes `to_tensor` exactly."""
    pixels = tensor.detach().float().add(1.0).mul_(127.5).add_(0.5).floor_().clamp_(0, 255)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).byte().cpu().numpy())


def resize(photos: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, S, S, C) -> (N, size, size, C), C 3 or 4: area averages when shrinking, bicubic when enlarging."""
    if photos.shape[1:3] == (size, size):
        return np.asarray(photos)
    method = cv2.INTER_AREA if size < photos.shape[1] else cv2.INTER_CUBIC
    resized = np.empty((len(photos), size, size, photos.shape[3]), np.uint8)
    for index, photo in enumerate(photos):
        resized[index] = cv2.resize(np.ascontiguousarray(photo), (size, size), interpolation=method)
    return resized
