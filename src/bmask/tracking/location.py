"""Where an MLflow store is: its address, made absolute, and its artifacts beside a database that is a file.

MLflow writes absolute paths into a database. They are brought in line with the folder where the database is now, so
that a checkout may be renamed, moved and copied, and a copy never writes into the original.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path

from bmask.progress import say

DEFAULT = "sqlite:///mlflow.db"
FOLDER = "bmask.store_folder"  # tag of experiments: the folder of the database, as its paths have it
PATHS = (  # where MLflow's tables hold paths
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def address() -> tuple[str, Path | None]:
    """MLFLOW_TRACKING_URI, else a database in the working folder; and its file, where it is one.

    A relative SQLite file is taken from the working folder; in the temporary copy where DVC runs a queued experiment,
    from the same folder of the repository itself, since the copy is thrown away.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    given = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        return given, None
    if url.get_backend_name() != "sqlite" or url.host or url.database in (None, "", ":memory:"):
        return given, None
    file = working_folder() / url.database
    return url.set(database=str(file)).render_as_string(hide_password=False), file


def working_folder() -> Path:
    """The working folder, or what it is a temporary copy of: DVC names the repository of a queued experiment."""
    here, repository = Path.cwd(), os.environ.get("DVC_ROOT")
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    return Path(repository) / here.relative_to(root) if repository and root else here


def place(file: Path, experiment: str) -> dict:
    """What a new experiment is made with: artifacts beside the database, whatever the working folder, and a tag."""
    artifacts = _folder(file) / "mlruns" / re.sub(r"[^\w.-]", "_", experiment)
    return {"artifact_location": str(artifacts), "tags": {FOLDER: str(_folder(file))}}


def follow(file: Path, experiment: str) -> None:
    """Brings a database's paths in line with its folder, where it was moved or copied since it was last used.

    `experiment` is the one that runs go to; where it has not been told its place, its artifacts tell.
    """
    here = str(_folder(file))
    with contextlib.closing(sqlite3.connect(file, timeout=20)) as database, database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiment_tags'").fetchone():
            return
        told = database.execute("SELECT DISTINCT value FROM experiment_tags WHERE key = ?", (FOLDER,)).fetchall()
        for before in {before for (before,) in told or _guessed(database, experiment, here)} - {here}:
            say(f"the MLflow store was in {before} and is in {here} now; its paths follow")
            _rewrite(database, before, here)


def _guessed(database: sqlite3.Connection, experiment: str, here: str) -> list[tuple[str]]:
    """Where the database was by its artifacts, if these are beside it now or nowhere."""
    query = "SELECT artifact_location FROM experiments WHERE name = ?"
    places = [Path(place) for (place,) in database.execute(query, (experiment,)) if "://" not in place]
    moved = [p for p in places if (Path(here) / "mlruns" / p.name).is_dir() or not p.is_dir()]
    return [(str(place.parent.parent),) for place in moved if place.parent.name == "mlruns"]


def _rewrite(database: sqlite3.Connection, before: str, here: str) -> None:
    for table, column in PATHS:
        for old, new in ((f"{before}/", f"{here}/"), (f"file://{before}/", f"file://{here}/")):
            clause = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
            database.execute(clause, (new, len(old) + 1, len(old), old))
    database.execute("UPDATE experiment_tags SET value = ? WHERE key = ? AND value = ?", (here, FOLDER, before))


def _folder(file: Path) -> Path:
    return file.resolve().parent
