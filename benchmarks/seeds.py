"""Measures the effect of a change of the params over several training seeds; one seed cannot tell it from chance.

    python benchmarks/seeds.py --folder /some/disk/seeds                   # params.yaml unchanged: half an hour
    python benchmarks/seeds.py --folder /some/disk/seeds train.ema=0       # also without the average
    python benchmarks/seeds.py --folder /some/disk/seeds train.ema=0,train.pool=0 models.cyclegan.network.w_cycle=10

Trainings share their split, augmented photos, masks and judge; a stage runs again only if a change affects it. They
run one after the other, each in its own process. Finished results in the folder are kept, and a killed training
resumes. Prints the mean over the seeds and the standard deviation (n - 1); --csv writes each row when it is finished.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import yaml
from pairing import table

from bmask.params import Params, load_params

SCORES = (
    *("residue_rate", "paste_distance", "paste_psnr", "paste_ssim", "paste_sharpness", "paste_outside", "paste_iou"),
    *("cutout_outside", "cutout_area", "cutout_iou", "bare_untouched", "realism"),
)
# Stages that rows share, with the sections or keys that affect them.
SHARED = {
    "ingest": {"ingest"},
    "augment": {"ingest", "augment"},
    "masks": {"ingest", "augment", "masks", "train.image_size"},
    "judge": {"ingest", "judge"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("changes", nargs="*", help="SECTION.KEY=VALUE, several joined by commas; each argument adds a row per model")
    add("--params", type=Path, default=Path("params.yaml"))
    add("--models", nargs="*", help="models of the params (default: all)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--always", default="", help="changes for all rows, such as a shorter schedule")
    add("--scores", nargs="+", default=SCORES, metavar="SCORE")
    add("--csv", type=Path, help="file for the finished rows, written again after each")
    add("--folder", type=Path, required=True, help="where results and checkpoints are kept")
    args = parser.parse_args()
    rows = []
    for change in ("", *args.changes):
        found = [_scores(args, change, seed) for seed in args.seeds]
        for row in _rows(found, args.scores):
            rows.append({"change": change or "as it is", "seeds": str(len(args.seeds)), **row})
            if args.csv:
                _write(args.csv, rows)
    print(table(rows))


def _scores(args: argparse.Namespace, change: str, seed: int) -> dict[str, dict[str, float]]:
    """{model: {score: value}} of one seed."""
    changes = [*filter(None, (*args.always.split(","), *change.split(",")))]
    params = load_params(args.params, [*changes, f"train.seed={seed}"])
    params = params.model_copy(update={"models": {name: params.models[name] for name in args.models or params.models}})
    folder = args.folder.resolve() / f"{change or 'as it is'}, {seed}"
    written = _written(params, folder)
    keys = {each.partition("=")[0] for each in change.split(",")}
    touched = keys | {key.partition(".")[0] for key in keys}
    for stage, sections in SHARED.items():
        own = sections & touched
        home = args.folder.resolve() / (f"with {change}" if own else "shared")
        if not (home / stage).exists():
            for before in SHARED if own else ():  # link earlier stages that the change does not affect
                if before != stage and not SHARED[before] & touched and not (home / before).exists():
                    home.mkdir(parents=True, exist_ok=True)
                    (home / before).symlink_to(args.folder.resolve() / "shared" / before)
            shared = params if own else load_params(args.params, [*filter(None, args.always.split(","))])
            _bmask(stage, params=_written(shared, home / "of" / stage), results=home)
        if not (folder / stage).exists():
            (folder / stage).symlink_to(home / stage)
    for model in params.models:
        if not (folder / "train" / model).exists():
            _bmask("train", model, params=written, results=folder)
    if not (folder / "evaluate").exists():
        _bmask("evaluate", params=written, results=folder)
    found = json.loads((folder / "evaluate" / "scores.json").read_text())
    return {model: found[model] for model in params.models}


def _rows(found: list[dict[str, dict[str, float]]], scores: list[str]) -> list[dict[str, str]]:
    return [
        {"model": model, **{score: _spread([one[model].get(score, float("nan")) for one in found]) for score in scores}}
        for model in found[0]
    ]


def _spread(values: list[float]) -> str:
    known = [value for value in values if not math.isnan(value)]  # NaN: the system does not have this score
    if not known:
        return "–"
    return f"{statistics.mean(known):.3f}" + (f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else "")


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _written(params: Params, folder: Path) -> Path:
    """Writes the params into the folder of their results, and exits if the folder has other params.

    Each row has its own checkpoints: trainings that differ only in precision would share those of one folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, tree = folder / "params.yaml", params.model_dump(mode="json", by_alias=True)
    tree["train"]["checkpoints"] = str(folder / "checkpoints")
    if path.exists() and yaml.safe_load(path.read_text(encoding="utf-8")) != tree:
        sys.exit(f"{folder} holds results of other params; choose another --folder")
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def _bmask(*words: str, params: Path, results: Path) -> None:
    """Runs a command with MLflow's store beside the results."""
    command = [sys.executable, "-m", "bmask", *words, "--params", str(params), "--results", str(results)]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{results.parent}/mlflow.db"}
    done = subprocess.run(command, env={**os.environ, **store}, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with code {done.returncode}")


if __name__ == "__main__":
    main()
