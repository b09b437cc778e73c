"""What a change of the params brings, over several seeds of the training: one seed tells luck from nothing.

    python benchmarks/seeds.py --folder /some/disk/seeds                   # as params.yaml has it: half an hour
    python benchmarks/seeds.py --folder /some/disk/seeds train.ema=0       # and without the average
    python benchmarks/seeds.py --folder /some/disk/seeds train.ema=0,train.pool=0 models.cyclegan.network.w_cycle=10

All trainings share one split, its augmented photos and one judge, and run one after the other, each in a process of
its own; what lies finished in the folder is not done again, and what was killed goes on. Prints the mean over the seeds
and the standard deviation (of n - 1).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import yaml
from pairing import table

from bmask.params import Params, load_params

SCORES = ("unmask_rate", "judge_kid", "upper_ssim", "untouched", "outside_mae", "region_psnr")
SHARED = ("ingest", "augment", "masks", "judge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("changes", nargs="*", help="SECTION.KEY=VALUE, several joined by commas; each argument is one more row a model")
    add("--params", type=Path, default=Path("params.yaml"))
    add("--models", nargs="*", help="of the params; all")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--folder", type=Path, required=True, help="where results and checkpoints stay")
    args = parser.parse_args()
    if any(change.startswith(SHARED) for each in args.changes for change in each.split(",")):
        parser.error(f"{', '.join(SHARED)} are the same for all rows; change them in the params")
    shared = args.folder.resolve() / "shared"
    written = _written(load_params(args.params), shared)
    for stage in SHARED:
        if not (shared / stage).exists():
            _bmask(stage, params=written, results=shared)
    rows = []
    for change in ("", *args.changes):
        found = []
        for seed in args.seeds:
            changes = [*filter(None, change.split(",")), f"train.seed={seed}"]
            params = load_params(args.params, changes)
            models = {name: params.models[name] for name in args.models or params.models}
            params = params.model_copy(update={"models": models})
            found.append(_scores(params, shared, shared.with_name(f"{change or 'as it is'}, {seed}")))
        rows += [{"change": change or "as it is", **row} for row in _rows(found)]
    print(table(rows))


def _scores(params: Params, shared: Path, folder: Path) -> dict[str, dict[str, float]]:
    """{model: {score: value}} of one seed."""
    written = _written(params, folder)
    for stage in SHARED:
        if not (folder / stage).exists():
            (folder / stage).symlink_to(shared / stage)
    for model in params.models:
        if not (folder / "train" / model).exists():
            _bmask("train", model, params=written, results=folder)
    _bmask("evaluate", params=written, results=folder)
    found = json.loads((folder / "evaluate" / "scores.json").read_text())
    return {model: found[model] for model in params.models}


def _rows(found: list[dict[str, dict[str, float]]]) -> list[dict[str, str]]:
    return [
        {"model": model, **{score: _spread([one[model][score] for one in found]) for score in SCORES}}
        for model in found[0]
    ]


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _written(params: Params, folder: Path) -> Path:
    """The params in the folder of their results, with checkpoints: a row in another precision is one of its own.

    Other params need another folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, tree = folder / "params.yaml", params.model_dump(mode="json", by_alias=True)
    tree["train"]["checkpoints"] = str(folder / "checkpoints")
    if path.exists() and yaml.safe_load(path.read_text(encoding="utf-8")) != tree:
        sys.exit(f"{folder} holds results of other params; take another --folder")
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def _bmask(*words: str, params: Path, results: Path) -> None:
    """With MLflow's store beside the results."""
    command = [sys.executable, "-m", "bmask", *words, "--params", str(params), "--results", str(results)]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{results.parent}/mlflow.db"}
    done = subprocess.run(command, env={**os.environ, **store}, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with code {done.returncode}")


if __name__ == "__main__":
    main()
