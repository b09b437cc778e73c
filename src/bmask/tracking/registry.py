"""The versions in MLflow's registry: listing them, choosing the champion by hand, and rolling it back.

The alias `champion` decides which version is served. A tag of the registered model lists the earlier champions, the
latest at the end, so that `rollback` can be repeated. A version that was rolled back is marked, and register does not
promote it again by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bmask.errors import DataError
from bmask.tracking.resolving import REGISTERED

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION, CHALLENGER = "champion", "challenger"
HISTORY, ROLLED_BACK = "bmask.champions", "bmask.rolled_back"  # tags of the registered model and of a version
REPLACED = "bmask.replaced_by"  # tag of a version whose files are gone
HISTORY_LENGTH = 100  # champions
SCORE = "score."  # prefix of the tags that hold scores
SHOWN = ("paste_distance", "residue_rate", "paste_outside", "region_ssim", "kid")  # scores in the table


@dataclass(frozen=True)
class Version:
    """One version of the registered model, with the tags that register gave it."""

    number: int
    aliases: tuple[str, ...]
    created: float  # seconds since 1970
    run_id: str
    source: str
    tags: dict[str, str]


def show(name: str = REGISTERED) -> str:
    """A table of all versions, the newest first."""
    from bmask.tracking.store import NoStore, connect

    try:
        found = versions(connect(create=False), name)
    except NoStore:
        found = []
    if not found:
        return f"{name} has no versions yet: run the pipeline first"
    scores = [score for score in SHOWN if any(SCORE + score in version.tags for version in found)]
    rows = [("version", "alias", "model", *scores, "git", "data", "registered")]
    for version in found:
        alias = " ".join(version.aliases) + (" rolled back" if ROLLED_BACK in version.tags else "")
        alias += f" gone, see {version.tags[REPLACED]}" if REPLACED in version.tags else ""
        values = [_short_number(version.tags.get(SCORE + score)) for score in scores]
        sha, dirty, _ = version.tags.get("git_sha", "-").partition("-dirty")
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created))
        data = version.tags.get("data_digest", "-")[:8]
        row = (str(version.number), alias.strip() or "-", version.tags.get("model", "-"), *values)
        rows.append((*row, sha[:8] + ("+" if dirty else ""), data, created))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def set_champion(version: int | str, name: str = REGISTERED) -> str:
    """Makes a version the champion, whatever its scores. Returns a message. Raises DataError if it does not exist."""
    from bmask.tracking.store import connect

    client = connect(create=False)
    found = {str(version.number): version for version in versions(client, name)}
    if str(version) not in found:
        raise DataError(f"{name} has no version {version}; there are {', '.join(found) or 'none'}")
    chosen = found[str(version)]
    if REPLACED in chosen.tags:
        raise DataError(f"the files of version {version} are gone; version {chosen.tags[REPLACED]} has taken its place")
    if CHAMPION in chosen.aliases:
        return f"version {version} is the champion already"
    promote(client, name, chosen.number)
    return f"version {version} ({chosen.tags.get('model', '-')}) is the champion now"


def rollback(name: str = REGISTERED) -> str:
    """Makes the previous champion the champion again; it can be repeated. Returns a message.

    Raises DataError when there is no champion, or no earlier one is left.
    """
    from bmask.tracking.store import connect

    client = connect(create=False)
    found = {version.number: version for version in versions(client, name)}
    present = champion(client, name)
    if present is None:
        raise DataError(f"{name} has no champion; `bmask champion set VERSION` chooses one")
    before = _history(client, name)
    while before and (before[-1] == present.number or before[-1] not in found):  # left by a kill in promote, or deleted
        before.pop()
    if not before:
        raise DataError(f"no champion before version {present.number} is left; set one with `bmask champion set`")
    last = before.pop()
    client.set_model_version_tag(name, str(present.number), ROLLED_BACK, time.strftime("%Y-%m-%dT%H:%M:%S"))
    client.set_registered_model_alias(name, CHAMPION, str(last))
    _remember(client, name, before)
    _clear_marks(client, name, found[last])
    return f"version {last} is the champion again, version {present.number} is rolled back"


def promote(client: MlflowClient, name: str, number: int) -> None:
    """Gives the alias to a version and adds the present champion to the history.

    The history is written first: a kill in between is harmless, since rollback skips the present champion.
    """
    found = {version.number: version for version in versions(client, name)}
    present = champion(client, name)
    if present is not None and present.number != number:
        _remember(client, name, [*_history(client, name), present.number])
    client.set_registered_model_alias(name, CHAMPION, str(number))
    _clear_marks(client, name, found[number])


def replace(client: MlflowClient, name: str, version: Version, successor: int) -> None:
    """Gives a version's aliases and its place in the history to its successor. A kill is harmless."""
    _remember(client, name, [successor if n == version.number else n for n in _history(client, name)])
    for alias in version.aliases:
        client.set_registered_model_alias(name, alias, str(successor))
    client.set_model_version_tag(name, str(version.number), REPLACED, str(successor))


def versions(client: MlflowClient, name: str) -> list[Version]:
    """All versions, the newest first; empty if nothing is registered under the name."""
    aliases = _aliases(client, name)
    if aliases is None:
        return []
    found = [
        Version(
            int(version.version),
            tuple(alias for alias, number in aliases.items() if number == int(version.version)),
            version.creation_timestamp / 1000,
            version.run_id or "",
            version.source or "",
            dict(version.tags),
        )
        for version in _all_versions(client, name)
    ]
    return sorted(found, key=lambda version: -version.number)


def champion(client: MlflowClient, name: str) -> Version | None:
    """The version with the alias, if there is one."""
    return next((version for version in versions(client, name) if CHAMPION in version.aliases), None)


def _all_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{name}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _aliases(client: MlflowClient, name: str) -> dict[str, int] | None:
    model = registered_model(client, name)
    return None if model is None else {alias: int(number) for alias, number in model.aliases.items()}


def registered_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """The registered model, or None where there is none. Other failures of the store are raised."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _history(client: MlflowClient, name: str) -> list[int]:
    model = registered_model(client, name)
    return [int(number) for number in (model.tags.get(HISTORY, "") if model else "").split(",") if number]


def _remember(client: MlflowClient, name: str, numbers: list[int]) -> None:
    client.set_registered_model_tag(name, HISTORY, ",".join(map(str, numbers[-HISTORY_LENGTH:])))


def _clear_marks(client: MlflowClient, name: str, version: Version) -> None:
    """Removes the alias `challenger` and the mark of a rollback, which a champion must not have."""
    if CHALLENGER in version.aliases:
        client.delete_registered_model_alias(name, CHALLENGER)
    if ROLLED_BACK in version.tags:
        client.delete_model_version_tag(name, str(version.number), ROLLED_BACK)


def _short_number(text: str | None) -> str:
    try:
        return f"{float(text or ''):.3f}"
    except ValueError:
        return "-"
