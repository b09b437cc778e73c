"""The whole pipeline at a small scale, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from bmask.params import parse_params

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "ingest": {"drawn": {"masked": 90, "unmasked": 90, "size": 40}, "load_size": 36, "validation": 0.3},
    "augment": {"copies": 2},
    "masks": {"count": 40, "filters": 8, "steps": 60, "batch_size": 8, "lr": 0.01},
    "train": {"image_size": 32, "processes": 1, "threads": 1, "samples": 2, "sample_every": 1, "checkpoint_every": 1}
    | {"log_every": 2},
    "models": {
        name: {
            "network": {**network, "blocks": 1, "discriminator_filters": 4},
            "schedule": {"epochs": 2, "constant_epochs": 1, "batch_size": 2, "epoch_photos": 8},
        }
        for name, network in {
            "cyclegan": {"system": "cyclegan", "filters": 4, "discriminator_layers": 1},
            "attentiongan": {"system": "attentiongan", "filters": 4, "discriminator_layers": 1}
            | {"scheme": 2, "masks": 3},
            "inpainting": {"system": "inpainting", "filters": 8, "cutouts": 0.5, "game_epoch": 1},
        }.items()
    },
    # Tests here check the pipeline, not the judge, which cannot pass meaningful checks at this size.
    "judge": {"filters": 4, "steps": 4, "batch_size": 4, "min_clean": 0, "min_found": 0, "max_fooled": 1},
    "evaluate": {"bootstrap": 20, "pictures": 2, "min_told": 0},
    "register": {"max_residue_rate": 1, "max_paste_outside": 255, "max_cutout_outside": 255, "max_cutout_area": 99}
    | {"max_grade": 1},
}


class Workspace:
    """A fresh git and DVC repository with this checkout's pipeline and small params."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("dvc.yaml", "embedded", "src", "pipelines", "components"):
            source = ROOT / name
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)
        self.write(TINY)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        keep = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        self.env = {**keep, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "src")}
        self.run("git", "init", "-q", ".")
        self.run("dvc", "init", "-q")

    def write(self, params: dict) -> None:
        whole = parse_params(params).model_dump(mode="json", by_alias=True)  # DVC knows no defaults
        (self.folder / "params.yaml").write_text(yaml.safe_dump(whole))

    def run(self, *command: str, env: dict[str, str] | None = None) -> str:
        whole = {**self.env, **(env or {})}
        done = subprocess.run(command, cwd=self.folder, env=whole, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout

    def json(self, path: str) -> dict:
        return json.loads((self.folder / path).read_text())
