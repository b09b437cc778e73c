"""Errors that a user can fix: the command line prints only the message and exits with the code. All else is a bug."""

from __future__ import annotations

import errno
import os

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DISK_ERRORS = ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST")
UNUSABLE = {getattr(errno, name) for name in DISK_ERRORS}  # faults of a disk or path, not bugs


class BmaskError(Exception):
    """A failure with a remedy. The message names the file or field, what is wrong, and what to do."""

    exit_code = 1


class ParamsError(BmaskError):
    """A parameter file that cannot be used."""

    exit_code = 2


class DataError(BmaskError):
    """Photos, splits or models that are missing, unreadable or do not fit together."""

    exit_code = 3


class TrainingError(BmaskError):
    """A training that cannot go on: NaN, collapsed attention, a checkpoint that does not belong to it."""

    exit_code = 4


class Preempted(BmaskError):
    """SIGTERM stopped a training; its state is saved. The code is the shell's for that signal."""

    exit_code = 143


class PipelineError(BmaskError):
    """A pipeline run that failed, or a Kubeflow server that cannot be used."""

    exit_code = 6


def explained(error: BaseException) -> tuple[str, int] | None:
    """The message and the exit code for an error that a user can fix; None for a bug."""
    if isinstance(error, BmaskError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in UNUSABLE:
        return f"{error.filename or 'a file'} cannot be written or read: {error.strerror}{room(error)}", 1
    if isinstance(error, FileNotFoundError) and error.filename is None:  # by tempfile, after it tried all its folders
        return f"{error.strerror}; make room in one of them, or set TMPDIR to a folder that can be written", 1
    return None


def room(error: OSError) -> str:
    """The remedy for a full disk, as the end of a sentence; empty for any other error."""
    if error.errno not in FULL:
        return ""
    temporary = filter(None, (os.environ.get("TMPDIR"), "/tmp", "/var/tmp"))
    inside = any(str(error.filename).startswith(os.path.join(place, "")) for place in temporary)
    return "; make room there" + ", or set TMPDIR to a folder with more room" * inside
