"""Suppresses the image libraries' own warnings: bmask reports why it refuses a photo."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Iterator

from PIL import Image

_MUTING = threading.Lock()


@functools.cache
def hush() -> None:
    """Switches off Pillow's warnings in this process."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


@contextlib.contextmanager
def muted(image: Image.Image) -> Iterator[None]:
    """Mutes stderr while a TIFF with JPEG compression is read: its decoder writes there without Python."""
    if image.format != "TIFF" or image.info.get("compression") != "jpeg":
        yield
        return
    with _MUTING, open(os.devnull, "wb") as nowhere:
        terminal = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
