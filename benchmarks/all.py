"""Prints the tables of docs/results.md on the speed of training and translation: `make bench`, on an idle machine.

Each row runs in its own process, so that no row inherits another's memory, caches or threads.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

from pairing import table

HERE = Path(__file__).parent
SYSTEMS = (["--system", "cyclegan"], ["--system", "attentiongan"])
SIZES = (
    ["--size", "256", "--batch", "1", "--memory"],
    ["--size", "128", "--batch", "4"],
    ["--size", "64", "--batch", "4"],
)
TABLES = {
    "A training step, published sizes: the papers' step against ours": [
        ["train_step.py", *size, *system] for size, system in itertools.product(SIZES, SYSTEMS)
    ],
    "The same without bf16": [
        ["train_step.py", "--size", "64", "--batch", "4", "--precision", "fp32", *system] for system in SYSTEMS
    ],
    "Taking masks off: fp32 against ours": [
        ["translate.py", "--size", "256", "--batch", batch, *system]
        for batch, system in itertools.product("14", SYSTEMS)
    ],
    "Waiting for data": [
        ["waiting.py", *size] for size in (["--size", "128", "--batch", "4"], ["--size", "64", "--batch", "4"])
    ],
}


def main() -> None:
    for title, commands in TABLES.items():
        print(f"\n{title}\n", flush=True)
        rows = [_row(command) for command in commands]
        names = list(dict.fromkeys(name for row in rows for name in row))
        print(table([{name: row.get(name, "") for name in names} for row in rows]), flush=True)


def _row(command: list[str]) -> dict:
    print("   ", *command, file=sys.stderr, flush=True)
    whole = [sys.executable, str(HERE / command[0]), *command[1:], "--json"]
    done = subprocess.run(whole, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
