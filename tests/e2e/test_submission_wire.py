"""The HTTP requests that submitting makes. The server is a stub, so this proves the format alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bmask.data.sources.opening import open_source
from bmask.errors import DataError, ParamsError, PipelineError
from bmask.kubeflow import remote
from bmask.kubeflow.inside import params_of
from bmask.kubeflow.server import Target
from bmask.params import load_params
from bmask.tracking.runs import git_sha
from kubeflow_api import COMMANDS, IMAGE, Stub
from repository import Repository


def test_a_run_carries_the_pipeline_with_the_image_and_the_changed_params(kubeflow, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "sesame")
    params = load_params("params.yaml", ["train.seed=5", "cluster.gpus=2"])
    assert remote.submit(params, IMAGE, Target(kubeflow.host, service_account="runner"), "unmask now") == "r1"
    (body,) = kubeflow.bodies("POST", "/apis/v2beta1/runs")
    assert body["display_name"] == "unmask now"
    assert body["experiment_id"] == "e1"
    assert body["service_account"] == "runner"
    spec = body["pipeline_spec"]
    executors = spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}
    defaults = spec["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert defaults["train"]["defaultValue"]["seed"] == 5
    assert executors["exec-train"]["container"]["resources"]["accelerator"]["resourceCount"] == "2"
    settings = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert settings["exec-train"]["securityContext"]["runAsNonRoot"]
    tokens = {headers.get("authorization", headers.get("Authorization")) for _, _, headers, _ in kubeflow.asked}
    assert tokens == {"Bearer sesame"}
    assert "sesame" not in json.dumps([body for *_, body in kubeflow.asked])


def test_a_token_file_goes_before_the_variable(kubeflow, monkeypatch, tmp_path):
    monkeypatch.setenv("KFP_TOKEN", "stale")
    (tmp_path / "token").write_text("fresh\n")
    remote.submit(load_params("params.yaml"), IMAGE, Target(kubeflow.host, tmp_path / "token"), "x")
    assert {v for _, _, headers, _ in kubeflow.asked for k, v in headers.items() if k.lower() == "authorization"} == {
        "Bearer fresh"
    }


def test_a_schedule_never_overlaps_and_makes_up_for_nothing(kubeflow):
    target = Target(kubeflow.host, caching=False)
    assert remote.schedule(load_params("params.yaml"), IMAGE, target, "nightly", "0 0 3 * * *") == "s1"
    (body,) = kubeflow.bodies("POST", "/apis/v2beta1/recurringruns")
    assert body["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert int(body["max_concurrency"]) == 1
    assert body["no_catchup"] is True
    tasks = body["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks.values())


def test_a_cron_of_five_fields_is_refused_before_anything_is_sent(kubeflow):
    with pytest.raises(PipelineError, match="six fields"):
        remote.schedule(load_params("params.yaml"), IMAGE, Target(kubeflow.host), "nightly", "0 3 * * *")
    assert not kubeflow.asked


def test_waiting_prints_each_change_once_and_outlasts_a_server_that_is_away(kubeflow, capsys):
    kubeflow.states = [
        ("RUNNING", {"ingest": "RUNNING"}),
        ("RUNNING", {"ingest": "RUNNING"}),
        ("GONE", {}),
        ("SUCCEEDED", {"ingest": "SUCCEEDED"}),
    ]
    remote.wait("r1", Target(kubeflow.host), every=0.01)
    said = capsys.readouterr().err
    assert said.count("ingest: running") == said.count("ingest: succeeded") == 1
    assert "no answer" in said


def test_a_run_that_fails_names_the_tasks(kubeflow):
    kubeflow.states = [("FAILED", {"ingest": "SUCCEEDED", "train": "FAILED"})]
    with pytest.raises(PipelineError, match=r"ended as failed \(failed: train\)") as caught:
        remote.wait("r1", Target(kubeflow.host), every=0.01)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("command", COMMANDS)
def test_the_id_alone_is_on_stdout_for_scripts(kubeflow, pipeline, command: str):
    code, out, said = pipeline(*COMMANDS[command], "--host", kubeflow.host, "--image", IMAGE)
    assert (code, out) == (0, {"submit": "r1\n", "schedule": "s1\n"}[command]), said


# Photos by version.


@pytest.fixture
def photos(tmp_path: Path) -> Repository:
    """A repository with branch `main` and tag `v1` at the first commit."""
    repository = Repository(tmp_path / "photos")
    for domain in ("masked", "unmasked"):
        (repository.folder / "faces" / domain).mkdir(parents=True)
        (repository.folder / "faces" / domain / "one.png").write_bytes(b"a photo")
    repository.first = repository.commit()
    repository.run("git", "tag", "v1")
    return repository


def settings(photos: Repository, revision: str) -> list[str]:
    named = {"source": "faces", "repository": str(photos.folder), "revision": revision}
    return [part for key, value in named.items() for part in ("--set", f"ingest.{key}={value}")]


def sent(kubeflow: Stub, path: str) -> tuple[dict[str, Any], bool]:
    """The section `ingest` of the submitted pipeline, and whether the task that reads the photos is cached."""
    (body,) = kubeflow.bodies("POST", f"/apis/v2beta1/{path}")
    root = body["pipeline_spec"]["pipeline_spec"]["root"]
    caching = root["dag"]["tasks"]["ingest"]["cachingOptions"].get("enableCache", False)
    return root["inputDefinitions"]["parameters"]["ingest"]["defaultValue"], caching


@pytest.mark.parametrize("revision", ["main", "v1", ""])
def test_a_run_is_of_the_commit_that_a_branch_or_tag_means_when_it_is_submitted(kubeflow, pipeline, photos, revision):
    code, _, said = pipeline("submit", "--host", kubeflow.host, "--image", IMAGE, *settings(photos, revision))
    assert code == 0, said
    ingest, cached = sent(kubeflow, "runs")
    assert ingest["revision"] == photos.first
    assert cached


def test_each_run_of_a_schedule_reads_the_newest_commit_of_its_branch(kubeflow, pipeline, photos):
    command = [*COMMANDS["schedule"], "--host", kubeflow.host, "--image", IMAGE, *settings(photos, "main")]
    code, _, said = pipeline(*command)
    assert code == 0, said
    assert f"each run reads the newest commit of main; now that is {photos.first}" in said
    ingest, cached = sent(kubeflow, "recurringruns")
    assert not cached
    (photos.folder / "faces/masked/two.png").write_bytes(b"another photo")
    second = photos.commit()
    with open_source(params_of(ingest=ingest)) as read:  # what the task does
        assert read.origin["revision"] == second
        assert [entry.name for entry in read.entries if entry.domain == "masked"] == ["one.png", "two.png"]


def test_a_schedule_of_one_commit_stays_there(kubeflow, pipeline, photos):
    code, _, said = pipeline(
        *COMMANDS["schedule"], "--host", kubeflow.host, "--image", IMAGE, *settings(photos, photos.first)
    )
    assert code == 0, said
    ingest, cached = sent(kubeflow, "recurringruns")
    assert ingest["revision"] == photos.first
    assert cached


@pytest.mark.parametrize("command", COMMANDS)
def test_a_branch_that_is_not_there_is_refused_before_anything_is_sent(kubeflow, pipeline, photos, command):
    code, _, said = pipeline(*COMMANDS[command], "--host", kubeflow.host, "--image", IMAGE, *settings(photos, "mian"))
    assert code == DataError.exit_code
    assert "has no commit, tag or branch mian" in said
    assert not kubeflow.asked


# The image.


@pytest.mark.parametrize("command", COMMANDS)
def test_without_an_image_nothing_is_sent_and_cluster_image_is_named(kubeflow, pipeline, command):
    code, _, said = pipeline(*COMMANDS[command], "--host", kubeflow.host, "--allow-dirty")
    assert code == ParamsError.exit_code
    assert said.startswith("bmask: cluster.image is not set")
    assert not kubeflow.asked


def test_an_image_of_the_params_is_sent_with_the_commit_as_its_tag(kubeflow, pipeline, monkeypatch):
    monkeypatch.setenv("BMASK_GIT_SHA", "0a1b2c")  # where there is no git
    named = ["--set", "cluster.image=registry.example/team/bmask", "--allow-dirty"]
    code, _, said = pipeline("submit", "--host", kubeflow.host, *named)
    assert code == 0, said
    (body,) = kubeflow.bodies("POST", "/apis/v2beta1/runs")
    executors = body["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {f"registry.example/team/bmask:{git_sha()}"}
