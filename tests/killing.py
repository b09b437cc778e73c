"""Stops processes at the worst moments and fills disks."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE = 300  # seconds to wait for an event on a busy machine


@contextlib.contextmanager
def running(*command: object, **options) -> Iterator[subprocess.Popen]:
    """A Python process with these arguments; it is killed when the block ends."""
    child = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, **options)
    try:
        yield child
    finally:
        if child.poll() is None:
            kill(child)


def writing(child: subprocess.Popen, folder: Path) -> dict[str, int]:
    """The files in `folder` that the process has open under a temporary name, with their bytes so far."""
    sizes = {}
    opened = Path(f"/proc/{child.pid}/fd")
    for number in os.listdir(opened):
        with contextlib.suppress(FileNotFoundError):  # closed, or renamed, while we looked
            path = Path(os.readlink(opened / number))
            if path.parent == folder and path.name.startswith("."):
                sizes[path.name] = path.stat().st_size
    return sizes


def freeze(child: subprocess.Popen) -> bool:
    """Pauses the process, so that a test can inspect its files before killing it. False: it had ended."""
    os.kill(child.pid, signal.SIGSTOP)
    return os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT).si_code == os.CLD_STOPPED


def freeze_when(child: subprocess.Popen, there: Callable[[], bool]) -> bool:
    """Freezes the process while `there()` is true; checks this again once the process is frozen."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        with contextlib.suppress(PermissionError):  # it ended just now
            if there():
                if not freeze(child):
                    return False
                if there():
                    return True
                os.kill(child.pid, signal.SIGCONT)
        time.sleep(0.0002)
    child.kill()
    raise TimeoutError(f"nothing to be seen for {PATIENCE} s")


def freeze_in_a_write(child: subprocess.Popen, folder: Path, size: int, draws: random.Random) -> bool:
    """Freezes the process when it has written a random share of a checkpoint of about `size` bytes to `folder`."""
    share = draws.random()

    def half_written() -> bool:
        nonlocal share
        found = max(writing(child, folder).values(), default=-1) >= share * size
        if found:
            share = 0  # if this file is complete at the second check, catch the next one as it begins
        return found

    return freeze_when(child, half_written)


def kill(child: subprocess.Popen) -> None:
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL


class Full:
    """A disk that the test can fill; `folder` is on it."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextlib.contextmanager
    def up_to(self, room: int) -> Iterator[None]:
        """Inside, only `room` bytes are free."""
        ballast = self.folder / "ballast"
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.folder).free - room)
        try:
            yield
        finally:
            ballast.unlink()


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[Full | None]:
    """A real file system of `size` bytes in memory, or None where mounting is not permitted.

    It is mounted in its own namespace, which needs no privilege on most systems. It is reached through /proc and
    vanishes with the process that holds it.
    """
    hold = f"mount -t tmpfs -o size={size} none /mnt && echo mounted && exec cat"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hold]
    try:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        yield None
        return
    with holder:  # leaving this block closes its input, which ends `cat`
        yield Full(Path(f"/proc/{holder.pid}/root/mnt")) if holder.stdout.readline() else None
