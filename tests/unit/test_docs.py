"""Everything that the documents name exists: files, make targets, commands and options."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer

from bmask import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "components/*/README.md", "embedded/README.md")
    for path in sorted(ROOT.glob(pattern))
]
FOLDERS = "benchmarks|components|deploy|docs|embedded|pipelines|profiles|src|tests|tools"
MADE = {"deploy/overlays/mine"}  # by the reader of the document


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code_of(document: Path) -> str:
    """Blocks and spans of code, one per line, without comments."""
    code = re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text_of(document), re.DOTALL)
    return re.sub(r"(?:^|\s)#.*", "", "\n".join(block or span for block, span in code), flags=re.MULTILINE)


def test_there_are_documents():
    assert {Path("README.md"), Path("docs/results.md"), Path("docs/cluster.md")} <= set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_file_that_is_named_is_there(document):
    text = text_of(document)
    named = set(re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w", text)) - MADE
    linked = {link.partition("#")[0] for link in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text)}
    missing = {name for name in named if not (ROOT / name).exists()}
    missing |= {link for link in linked if not (ROOT / document.parent / link).exists()}
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_target_of_make_that_is_named_is_there(document):
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", code_of(document)))
    assert named <= set(re.findall(r"make ([a-z-]+)", shown))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_that_is_named_is_there(document):
    commands = typer.main.get_command(cli.app).commands
    for named in re.findall(r"\bbmask ([a-z]+(?: [a-z]+)?)", code_of(document)):
        first, *rest = named.split()
        assert first in commands, named
        inner = getattr(commands[first], "commands", {})
        assert not rest or not inner or rest[0] in inner, named


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_no_number_hangs_on_a_script_that_nobody_kept(document):
    """The command that reproduces a number stands beside it, and is in the repository."""
    assert not re.findall(r"(?i)one-off (?:script|profile)", text_of(document))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_option_of_a_benchmark_that_is_named_is_one(document):
    for script, options in re.findall(r"python (benchmarks/\w+\.py)([^`#\n]*)", code_of(document)):
        known = (ROOT / script).read_text(encoding="utf-8") + (ROOT / "benchmarks/sizes.py").read_text(encoding="utf-8")
        assert all(f'"{option}"' in known for option in re.findall(r"--[a-z-]+", options)), (script, options)


def old_words() -> list[str]:
    """The words that the glossary has replaced: its last column."""
    rows = re.findall(r"^\|.*\| *([\w, -]*?) *\|$", text_of(Path("docs/glossary.md")), re.MULTILINE)[1:]
    return [word.strip() for row in rows for word in row.split(",") if word.strip(" -")]


@pytest.mark.parametrize("word", old_words())
def test_a_word_that_the_glossary_has_replaced_is_gone(word):
    places = (
        "*.md",
        "docs/*.md",
        "src/**/*.py",
        "src/**/*.html",
        "benchmarks/*.py",
        "components/**/*",
        "profiles/*",
        "*.yaml",
    )
    files = {path for place in places for path in ROOT.glob(place) if path.is_file()} - {ROOT / "docs/glossary.md"}
    pattern = re.compile(rf"\b{word.removesuffix('s')}s?\b", re.IGNORECASE)
    assert not [path for path in files if pattern.search(path.read_text(encoding="utf-8", errors="replace"))]


def test_the_glossary_has_replaced_some_words():
    assert {"critic", "strangers"} <= set(old_words())


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_lines_of_prose_are_short(document):
    prose = re.sub(r"```.*?```", "", text_of(document), flags=re.DOTALL)
    assert not [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")]
