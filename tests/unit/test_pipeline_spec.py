"""The compiled pipeline for a cluster, its placement, and its agreement with dvc.yaml."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from bmask.kubeflow.compiling import build_pipeline, placeholder, write_pipeline
from bmask.kubeflow.inside import GPUS, params_of
from bmask.params import Params, load_params

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest", "augment", "masks", "train", "judge", "evaluate", "register")


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)


def compiled(params: Params, folder: Path) -> tuple[dict, dict]:
    """The spec and the executors' settings for Kubernetes."""
    write_pipeline(build_pipeline(params, "registry.example/bmask:0123"), folder / "unmask.yaml")
    spec, platform = yaml.safe_load_all((folder / "unmask.yaml").read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return compiled(load_params("params.yaml"), tmp_path_factory.mktemp("spec"))
    finally:
        os.chdir(before)


def containers(spec: dict) -> dict[str, dict]:
    return {key.removeprefix("exec-"): e["container"] for key, e in spec["deploymentSpec"]["executors"].items()}


def tasks(spec: dict) -> dict[str, dict]:
    """All tasks by name, also those of the loop."""
    found = dict(spec["root"]["dag"]["tasks"])
    loop = next(name for name in found if name.startswith("for-loop"))
    found |= spec["components"][found.pop(loop)["componentRef"]["name"]]["dag"]["tasks"]
    return found


def test_the_kept_file_is_what_params_and_pipeline_compile_to(tmp_path: Path):
    params = load_params("params.yaml")
    write_pipeline(build_pipeline(params, placeholder(params)), tmp_path / "unmask.yaml")
    kept = (ROOT / "pipelines/unmask.yaml").read_text()
    assert (tmp_path / "unmask.yaml").read_text() == kept, "run `bmask pipeline compile` and look at the difference"


def test_a_file_to_be_read_names_an_image_that_says_what_to_put_there(pipeline, tmp_path: Path):
    out = tmp_path / "unmask.yaml"
    assert "name one by --image" in pipeline("compile", "--out", str(out))[2]
    assert "registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA" in out.read_text()
    assert "compile it with --image NAME:TAG" in out.read_text().partition("components:")[0]
    assert pipeline("compile", "--out", str(out), "--image", "registry.example/bmask:0123")[2] == ""
    assert "REPLACE" not in out.read_text()


def test_other_processes_compile_the_same_bytes(tmp_path: Path):
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "bmask.cli", "pipeline", "compile", "--out", str(tmp_path / seed)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_component_compiles_by_itself_and_its_docstring_reaches_the_spec(tmp_path: Path):
    source = tmp_path / "component.py"
    source.write_text((ROOT / "components/train/component.py").read_text())
    subprocess.run([sys.executable, str(source)], check=True, capture_output=True)
    text = source.with_suffix(".yaml").read_text()
    assert "goes on from its last checkpoint" in text
    inputs = yaml.safe_load(text)["root"]["inputDefinitions"]
    assert inputs["artifacts"]["dataset"]["description"] == "The output of ingest."
    assert "`network`" in inputs["parameters"]["model"]["description"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_readme_names_what_its_component_takes_and_gives(shipped, stage: str):
    component = shipped[0]["components"][f"comp-{stage}"]
    has = {
        way: {name for kind in component[f"{way}Definitions"].values() for name in kind} for way in ("input", "output")
    }
    columns = [
        row.split("|")[1] for row in (ROOT / "components" / stage / "README.md").read_text().splitlines() if "|" in row
    ]
    out = columns.index(" out ")
    named = {"input": columns[:out], "output": columns[out:]}
    assert {way: set(re.findall("`([^`]+)`", "".join(cells))) for way, cells in named.items()} == has


def test_dvc_and_kubeflow_have_the_same_stages():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    reports = {"report_ingest", "report_evaluate"}  # outputs of the tasks that they report on
    assert set(stages) - reports == set(STAGES) == {path.parent.name for path in ROOT.glob("components/*/component.py")}


def test_a_task_is_given_every_section_that_its_dvc_stage_depends_on(shipped):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in STAGES:
        needed = {name.partition(".")[0] for name in stages[stage].get("do", stages[stage])["params"]}
        given = set(shipped[0]["components"][f"comp-{stage}"]["inputDefinitions"]["parameters"])
        assert needed <= given | ({"models"} if "model" in given else set()), stage


def test_the_defaults_are_the_parameter_file():
    spec = next(yaml.safe_load_all((ROOT / "pipelines/unmask.yaml").read_text()))
    inputs = {name: i.get("defaultValue") for name, i in spec["root"]["inputDefinitions"]["parameters"].items()}
    params = load_params("params.yaml")
    sections = ("ingest", "s3", "augment", "masks", "train", "judge", "evaluate", "register")
    assert params_of(inputs["models"], **{name: inputs[name] for name in sections}) == params.model_copy(
        update={"cluster": Params().cluster}
    )


def test_a_third_system_is_one_entry_of_params(tmp_path: Path):
    params = load_params("params.yaml", ["models.third={network: {system: cyclegan, filters: 8}}"])
    spec, _ = compiled(params, tmp_path)
    names = [m["name"] for m in spec["root"]["inputDefinitions"]["parameters"]["models"]["defaultValue"]]
    assert names == ["cyclegan", "attentiongan", "inpainting", "third"]


PLACED = (
    "cluster.gpu=nvidia.com/mig-3g.40gb",
    "cluster.gpus=2",
    "cluster.cpu='6'",
    "cluster.memory=24Gi",
    "cluster.node_selector={pool: gpu, zone: a}",
    "cluster.tolerations=[{key: gpu, value: mine, effect: NoExecute}]",
)


def test_where_trainings_run_and_what_they_may_use_are_constants(tmp_path: Path):
    """Kubeflow 2.17 sets no limit if the number of GPUs is a parameter: the pod then trains on its CPU."""
    spec, platform = compiled(load_params("params.yaml", PLACED), tmp_path)
    found = containers(spec)
    assert {name for name, container in found.items() if "accelerator" in container["resources"]} == {"train"}
    resources = found["train"]["resources"]
    assert resources["accelerator"]["resourceType"] == "nvidia.com/mig-3g.40gb"
    assert resources["accelerator"]["resourceCount"] == "2"
    for of in ("Request", "Limit"):
        assert resources[f"resourceCpu{of}"] == "6"
        assert resources[f"resourceMemory{of}"] == "24Gi"
    assert found["train"]["env"] == [{"name": GPUS, "value": "2"}]
    assert platform["exec-train"]["nodeSelector"] == {"labels": {"pool": "gpu", "zone": "a"}}
    assert platform["exec-train"]["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "mine", "effect": "NoExecute"}
    ]


def test_nothing_of_it_is_in_what_kubeflow_caches_by(shipped, tmp_path: Path):
    """The cache's key: image, command, arguments and inputs of a task."""
    spec, _ = compiled(load_params("params.yaml", PLACED), tmp_path)
    assert tasks(spec) == tasks(shipped[0])
    assert spec["components"] == shipped[0]["components"]
    assert spec["root"] == shipped[0]["root"]
    for name, container in containers(spec).items():
        kept = {key: value for key, value in container.items() if key not in ("resources", "env")}
        assert kept == {k: v for k, v in containers(shipped[0])[name].items() if k not in ("resources", "env")}


def test_without_gpus_a_training_asks_for_none_and_is_promised_none(tmp_path: Path):
    found = containers(compiled(load_params("params.yaml", ["cluster.gpus=0"]), tmp_path)[0])["train"]
    assert "accelerator" not in found["resources"]
    assert "env" not in found


def test_memory_is_shared_among_the_readers_of_a_training(shipped):
    assert shipped[1]["exec-train"]["emptyDirMounts"][0] | {"sizeLimit": ""} == {
        "medium": "Memory",
        "mountPath": "/dev/shm",
        "sizeLimit": "",
        "volumeName": "shared-memory",
    }


def test_what_a_loop_refers_to_is_handed_into_it(shipped):
    """kfp compiles references inside a loop to inputs that the loop does not have; the server then refuses the run."""
    spec, _ = shipped
    loop = next(c for name, c in spec["components"].items() if name.startswith("comp-for-loop"))
    has = set(loop["inputDefinitions"]["parameters"])
    train = loop["dag"]["tasks"]["train"]["inputs"]["parameters"].values()
    used = {entry["componentInputParameter"] for entry in train if "componentInputParameter" in entry}
    assert used <= has


def test_every_task_retries_ends_and_is_nobody(shipped):
    spec, platform = shipped
    assert set(tasks(spec)) == set(STAGES)
    for name, task in tasks(spec).items():
        assert task["retryPolicy"]["maxRetryCount"] == 3, name
        settings = platform[f"exec-{name}"]
        assert int(settings["activeDeadlineSeconds"]) == (48 if name == "train" else 4) * 3600
        assert settings["securityContext"]["runAsNonRoot"]
        assert containers(spec)[name]["image"] == "registry.example/bmask:0123"


REPOSITORY = ("ingest.source=photos", "ingest.repository=https://example.org/data")


@pytest.mark.parametrize(
    ("changes", "cached"),
    [
        ((), True),
        (("ingest.source=s3://bucket/photos",), False),
        (("ingest.source=/volume/photos",), False),
        ((*REPOSITORY, "ingest.revision=main"), False),
        ((*REPOSITORY, f"ingest.revision={'0a' * 20}"), True),
    ],
)
def test_photos_that_can_change_under_one_name_are_read_every_time(changes: tuple, cached: bool, tmp_path: Path):
    found = tasks(compiled(load_params("params.yaml", changes), tmp_path)[0])
    assert found["ingest"]["cachingOptions"].get("enableCache", False) is cached
    assert not found["register"]["cachingOptions"].get("enableCache", False)


def test_credentials_come_from_the_secret_and_are_no_parameter(shipped):
    spec, platform = shipped
    for settings in platform.values():
        assert {e["envVar"] for e in settings["secretAsEnv"][0]["keyToEnv"]} >= {"AWS_SECRET_ACCESS_KEY"}
        assert {e["envVar"] for e in settings["configMapAsEnv"][0]["keyToEnv"]} >= {"MLFLOW_TRACKING_URI"}
    names = " ".join(spec["root"]["inputDefinitions"]["parameters"]).lower()
    assert not any(word in names for word in ("password", "secret", "token", "tracking"))


def pod(container: dict, settings: dict) -> dict:
    """The pod that Kubeflow's server makes of an executor: its settings in Kubernetes' own words."""
    env = [
        {
            "name": e["envVar"],
            "valueFrom": {kind: {"name": source[name], "key": e[key], "optional": source["optional"]}},
        }
        for field, kind, name, key in (
            ("configMapAsEnv", "configMapKeyRef", "configMapName", "configMapKey"),
            ("secretAsEnv", "secretKeyRef", "secretName", "secretKey"),
        )
        for source in settings[field]
        for e in source["keyToEnv"]
    ]
    env += [
        {"name": e["name"], "valueFrom": {"fieldRef": {"fieldPath": e["fieldPath"]}}}
        for e in settings["fieldPathAsEnv"]
    ]
    env += container.get("env", [])
    resources = container["resources"]
    limits = {"cpu": resources["resourceCpuLimit"], "memory": resources["resourceMemoryLimit"]}
    if accelerator := resources.get("accelerator"):
        limits[accelerator["resourceType"]] = accelerator["resourceCount"]
    mounts = [(m["volumeName"], m["mountPath"]) for m in settings.get("emptyDirMounts", [])]
    volumes = [
        {"name": m["volumeName"], "emptyDir": {"medium": m["medium"], "sizeLimit": m["sizeLimit"]}}
        for m in settings.get("emptyDirMounts", [])
    ]
    for claim in settings.get("pvcMount", []):
        mounts.append((claim["constant"], claim["mountPath"]))
        source = {"claimName": claim["pvcNameParameter"]["runtimeValue"]["constant"]}
        volumes.append({"name": claim["constant"], "persistentVolumeClaim": source})
    main = {
        "name": "main",
        "image": container["image"],
        "imagePullPolicy": settings["imagePullPolicy"],
        "command": container["command"],
        "env": env,
        "resources": {"limits": limits, "requests": limits},
        "securityContext": settings["securityContext"],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts],
    }
    spec = {
        "activeDeadlineSeconds": int(settings["activeDeadlineSeconds"]),
        "containers": [main],
        "volumes": volumes,
        "nodeSelector": settings.get("nodeSelector", {}).get("labels", {}),
        "tolerations": settings.get("tolerations", []),
        "restartPolicy": "Never",
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "task"}, "spec": spec}


@pytest.mark.parametrize("version", ["1.27", "1.31"])
def test_every_setting_is_one_that_kubernetes_takes(version: str, tmp_path: Path):
    params = load_params("params.yaml", ["cluster.claim=photos", "cluster.node_selector={pool: gpu}"])
    spec, platform = compiled(params, tmp_path)
    for name, container in containers(spec).items():
        kubernetes_validate.validate(pod(container, platform[f"exec-{name}"]), version, strict=True)
    broken = pod(containers(spec)["train"], platform["exec-train"])
    broken["spec"]["tolerations"][0]["effekt"] = "NoSchedule"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)
