"""A temporary git repository, with or without DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


class Repository:
    """It has its own author and ignores the git settings of the user."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        people = {f"GIT_{role}_{key}": "t@t" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, **people, "PATH": path, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        self.run("git", "init", "-q", "-b", "main", ".")

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
        return done.stdout.strip()

    def commit(self) -> str:
        self.run("git", "add", "--all")
        self.run("git", "commit", "-q", "-m", "photos")
        return self.run("git", "rev-parse", "HEAD")
