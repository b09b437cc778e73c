"""Where an MLflow store is: its absolute address, and the folder of its artifacts beside an SQLite file.

MLflow writes absolute paths into a database. This module updates them when the database has moved, so that a checkout
may be renamed, moved and copied, and a copy never writes into the original.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
from pathlib import Path

from bmask.progress import say

DEFAULT = "sqlite:///mlflow.db"
FOLDER = "bmask.store_folder"  # tag of an experiment: the database's folder that its paths refer to
PATHS = (  # where MLflow's tables hold paths
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def address() -> tuple[str, Path | None]:
    """The store's address (MLFLOW_TRACKING_URI, else a database in the working folder), and its file if it is SQLite.

    A relative file is looked up in the working folder. DVC runs a queued experiment in a temporary copy of the
    repository, which is deleted afterwards; there the file is looked up in the same folder of the repository.
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
    """The working folder; in DVC's temporary copy of a repository (DVC_ROOT), the same folder of the repository."""
    here, repository = Path.cwd(), os.environ.get("DVC_ROOT")
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    return Path(repository) / here.relative_to(root) if repository and root else here


def place(file: Path, experiment: str) -> dict:
    """Options for a new experiment: artifacts beside the database, whatever the working folder, and a tag."""
    artifacts = _folder(file) / "mlruns" / re.sub(r"[^\w.-]", "_", experiment)
    return {"artifact_location": str(artifacts), "tags": {FOLDER: str(_folder(file))}}


def follow(file: Path) -> None:
    """Updates the paths in a database that was moved or copied since it was last used.

    Each experiment is handled separately, since the database may be moved without its files, and may hold experiments
    that bmask did not make. The paths are updated if files of its runs are beside the database now. Otherwise they are
    updated only if it has our tag and this is a copy (the original database exists) or the old files are gone.
    """
    here, said = _folder(file), []
    with contextlib.closing(sqlite3.connect(file, timeout=20)) as database, database:
        columns = "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"
        paths = set(PATHS) & set(database.execute(columns))  # another MLflow has other tables; it reports that later
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiment_tags'").fetchone():
            return
        query = "SELECT e.experiment_id, e.name, e.artifact_location, t.value FROM experiments e LEFT JOIN"
        query += " experiment_tags t ON t.experiment_id = e.experiment_id AND t.key = ?"
        for number, name, location, tag in database.execute(query, (FOLDER,)).fetchall():
            old = Path((location or "").removeprefix("file://"))
            before = Path(tag) if tag else old.parent.parent
            if before == here or not old.is_absolute() or not old.is_relative_to(before / "mlruns"):
                continue
            new = here / old.relative_to(before)
            kept = _folders(database, paths, number, old)
            moved = any((new / folder).is_dir() for folder in kept)
            needed = any((old / folder).is_dir() for folder in kept) and not (before / file.name).is_file()
            if moved or (tag and not needed):
                _rewrite(database, paths, (str(old), str(new)))
                database.execute(
                    "UPDATE experiment_tags SET value = ? WHERE key = ? AND experiment_id = ?",
                    (str(here), FOLDER, number),
                )
                said.append(f"the MLflow store was in {before} and is in {here} now; its paths are updated")
            elif tag:
                said.append(f"the MLflow store is in {here} now; the files of its experiment {name} stay in {old}")
    for line in dict.fromkeys(said):
        _say_once(line)


_say_once = functools.cache(say)  # a process connects several times


def _folders(database: sqlite3.Connection, paths: set[tuple[str, str]], experiment: int, place: Path) -> list[Path]:
    """The folders of an experiment's runs and models, relative to the experiment's folder."""
    found = []
    for table, column in paths & {("runs", "artifact_uri"), ("logged_models", "artifact_location")}:
        rows = database.execute(f"SELECT {column} FROM {table} WHERE experiment_id = ?", (experiment,))
        found += [Path(path.removeprefix("file://")) for (path,) in rows if path]
    return [path.relative_to(place) for path in found if path.is_relative_to(place)]


def _rewrite(database: sqlite3.Connection, paths: set[tuple[str, str]], places: tuple[str, str]) -> None:
    """Replaces the first of two folders, the old one of an experiment, by the second in all paths."""
    for table, column in paths:
        for scheme in ("", "file://"):
            old, new = (scheme + place for place in places)
            clause = f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
            clause += f" WHERE {column} = ? OR substr({column}, 1, ?) = ?"
            database.execute(clause, (new, len(old) + 1, old, len(old) + 1, f"{old}/"))


def _folder(file: Path) -> Path:
    return file.resolve().parent
