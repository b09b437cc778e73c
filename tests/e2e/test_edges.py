"""Dependencies in dvc.yaml match the code: a stage depends on exactly the files that its function can reach.

DVC itself reads dvc.yaml here. The outputs are made by hand and committed, so that `dvc status` shows what an edit
would run again.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from pydantic import BaseModel

from bmask.params import Params
from bmask.reach import OBSERVERS, PACKAGE, SYSTEMS, reach
from workspace import TINY, Workspace

MODELS = {name: model["network"]["system"] for name, model in TINY["models"].items()}
OUTPUTS = (
    *("ingest/summary.json", "augment/a.npy", "masks/masks_train.npy", "judge/checks.json", "evaluate/metrics.json"),
    *("register/decision.json", "report/ingest/report.html", "report/evaluate/report.html"),
    *(f"train/{model}/run.json" for model in MODELS),
)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which every stage is up to date, as DVC sees it."""
    made = Workspace(tmp_path_factory.mktemp("edges"))
    for name in OUTPUTS:
        path = made.folder / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    made.run("dvc", "commit", "--force", "--quiet")
    return made


@pytest.fixture(scope="module")
def locked(committed: Workspace) -> dict[str, dict]:
    return yaml.safe_load((committed.folder / "dvc.lock").read_text())["stages"]


def code_of(stage: dict) -> set[str]:
    """The files of our package that a stage depends on, without empty `__init__.py` files."""
    found: set[Path] = set()
    for dep in stage["deps"]:
        path = PACKAGE.parents[1] / dep["path"]
        if path.is_relative_to(PACKAGE):
            assert path.exists(), f"{dep['path']} is not there"
            found |= {p for p in path.rglob("*") if p.is_file()} if path.is_dir() else {path}
    code = {p for p in found if p.suffix != ".pyc" and not (p.name == "__init__.py" and is_empty(p))}
    return {p.relative_to(PACKAGE).as_posix() for p in code}


def is_empty(path: Path) -> bool:
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def reached(name: str) -> set[str]:
    """The files that a stage's function can reach; for a training, with its own system alone."""
    stage, _, model = name.partition("@")
    own = [f"{SYSTEMS}.{MODELS[model]}"] if model else []
    return {path.as_posix() for path in reach(f"stages.{stage}", *own, without=OBSERVERS)}


STAGES = [
    *("ingest", "augment", "masks", *(f"train@{model}" for model in MODELS), "judge", "evaluate"),
    *("report_ingest", "report_evaluate", "register"),
]


def test_these_are_the_stages(locked):
    assert set(locked) == set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_every_file_that_a_stage_can_reach_is_a_dependency(locked, name):
    assert reached(name) - code_of(locked[name]) == set()


@pytest.mark.parametrize("name", STAGES)
def test_every_file_that_a_stage_depends_on_can_be_reached(locked, name):
    """A training depends on the files of gan/ that any system uses: dvc.yaml has one list for all systems."""
    can = reached(name)
    if "@" in name:
        can |= {path for other in MODELS for path in reached(f"train@{other}") if not path.startswith("gan/systems/")}
    assert code_of(locked[name]) - can == set()


def test_what_checks_parameters_is_no_code_of_a_stage():
    assert not [path for name in STAGES for path in reached(name) if path.startswith("params/")]


def test_every_template_belongs_to_a_stage():
    templates = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.html")} - {"serving/page.html"}
    assert templates == {path for name in STAGES for path in reached(name) if path.endswith(".html")}


# Parameters. A section that is passed as a whole counts as a whole.

HARMLESS = {  # read, but no reason to run again
    "ingest": {"s3"},  # the storage does not change the photos
    "train": {"evaluate.attention_threshold"},  # logged with the model
}


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    """All fields below a section, by their names in params.yaml; `models` counts as one."""
    found = set()
    for name, field in model.model_fields.items():
        inside, place = field.annotation, prefix + (field.alias or name)
        section = isinstance(inside, type) and issubclass(inside, BaseModel)
        found |= fields(inside, f"{place}.") if section else {place}
    return found


ALL = fields(Params)


def below(place: str) -> set[str]:
    return {field for field in ALL if f"{field}.".startswith(f"{place}.")}


class Reads(ast.NodeVisitor):
    """The fields that a file reads from its variable `params`."""

    def __init__(self, path: Path):
        self.found: set[str] = set()
        self.visit(ast.parse(path.read_text()))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root, *names = ast.unparse(node).split(".")
        if root == "params" and all(name.isidentifier() for name in names):
            self.found |= fields_of(names)
        else:
            self.generic_visit(node)


def fields_of(names: list[str]) -> set[str]:
    """train.threads is one field, train.model_dump is all of train, model_dump is all fields."""
    for length in range(len(names), 0, -1):
        if found := below(".".join(names[:length]).replace("register_", "register")):
            return found
    return ALL


@pytest.mark.parametrize("name", STAGES)
def test_the_params_of_a_stage_are_those_that_its_code_reads(locked, name):
    stage = name.partition("@")[0]
    code = {PACKAGE / path for path in reached(name) if path.endswith(".py")}
    read = set().union(*(Reads(path).found for path in code)) - set().union(*map(below, HARMLESS.get(stage, ())))
    read_names = locked[name]["params"]["params.yaml"]
    named = {place.partition(".")[0] if place.startswith("models") else place for place in read_names}
    assert read == set().union(*map(below, named))


# What an edit runs again.

LOSSES = {f"train@{model}" for model in MODELS}
EDITS = {
    "src/bmask/data/report/report.html": {"report_ingest"},
    "src/bmask/quality/report.html": {"report_evaluate"},
    "src/bmask/html/page.html": {"report_ingest", "report_evaluate"},
    "src/bmask/serving/compositing.py": {"evaluate", "register"},
    "src/bmask/gan/losses.py": LOSSES,
    "src/bmask/gan/systems/cyclegan.py": {"train@cyclegan"},
    "src/bmask/gan/systems/inpainting.py": {"train@inpainting"},
    "src/bmask/gan/systems/new.py": set(),
    "src/bmask/gan/perceptual.py": {"masks", *LOSSES},
    "src/bmask/training/loop.py": LOSSES,
    "src/bmask/training/batches.py": {"masks", *LOSSES},
    "src/bmask/pasting/{drawn,cutouts,finder,finding}.py": {"masks", "judge", "evaluate", "register"},
    "src/bmask/faces/features.py": {"masks"},
    "results/masks/masks_train.npy": {"masks", *LOSSES, "evaluate", "register"},
    "src/bmask/quality/measuring.py": {"evaluate", "register"},
    "src/bmask/quality/scores.py": {"evaluate", "report_evaluate", "register"},
    "src/bmask/{tracking/logs,observers/checkpoint_sync,serving/model,progress,params/sections}.py": set(),
    "results/report/evaluate/report.html": {"report_evaluate", "register"},
    "results/ingest/summary.json": set(STAGES),
}


@pytest.mark.parametrize("paths", EDITS)
def test_an_edit_runs_again_what_depends_on_it(committed, paths, monkeypatch):
    monkeypatch.chdir(committed.folder)
    before, braces, after = re.fullmatch(r"(.*?)(?:\{(.*)\}(.*))?", paths).groups(default="")
    files = {Path(before + part + after): None for part in braces.split(",")}
    for file in files:
        files[file] = file.read_bytes() if file.exists() else None
        file.write_bytes((files[file] or b"") + b"\n# another word\n")
    try:
        with Repo() as repo:
            found = repo.status()  # `dvc status --json`, without starting a process
    finally:
        for file, content in files.items():
            file.unlink() if content is None else file.write_bytes(content)
    assert {name for name, changes in found.items() if changes != ["always changed"]} == EDITS[paths]
