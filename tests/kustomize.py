"""The part of kustomize that deploy/ uses, for machines without kubectl. With kubectl, a test compares the two."""

from __future__ import annotations

from pathlib import Path

import yaml

KNOWN = {"apiVersion", "kind", "resources", "labels", "namespace", "images", "patches"}


def documents(path: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def render(folder: Path) -> list[dict]:
    """The objects that `kubectl kustomize folder` prints, in no particular order."""
    (said,) = documents(folder / "kustomization.yaml")
    assert set(said) <= KNOWN, f"{folder}: extend tests/kustomize.py for {set(said) - KNOWN}"
    objects = []
    for name in said["resources"]:
        path = folder / name
        objects += render(path.resolve()) if path.is_dir() else documents(path)
    for patch in said.get("patches", ()):
        for change in documents(folder / patch["path"]):
            (target,) = [thing for thing in objects if identity(thing) == identity(change)]
            _merge(target, change)
    for thing in objects:
        for labels in said.get("labels", ()):
            thing["metadata"].setdefault("labels", {}).update(labels["pairs"])
        if "namespace" in said:
            thing["metadata"]["namespace"] = said["namespace"]
        for container in containers(thing):
            for image in said.get("images", ()):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return objects


def identity(thing: dict) -> tuple[str, str]:
    return thing["kind"], thing["metadata"]["name"]


def containers(thing: dict) -> list[dict]:
    return thing["spec"]["template"]["spec"]["containers"] if thing["kind"] == "Deployment" else []


def _merge(target: dict, change: dict) -> None:
    for key, value in change.items():
        if isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            assert not isinstance(value, list), "kustomize merges lists by rules of its own; patch maps alone"
            target[key] = value
