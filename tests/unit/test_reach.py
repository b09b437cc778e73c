"""The reach of a module: all it imports and the templates it names, without what only watches."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from bmask.reach import PACKAGE, code_of_training, names_imported, reach


@pytest.fixture
def house(tmp_path) -> Path:
    """A small package that imports in every way."""
    files = {
        "__init__.py": "",
        "start.py": "from typing import TYPE_CHECKING\nimport numpy\nimport bmask.top\nfrom bmask.room import module\n"
        "if TYPE_CHECKING:\n    from bmask import typed\nelse:\n    from bmask import untyped\n"
        "def work():\n    from bmask.room.late import thing\n    from bmask.watch import tell\n"
        "    page('room/page.html')\n".replace("'", '"'),
        "top.py": "",
        "typed.py": "",
        "untyped.py": "",
        "unused.py": "from bmask import start",
        "room/__init__.py": '"""Only a docstring."""',
        "room/module.py": "",
        "room/late.py": "from bmask.busy.inside import other",
        "room/page.html": '{% extends "look/base.html" %}',
        "room/other.html": "",
        "look/base.html": "",
        "busy/__init__.py": "from bmask.busy.helper import x",
        "busy/helper.py": "",
        "busy/inside.py": "",
        "watch/__init__.py": "",
        "watch/deep.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.as_posix() for path in paths]


def test_it_follows_imports_in_functions_packages_that_do_something_and_templates(house):
    found = names(reach("start", without={"watch"}, package=house))
    code = ["start.py", "top.py", "untyped.py", "room/module.py", "room/late.py"]
    assert found == sorted([*code, "busy/__init__.py", "busy/helper.py", "busy/inside.py", "look/base.html",
                            "room/page.html"])  # fmt: skip


def test_it_ends_at_what_is_named_and_a_start_may_lie_there(house):
    assert names(reach("start", without={"watch", "room", "untyped"}, package=house)) == [
        "look/base.html", "room/page.html", "start.py", "top.py"]  # fmt: skip
    assert names(reach("watch.deep", without={"watch"}, package=house)) == ["watch/deep.py"]
    with pytest.raises(ValueError, match="start2 is not a module"):
        reach("start2", package=house)


def test_a_folder_without_init_is_a_package_that_does_nothing(house):
    (house / "room" / "__init__.py").unlink()
    assert names(reach("room.module", package=house)) == ["room/module.py"]


def test_what_stands_in_functions_and_what_is_for_types_can_be_told_apart(house):
    tree = ast.parse((house / "start.py").read_text())
    at_import = {"typing.TYPE_CHECKING", "numpy", "bmask.top", "bmask.room.module", "bmask.untyped"}
    assert set(names_imported(tree, functions=False)) == at_import
    assert set(names_imported(tree, functions=False, types=True)) == at_import | {"bmask.typed"}
    assert set(names_imported(tree)) == at_import | {"bmask.room.late.thing", "bmask.watch.tell"}


def test_relative_imports_are_refused_since_they_hide_an_arrow(house):
    (house / "top.py").write_text("from . import typed")
    with pytest.raises(ValueError, match="line 1: relative"):
        reach("start", package=house)


@pytest.fixture
def package(tmp_path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "bmask", ignore=shutil.ignore_patterns("__pycache__"))


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "# another word\n")


SYSTEMS = sorted(path.stem for path in (PACKAGE / "gan" / "systems").glob("[!_]*.py"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_a_training_does_not_use_is_no_other_training(package, system):
    before = code_of_training(system, package)
    assert before == code_of_training(system)
    (package / "gan" / "systems" / "new.py").write_text("from bmask.gan import losses\n")
    for other in {*SYSTEMS, "new"} - {system}:
        edit(package / "gan" / "systems" / f"{other}.py")
    for name in (
        "gan/generator_file.py",
        "tracking/tracker.py",
        "progress.py",
        "errors.py",
        "stages/train.py",
        "cli.py",
    ):
        edit(package / name)
    assert code_of_training(system, package) == before


@pytest.mark.parametrize("name", ["gan/losses.py", "training/loop.py", "training/pool.py", "gan/systems/{}.py"])
def test_what_a_training_uses_is_another_training(package, name):
    for system in SYSTEMS:
        before = code_of_training(system, package)
        edit(package / name.format(system))
        assert code_of_training(system, package) != before


def test_a_system_that_uses_another_systems_file_has_it_in_its_fingerprint(tmp_path):
    package = shutil.copytree(PACKAGE, tmp_path / "bmask", ignore=shutil.ignore_patterns("__pycache__"))
    system = package / "gan/systems/mine.py"
    system.write_text("from bmask.gan.systems.cyclegan import ResnetGenerator\n")
    before = code_of_training("mine", package), code_of_training("attentiongan", package)
    other = package / "gan/systems/cyclegan.py"
    other.write_text(other.read_text() + "# changed\n")
    assert code_of_training("mine", package) != before[0]
    assert code_of_training("attentiongan", package) == before[1]
