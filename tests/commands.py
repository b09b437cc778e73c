"""Runs the command line in this process."""

from __future__ import annotations

import sys

from bmask import cli


def bmask(*arguments: str, monkeypatch, capsys) -> tuple[int, str, str]:
    """Runs `bmask ARGUMENTS`; returns exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["bmask", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    told = capsys.readouterr()
    return code, told.out, told.err
