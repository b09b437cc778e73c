"""Arrays too large for memory, written row by row."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import numpy as np


def blocks(array: np.ndarray, length: int) -> list[np.ndarray]:
    """Cuts an array into pieces of this length, the last one shorter; an empty array gives none."""
    return np.split(array, range(length, len(array), length)) if len(array) else []


class ArrayFile:
    """An .npy file of uint8 rows; any number of threads may write and read rows by number.

    It is not memory-mapped: mapped pages count as the process's memory, and on a full disk a write to one kills the
    process instead of raising OSError. The whole file is allocated first, so a full disk is found before any work.

    Args:
        path: the file, which is replaced.
        shape: rows first.

    Raises:
        OSError: the disk is full, or the path cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]):
        self.path, self.shape = Path(path), shape
        self._file = open(path, "w+b")  # noqa: SIM115 - closed by __exit__
        try:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
            self._start = self._file.tell()
            os.posix_fallocate(self._file.fileno(), 0, self._start + math.prod(shape))
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def existing(cls, path: Path) -> ArrayFile:
        """Opens a file that another process has created, to read and write rows."""
        array = cls.__new__(cls)
        array.path, array._file = Path(path), open(path, "r+b")  # noqa: SIM115 - closed by __exit__
        np.lib.format.read_magic(array._file)
        array.shape = np.lib.format.read_array_header_1_0(array._file)[0]
        array._start = array._file.tell()
        return array

    def write(self, index: int, row: np.ndarray) -> None:
        """Stores uint8 `row`, shape[1:], at `index`."""
        if row.shape != self.shape[1:] or row.dtype != np.uint8 or not 0 <= index < self.shape[0]:
            raise ValueError(f"row {index} of {row.dtype} {row.shape} does not fit into {self.shape}")
        left, at = memoryview(row.tobytes()), self._start + index * row.nbytes
        while left:  # a nearly full disk takes only a part, then raises
            done = os.pwrite(self._file.fileno(), left, at)
            left, at = left[done:], at + done

    def read(self, index: int) -> np.ndarray:
        """uint8, shape[1:]."""
        size = math.prod(self.shape[1:])
        content = os.pread(self._file.fileno(), size, self._start + index * size)
        return np.frombuffer(content, np.uint8).reshape(self.shape[1:])

    def read_rows(self, indices: np.ndarray) -> np.ndarray:
        """uint8 (len(indices), *shape[1:])."""
        rows = np.empty((len(indices), *self.shape[1:]), np.uint8)
        size = math.prod(self.shape[1:])
        for row, index in zip(rows, indices.tolist(), strict=True):
            if os.preadv(self._file.fileno(), [row], self._start + index * size) != size:
                raise OSError(errno.EIO, "ends before its last row", str(self.path))
        return rows

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
