"""The peak memory of a process, in messages and dry runs."""

from __future__ import annotations

import subprocess
import sys

SMALL = "from bmask.training.health import peak_memory; print(peak_memory())"
LARGE = f"""
import subprocess, sys
from bmask.training.health import peak_memory
held = b"x" * (1 << 30)
subprocess.run([sys.executable, "-c", {SMALL!r}], check=True, close_fds=False)  # started by vfork, as most are
print(peak_memory())
"""


def test_a_small_process_that_a_large_one_starts_is_small():
    said = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, timeout=300).stdout
    small, large = map(float, said.split())
    assert 1 < large < 2.5
    assert 0.05 < small < large - 0.8
