"""Photos are read or refused with a reason; what the libraries below say besides would bury both."""

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
    """While a TIFF is read whose squares are JPEG: that decoder's complaints go to the terminal past Python."""
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
