"""Times ingest against a plain Pillow loop that decodes, crops, resizes and stores the same photos; they alternate.

    python benchmarks/ingest.py                      # some minutes
    python benchmarks/ingest.py --photos 100000 --rounds 1 --folder /some/disk/photos

Each run has its own process, so that its memory is measured alone; interpreter start and imports are not counted. The
plain loop checks nothing, hashes nothing and finds no duplicates: it is the least that photos cost on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

SIDE = 72  # px, the default of ingest.load_size
PHASES = ("read_squares", "assign_splits", "write_splits", "write_manifest", "digest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    parser.add_argument("--folder", type=Path, help="where the drawn photos are kept (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--run", choices=["plain", "ours"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.photos < 1000:
        parser.error("--photos must be at least 1000, since a tenth of them must fill all splits")
    with tempfile.TemporaryDirectory(prefix="bmask-bench-", dir=args.folder and args.folder.parent) as scratch:
        folder = args.folder or Path(scratch) / "photos"
        if args.run:
            print(json.dumps((_plain if args.run == "plain" else _ours)(folder, Path(scratch))))
            return
        _draw(folder, args.photos)
        few = Path(scratch) / "few"
        _draw(few, args.photos // 10)
        found = _pairs(folder, args.photos, args.rounds)
        found["ours_mb_of_a_tenth"] = _run("ours", few)["mb"]
    print(json.dumps(found) if args.json else _table(found))


def _draw(folder: Path, count: int) -> None:
    if not folder.exists():
        from photo_folder import draw_folder

        draw_folder(folder, count)


def _pairs(folder: Path, photos: int, rounds: int) -> dict[str, object]:
    runs: dict[str, list[dict]] = {"plain": [], "ours": []}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            runs[name].append(_run(name, folder))
    ratios = [plain["s"] / ours["s"] for plain, ours in zip(*runs.values(), strict=True)]
    medians = {name: {key: statistics.median(run[key] for run in of) for key in ("s", "cpu_s", "mb")}
              for name, of in runs.items()}  # fmt: skip
    return {
        "photos": photos,
        "cores": len(os.sched_getaffinity(0)),
        **{f"{name}_photos_per_s": photos / medians[name]["s"] for name in runs},
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        **{f"{name}_cpu_us_per_photo": 1e6 * medians[name]["cpu_s"] / photos for name in runs},
        "ours_cores_busy": medians["ours"]["cpu_s"] / medians["ours"]["s"],
        **{f"{name}_mb": medians[name]["mb"] for name in runs},
        "phases_s": {key: statistics.median(run["phases"][key] for run in runs["ours"]) for key in PHASES},
        "s": medians["ours"]["s"],
    }


def _run(name: str, folder: Path) -> dict:
    command = [sys.executable, __file__, "--run", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def _plain(folder: Path, scratch: Path) -> dict:
    import numpy as np
    from PIL import Image

    def loop() -> None:
        paths = sorted(folder.rglob("*.jpg"))
        array = np.lib.format.open_memmap(scratch / "plain.npy", "w+", np.uint8, (len(paths), SIDE, SIDE, 3))
        for index, path in enumerate(paths):
            with Image.open(path) as file:
                photo = file.convert("RGB")
            side = min(photo.size)
            left, top = (photo.width - side) // 2, (photo.height - side) // 2
            square = photo.crop((left, top, left + side, top + side))
            array[index] = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        array.flush()

    return _measured(loop)


def _ours(folder: Path, scratch: Path) -> dict:
    import bmask.stages.ingest as stage
    from bmask.params import parse_params

    phases: dict[str, float] = {}

    def timed(name: str, action: Callable) -> Callable:
        def call(*args: object) -> object:
            began = time.perf_counter()
            try:
                return action(*args)
            finally:
                phases[name] = time.perf_counter() - began

        return call

    for name in PHASES:
        setattr(stage, name, timed(name, getattr(stage, name)))
    params = parse_params({"ingest": {"source": str(folder), "load_size": SIDE}})
    return {**_measured(lambda: stage.ingest(params, scratch / "ingest")), "phases": phases}


def _measured(action: Callable[[], None]) -> dict[str, float]:
    peak, done = [0], threading.Event()
    watch = threading.Thread(target=_watch, args=(peak, done))
    watch.start()
    began = time.perf_counter()
    try:
        action()
        seconds = time.perf_counter() - began
    finally:
        done.set()
        watch.join()
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"s": seconds, "cpu_s": sum(own.ru_utime + own.ru_stime for own in usage), "mb": peak[0] / 2**20}


def _watch(peak: list[int], done: threading.Event) -> None:
    """Tracks the peak memory of this process and its children; a child's own record starts at its parent's size."""
    here = psutil.Process()
    while not done.wait(0.1):
        total = here.memory_info().rss
        for child in here.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += child.memory_info().rss
        peak[0] = max(peak[0], total)


def _table(found: dict) -> str:
    other = found["s"] - sum(found["phases_s"].values())
    phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in found["phases_s"].items())
    return "\n".join(
        [
            "| photos | plain, photos/s | ingest, photos/s | ratio | plain, MB | ingest, MB | ingest of a tenth, MB |",
            "|---|---|---|---|---|---|---|",
            f"| {found['photos']} | {found['plain_photos_per_s']:.0f} | {found['ours_photos_per_s']:.0f} "
            f"| {found['ratio']:.2f} ({found['ratio_min']:.2f} to {found['ratio_max']:.2f}) | {found['plain_mb']:.0f} "
            f"| {found['ours_mb']:.0f} | {found['ours_mb_of_a_tenth']:.0f} |",
            "",
            f"CPU time of a photo: {found['plain_cpu_us_per_photo']:.0f} us in the plain loop, "
            f"{found['ours_cpu_us_per_photo']:.0f} us in ingest, which keeps {found['ours_cores_busy']:.2f} "
            f"of {found['cores']} cores busy.",
            f"Seconds of ingest: {phases}; listing, headers and everything else {other:.1f}.",
        ]
    )


if __name__ == "__main__":
    main()
