"""Measures what inpainting reaches on drawn faces with perfect cut-outs, which are made by the truth.

    make repro && python benchmarks/ceiling.py --folder /some/disk/ceiling

The recipe of params.yaml learns from drawn masks and from cut-outs of the mask finder, since real photos have no truth.
Here all pasted masks are cut out of the training photos (not of augmented copies) by their true regions, as a perfect
mask finder would. Photos, judge and everything else come from `results`; prints a row for the recipe and one for the
perfect cut-outs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from pairing import table
from seeds import SCORES

from bmask.data.split.dataset import Dataset, resize
from bmask.files import fresh_folder, read_json, write_json
from bmask.params import load_params
from bmask.pasting.cutouts import lift
from bmask.synthetic.folder import Plan

SEED = 13


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results"), help="results of `dvc repro`")
    parser.add_argument("--folder", type=Path, required=True, help="where masks, network and scores are kept")
    args = parser.parse_args()
    folder, results = args.folder.resolve(), args.results.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ("ingest", "augment", "judge"):
        if not (folder / stage).exists():
            (folder / stage).symlink_to(results / stage)
    if not (folder / "masks").exists():
        _masks(args.params, results, folder / "masks")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    params = load_params(args.params)
    params = params.model_copy(update={"models": {"inpainting": params.models["inpainting"]}})
    tree = params.model_dump(mode="json", by_alias=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    for words in (["train", "inpainting"], ["evaluate"]):
        command = [sys.executable, "-m", "bmask", *words, "--params", "params.yaml", "--results", "."]
        subprocess.run(command, cwd=folder, env={**os.environ, **store}, check=True)
    rows: list[dict[str, object]] = []
    for name, place in (("recipe", results), ("perfect cut-outs", folder)):
        scores = json.loads((place / "evaluate" / "scores.json").read_text())["inpainting"]
        shown = ("region_psnr", "region_ssim", *SCORES)
        rows.append({"masks": name, **{score: f"{scores[score]:.3f}" for score in shown if score in scores}})
    print(table(rows))


def _masks(params_file: Path, results: Path, out: Path) -> None:
    """Writes the output of the stage masks, but with masks cut out by the truth of the training photos."""
    params, dataset = load_params(params_file), Dataset.open(results / "ingest")
    if (params.ingest.source, params.ingest.fit) != ("embedded", "aligned"):
        sys.exit("only ingest.source embedded with ingest.fit aligned has a truth; change the params")
    drawn, settings = params.ingest.drawn, params.masks
    plan = Plan(Path(), params.ingest.masked, params.ingest.unmasked, drawn.seed, drawn.size, drawn.hard)
    photos, side = np.array(dataset.photos("masked", "train")), dataset.load_size
    regions = [plan.face(0, int(Path(name).stem.split("_")[1])).region for name in dataset.names("masked", "train")]
    alpha = np.stack([resize(np.repeat(region[None, ..., None], 3, -1), side)[0, ..., 0] for region in regions])
    bank = lift(photos, alpha, settings.count, SEED)
    bare = np.random.default_rng(SEED).choice(len(bank), round(settings.bare * len(bank)), replace=False)
    bank[bare, ..., 3] = 0
    with fresh_folder(out) as folder:
        shutil.copytree(results / "masks", folder, dirs_exist_ok=True)
        np.save(folder / "masks_train.npy", bank[None])
        np.save(folder / "cutouts_train.npy", np.concatenate([photos, alpha[..., None]], -1)[None])
        about = read_json(folder / "summary.json")
        write_json(folder / "summary.json", about | {"digest": f"the set's own of {about['digest']}", "enough": True})


if __name__ == "__main__":
    main()
