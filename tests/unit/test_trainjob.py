"""deploy/trainjob.example.yaml: valid for the published API of Kubeflow Trainer, and in agreement with deploy/."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob as TrainJob

from kustomize import documents, identity, render

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def job() -> dict:
    (thing,) = documents(ROOT / "deploy/trainjob.example.yaml")
    return thing


def patch(job: dict) -> dict:
    (entry,) = job["spec"]["runtimePatches"]
    (node,) = entry["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert node["name"] == "node"
    return node["template"]["spec"]["template"]


def test_the_job_has_fields_that_the_api_knows_and_no_other(job):
    assert TrainJob.from_dict(job).to_dict() == job  # unknown fields do not come back


@pytest.mark.parametrize("level", ["spec", "trainer", "pod"])
def test_the_api_loses_a_field_that_it_does_not_know(job, level):
    """This proves that the comparison above can fail; Trainer 2.0 and 2.1 had podTemplateOverrides."""
    broken = copy.deepcopy(job)
    where = {"spec": broken["spec"], "trainer": broken["spec"]["trainer"], "pod": patch(broken)["spec"]}[level]
    where["podTemplateOverrides"] = []
    assert TrainJob.from_dict(broken).to_dict() != broken


def test_what_it_takes_from_the_cluster_is_there(job):
    given = {identity(thing): thing for thing in render(ROOT / "deploy/overlays/example")}
    (secret,) = documents(ROOT / "deploy/secret.example.yaml")
    keys = {"configMapKeyRef": set(given["ConfigMap", "bmask"]["data"]), "secretKeyRef": set(secret["stringData"])}
    for entry in job["spec"]["trainer"]["env"]:
        ((kind, ref),) = entry["valueFrom"].items()
        assert ref["name"] == "bmask"
        assert ref["key"] == entry["name"]
        assert ref.get("optional") or ref["key"] in keys[kind], ref


def test_every_node_has_the_volume_as_the_images_working_folder(job):
    pod = patch(job)["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert f"WORKDIR {mounts['work']}" in (ROOT / "Dockerfile").read_text()


def test_the_network_policy_lets_it_reach_mlflow(job):
    given = {identity(thing): thing for thing in render(ROOT / "deploy/overlays/example")}
    (rule,) = given["NetworkPolicy", "bmask-mlflow"]["spec"]["ingress"]
    allowed = [peer["podSelector"].get("matchLabels", {}) for peer in rule["from"] if "podSelector" in peer]
    labels = patch(job)["metadata"]["labels"]
    assert any(wanted and wanted.items() <= labels.items() for wanted in allowed)
