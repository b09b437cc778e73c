"""params.yaml as typed, frozen sections. Unknown keys, wrong types and impossible values are errors that name the key.

One section per stage, named like the stage. `models` names the trainings: each is a recipe of one translation system,
and each entry is one training in the pipeline.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from bmask.errors import ParamsError
from bmask.params.sections import S3, Augment, Cluster, Evaluate, Ingest, Judge, Masks, Model, Register, Section, Train

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Params(Section):
    ingest: Ingest = Ingest()
    s3: S3 = S3()
    augment: Augment = Augment()
    masks: Masks = Masks()
    train: Train = Train()
    models: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Model] = Field(default_factory=dict)
    judge: Judge = Judge()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(default=Register(), alias="register")
    cluster: Cluster = Cluster()

    @model_validator(mode="after")
    def _sizes_fit(self) -> Params:
        both = {"ingest", "train"} <= self.model_fields_set  # a task on Kubeflow gets only the sections it reads
        if both and self.train.image_size > self.ingest.load_size:
            raise ValueError(
                f"train.image_size {self.train.image_size} exceeds ingest.load_size {self.ingest.load_size}"
            )
        if both and self.ingest.fit == "face" and 8 * self.ingest.load_size != 9 * self.train.image_size:
            raise ValueError(
                f"ingest.load_size {self.ingest.load_size} must be 9/8 of train.image_size {self.train.image_size} "
                "where ingest.fit is face, such as 144 for 128 or 72 for 64"
            )
        for name, model in self.models.items():
            if name in self.evaluate.baselines:  # both would share a row of the leaderboard
                raise ValueError(f"models.{name} has the name of one of evaluate.baselines; give it another name")
            try:
                model.network.check_size(self.train.image_size)
            except ValueError as error:
                raise ValueError(f"models.{name}.network: {error}") from None
        return self


def load_params(path: Path | str = "params.yaml", changes: Sequence[str] = ()) -> Params:
    """Reads and checks a parameter file. `changes` set single fields, `section.key=value`, before the check.

    Raises:
        ParamsError: the file is missing, not YAML, or a field is unknown, of the wrong type or out of range.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist; run in the folder that holds it or name it with --params") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read as UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    for change in changes:
        tree = _changed(tree, change)
    return parse_params(tree, str(path))


def _changed(tree: dict[str, Any], change: str) -> dict[str, Any]:
    place, equals, text = change.partition("=")
    if not equals or not all(place.split(".")):
        raise ParamsError(f"--set {change}: write section.key=value, as in train.seed=2")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ParamsError(f"--set {change}: the value is not YAML: {' '.join(str(error).split())}") from None
    *parents, key = place.split(".")
    tree = here = copy.deepcopy(tree)
    for parent in parents:
        here = here.setdefault(parent, {})
        if not isinstance(here, dict):
            raise ParamsError(f"--set {change}: {parent} is not a section")
    here[key] = value
    return tree


def parse_params(tree: Any, origin: str = "params") -> Params:
    """Checks a tree of plain values. `origin` is named in errors. Raises ParamsError."""
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError(f"{origin}: " + "; ".join(_sentence(e) for e in error.errors())) from None


def _sentence(error: ErrorDetails) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "top level"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is not a parameter; remove it or correct its name"
    if error["type"] == "value_error":  # our own message, which shows no password
        return f"{place}: {error['msg'].removeprefix('Value error, ')}"
    return f"{place}: {error['msg']} (got {error['input']!r})"[:300]
