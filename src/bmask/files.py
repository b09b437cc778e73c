"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bmask.errors import FULL


@contextlib.contextmanager
def fresh_file(path: Path) -> Iterator[Path]:
    """Yields a temporary file beside `path`; synced and renamed over it when the block ends well, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")  # a name has at most 255 bytes
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's 0600 would hide the file from other users of a shared volume
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _add_filename(error, path)
        raise


def _add_filename(error: BaseException, path: Path) -> None:
    """Adds the file's name, which Python leaves out when a write fails on a full disk."""
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        error.filename = str(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes to a temporary name beside `path`, syncs, then renames over it."""
    with fresh_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, tree: Any) -> None:
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@contextlib.contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """Yields an empty folder beside `out`; it replaces `out` when the block ends well and vanishes when it does not.

    Removes what killed writers of `out` left behind, so that nobody takes it for a result.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for leftover in out.parent.glob(f".{glob.escape(out.name)}.????????"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    temporary.chmod(0o755)
    try:
        yield temporary
        if out.exists():
            shutil.rmtree(out)
        os.replace(temporary, out)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _add_filename(error, out)
        raise
