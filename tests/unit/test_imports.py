"""What may import what, what importing costs, and that importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bmask
from bmask import reach

PACKAGE = Path(bmask.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__").replace("__init__", ""): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SERVED = "serving.served"  # models-from-code: importing it makes the model, so only MLflow imports it


def ours(path: Path) -> set[str]:
    """The modules of bmask that a file imports, in functions and for types too."""
    return reach.imported(path, types=True) - {""}


# Arrows run one way: cli -> stages -> data, quality, tracking, serving, training -> gan -> nothing of ours.

BASE = {"errors", "files", "progress", "parallel", "params", "compiled"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "progress": set(),
    "parallel": set(),
    "compiled": {"errors", "parallel"},
    "params": {"params", "errors", "gan"},  # the options of the systems
    "html": {"html"},
    "gan": {"gan", "errors"},
    "training": {"training", "gan", "errors"},
    "synthetic": {"synthetic", *BASE},
    "faces": {"faces", "gan", "errors", "progress", "compiled"},  # of gan: the detector's layers as features
    "pasting": {"pasting", "gan", "training", "data", *BASE},
    "data": {"data", "synthetic", "html", "faces", *BASE},
    "serving": {"serving", "gan", "data", "faces", *BASE},
    "quality": {"quality", "pasting", "data", "gan", "html", "serving", "faces", *BASE},
    "tracking": {"tracking", "serving", "gan", *BASE},
    "observers": {"observers", "training", "gan", "data", *BASE},
    "reach": set(),
    "fingerprint": {"gan", "reach", *BASE},
    "kubeflow": {"kubeflow", "tracking", "data", "gan", *BASE},  # of gan: how many GPUs a task sees
    "placement": {"gan", "training", *BASE},
    "recipe": {"placement", "tracking", "data", "training", "gan", *BASE},
    "commands": {"synthetic", "serving", "tracking", *BASE},
    "stages": {
        "stages",
        "recipe",
        "fingerprint",
        "placement",
        "data",
        "faces",
        "pasting",
        "quality",
        "tracking",
        "observers",
        "serving",
        "training",
        "gan",
        *BASE,
    },
}
STAGES = {path.stem for path in (PACKAGE / "stages").glob("[!_]*.py")}


def part(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if name and part(name) in ALLOWED])
def test_a_module_imports_only_what_lies_below_it(name):
    assert {part(target) for target in ours(MODULES[name])} <= ALLOWED[part(name)]


def test_the_teacher_knows_nothing_of_what_dresses_the_drawn_faces_nor_they_of_it():
    """Else the embedded set would measure how well the teacher's own masks are removed."""
    starts = {room: [name for name in MODULES if part(name) == room] for room in ("pasting", "synthetic")}
    for room, other in (("pasting", "synthetic"), ("synthetic", "pasting")):
        assert starts[room]
        assert not [name for name in starts[room] if other in {part(target) for target in ours(MODULES[name])}]
    reached = reach.reach(*starts["pasting"], without=())
    assert not [path for path in reached if path.parts[0] == "synthetic"]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_imports_no_other_stage(stage):
    assert not {target for target in ours(MODULES[f"stages.{stage}"]) if part(target) == "stages"}


def test_every_module_has_its_place_in_the_house():
    assert {part(name) for name in MODULES if name} <= {*ALLOWED, "cli", "__main__"}


def test_nothing_but_the_command_line_is_above_the_stages():
    for name, path in MODULES.items():
        if name not in ("cli", "__main__"):
            assert "cli" not in ours(path), name


def test_modules_do_not_import_each_other_in_circles():
    arrows = {name: ours(path) for name, path in MODULES.items()}  # in functions too
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for target in sorted(arrows.get(name, ()) - {name}):
                visit(target, (*above, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


HEAVY = {"mlflow", "albumentations", "torchvision", "dvc", "kfp", "matplotlib", "sklearn", "tensorflow"}


@pytest.mark.parametrize("name", [name for name in MODULES if name and name != SERVED])
def test_heavy_libraries_are_imported_only_where_they_are_used(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert not {part(target) for target in reach.names_imported(tree, functions=False)} & HEAVY


# In new processes, since this one has imported everything already.

ALONE = """
import pkgutil, sys
REFUSED = set("mlflow dvc kfp albumentations cv2 PIL pydantic yaml pandas scipy safetensors torchvision tqdm".split())

class Without:  # a finder that finds nothing of REFUSED, as if it were not installed
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in REFUSED else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import bmask.gan, bmask.training
for package in (bmask.gan, bmask.training):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        __import__(module.name)

# and they train: two steps, a checkpoint, a resume
import tempfile
from pathlib import Path
import numpy as np, torch
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.training.loop import LoopOptions, train
photos = {d: np.random.default_rng(0).integers(0, 255, (1, 4, 16, 16, 3), dtype=np.uint8) for d in "ab"}
system = AttentionGANOptions(filters=2, blocks=1, discriminator_filters=2, discriminator_layers=2, masks=2)
options = LoopOptions(epochs=1, batch_size=2, image_size=16, device="cpu", precision="fp32", threads=1)
with tempfile.TemporaryDirectory() as folder:
    for _ in range(2):
        assert train(system, photos, torch.zeros(1, 3, 16, 16), options, Path(folder), {}).steps == 2
found = {name.partition(".")[0] for name in sys.modules} & REFUSED
assert not found, found
"""

LIGHT = """
import sys
import bmask.cli
heavy = {name.partition(".")[0] for name in sys.modules} & set(
    "torch mlflow numpy pandas cv2 PIL albumentations scipy sklearn dvc pydantic yaml matplotlib".split())
assert not heavy, heavy
"""

QUIET = """
import importlib, os, pkgutil, random, sys, threading
import cv2, numpy, torch
import bmask
before, state, hook = dict(os.environ), random.getstate(), sys.excepthook
torch.manual_seed(1); numpy.random.seed(1)
for module in pkgutil.walk_packages(bmask.__path__, "bmask."):
    if module.name not in ("bmask.__main__", "bmask.serving.served"):
        importlib.import_module(module.name)
expected = torch.Generator().manual_seed(1)
assert torch.equal(torch.rand(3), torch.rand(3, generator=expected)), "importing drew from torch's generator"
assert numpy.random.rand() == numpy.random.RandomState(1).rand(), "importing drew from numpy's generator"
assert random.getstate() == state
changed = {key for key in {*before, *os.environ} if before.get(key) != os.environ.get(key)}
assert not changed, changed
assert sys.excepthook is hook
assert os.listdir(".") == [], os.listdir(".")
print(threading.active_count())
"""


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_gan_and_training_need_torch_and_numpy_alone(tmp_path):
    run(ALONE, tmp_path)


def test_the_command_line_starts_light(tmp_path):
    run(LIGHT, tmp_path)


@pytest.mark.slow
def test_importing_everything_writes_nothing_says_nothing_and_draws_nothing(tmp_path):
    assert run(QUIET, tmp_path).strip() == "1"
