"""The code that a module can reach; the edges of the pipeline and the fingerprints of trainings follow from it.

It is read from the sources without importing them: imports, also in functions, and names of templates. The caller has
to name modules that are chosen at run time, such as translation systems.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent
# Modules that watch and report but do not affect results: their changes are no reason to run a stage again.
OBSERVERS = frozenset(
    {
        "tracking",  # MLflow; `register`, which needs it, runs every time
        "observers",  # of a training: progress, syncing of checkpoints, sheets of samples
        "serving.model",  # how a generator is logged
        "progress",  # bars and lines
        "errors",  # a stage that fails leaves no results
    }
)
SYSTEMS = "gan.systems"  # a training uses one of them


def reach(*starts: str, without: Collection[str] = OBSERVERS, package: Path = PACKAGE) -> list[Path]:
    """The files of these modules and of all that they need, sorted, relative to the package.

    Names are relative to `bmask`. Modules and packages in `without` are not followed, but a start may lie in one. An
    `__init__` counts if it is not empty.

    Raises:
        ValueError: a start is not a module.
    """
    found: set[Path] = set()
    todo = list(starts)
    while todo:
        name = todo.pop()
        if (path := module_file(name, package)) is None:
            raise ValueError(f"{name} is not a module of {package}")
        if path in found:
            continue
        found.add(path)
        targets = [*imported(package / path, package), *_packages(name, package)]
        todo += [target for target in targets if not _below(target, without)]
    told = {path for path in found if path.name != "__init__.py" or (package / path).stat().st_size}
    return sorted(told | _templates(found, package))


def code_of_training(system: str, package: Path = PACKAGE) -> str:
    """Digest of the sources that the result of a training of this system depends on, for its fingerprint."""
    total = hashlib.sha256()
    for path in reach("training.loop", f"{SYSTEMS}.{system}", without=OBSERVERS, package=package):
        total.update(f"{path.as_posix()}\0{(package / path).read_text(encoding='utf-8')}\0".encode())
    return total.hexdigest()[:12]


def module_file(name: str, package: Path = PACKAGE) -> Path | None:
    """The file of a module, relative to the package; None where there is no such module."""
    place = Path(*name.split(".")) if name else Path()
    for path in (place.with_suffix(".py") if name else None, place / "__init__.py"):
        if path and (package / path).is_file():
            return path
    return None


def imported(file: Path, package: Path = PACKAGE, types: bool = False) -> set[str]:
    """The modules of our package that a file imports, in functions too; with `types` also below TYPE_CHECKING."""
    names = names_imported(ast.parse(file.read_text(encoding="utf-8")), types=types)
    inside = {name.partition(".")[2] for name in names if name.partition(".")[0] == "bmask"}
    return {name if module_file(name, package) else name.rpartition(".")[0] for name in inside}


def names_imported(tree: ast.AST, functions: bool = True, types: bool = False) -> Iterator[str]:
    """What is imported in a syntax tree, by full name: `package.module.name` of `from package.module import name`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: relative imports cannot be followed; import by full name")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not types:
            yield from names_imported(ast.Module(node.orelse, []), functions, types)
        elif functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from names_imported(node, functions, types)


def _below(name: str, packages: Collection[str]) -> bool:
    return any(name == above or name.startswith(f"{above}.") for above in packages)


def _packages(name: str, package: Path) -> Iterator[str]:
    """The packages above a module whose `__init__` has more than a docstring."""
    while name:
        name = name.rpartition(".")[0]
        if (path := module_file(name, package)) is None:  # a folder without `__init__`, in which nothing can run
            continue
        tree = ast.parse((package / path).read_text(encoding="utf-8"))
        if any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in tree.body):
            yield name


def _templates(sources: Collection[Path], package: Path) -> set[Path]:
    """The .html and .css files whose paths these sources name in quotes, and those that they name in turn."""
    data = {p.relative_to(package) for p in package.rglob("*") if p.is_file() and p.suffix in (".html", ".css")}
    found: set[Path] = set()
    todo = list(sources)
    while todo:
        text = (package / todo.pop()).read_text(encoding="utf-8")
        new = {path for path in data - found if f'"{path.as_posix()}"' in text}
        found |= new
        todo += new
    return found
