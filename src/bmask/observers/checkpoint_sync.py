"""Checkpoint sync with object storage, for trainings on temporary disks: a retried task goes on where it was.

With `train.checkpoints: s3://bucket/prefix`, prefix/MODEL-FINGERPRINT/ has the files of that folder on the disk.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from torch import Tensor

from bmask.data.sources.objects import SCHEME, Prefix
from bmask.errors import DataError
from bmask.gan.translation import Translation
from bmask.params import Params
from bmask.progress import say
from bmask.training.checkpoint import LATEST, PREVIOUS

FOLDER = Path("checkpoints")  # the working copy
ABOUT = "fingerprint.json"


def open_checkpoints(params: Params, name: str, fingerprint: dict, private: bool) -> tuple[Path, list[CheckpointSync]]:
    """The folder `name` of a training's checkpoints, filled from the storage, and the observer that syncs it.

    Raises DataError if the storage cannot be read and written; else the training would silently start over.
    """
    place = params.train.checkpoints
    if not place.startswith(SCHEME):
        return Path(place) / name, []
    storage = Prefix(f"{place.rstrip('/')}/{name}", params.s3, "train.checkpoints")
    sync = CheckpointSync(FOLDER / name, storage)
    sync.fetch(fingerprint, private)
    return sync.folder, [sync]


def remove_samples(params: Params, name: str) -> None:
    """Removes the sample sheets of the training `name`, here and in the storage. Raises DataError as above."""
    place = params.train.checkpoints
    folder = FOLDER if place.startswith(SCHEME) else Path(place)
    shutil.rmtree(folder / name / "samples", ignore_errors=True)
    if place.startswith(SCHEME):
        storage = Prefix(f"{place.rstrip('/')}/{name}", params.s3, "train.checkpoints")
        for kept in storage.names():
            if kept.startswith("samples/"):
                storage.remove(kept)


class CheckpointSync:
    """Observer of the training loop that sends the folder's files to the storage after each checkpoint.

    An object appears whole or not at all, so an interrupted upload leaves the previous checkpoint. If the storage
    fails, a line says so and the training goes on; the next checkpoint also uploads what is missing.
    """

    def __init__(self, folder: Path, storage: Prefix):
        self.folder, self.storage = folder, storage
        self.sent: dict[str, tuple[int, int]] = {}  # size and modification time of what the storage has

    def fetch(self, fingerprint: dict, private: bool) -> None:
        """Fetches what this disk lacks, and checks that the storage is writable. Removes samples of private photos."""
        self.storage.put(ABOUT, json.dumps(fingerprint, indent=2, sort_keys=True).encode())
        for name in self.storage.names():
            path = self.folder / name
            if private and name.startswith("samples/"):
                self.storage.remove(name)
            elif name != ABOUT and not path.exists():
                self.storage.fetch(name, self.folder)
                self.sent[name] = _stamp(path)
        if LATEST in self.sent:
            say(f"checkpoints fetched from {self.storage.url}")

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None: ...

    def losses(self, row: dict) -> None: ...

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None: ...

    def saved(self) -> None:
        try:
            self._send()
        except DataError as error:
            say(f"the checkpoint is only on this disk ({error}); the next one tries again")

    def _send(self) -> None:
        files = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        names = {path.relative_to(self.folder).as_posix(): _stamp(path) for path in files}
        for name in sorted(names, key=lambda name: (name == LATEST, name)):  # last: never ahead of the others
            if self.sent.get(name) == names[name]:
                continue
            if name == PREVIOUS and self.sent.get(LATEST) == names[name]:
                self.storage.copy(LATEST, PREVIOUS)  # renamed on the disk; no need to send it again
            else:
                self.storage.send(self.folder / name, name)
            self.sent[name] = names[name]


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
