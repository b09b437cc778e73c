"""deploy/ is valid for Kubernetes, agrees with itself, and lets in only what it should."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes_validate import ValidationError, validate
from kubernetes_validate.utils import all_versions

from kustomize import containers, documents, identity, render

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
FOLDERS = [DEPLOY / "base", *sorted((DEPLOY / "overlays").iterdir())]
# What the pipeline's pods take from the config map and the secret `bmask`; nobody reads any other key.
_, PLATFORM = documents(ROOT / "pipelines/unmask.yaml")
TASK = PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-ingest"]
SETTINGS, CREDENTIALS = ({e["envVar"] for e in TASK[key][0]["keyToEnv"]} for key in ("configMapAsEnv", "secretAsEnv"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def objects(request) -> dict[tuple[str, str], dict]:
    """(kind, name) -> object."""
    return {identity(thing): thing for thing in render(request.param)}


@pytest.fixture(scope="module")
def secret() -> dict:
    (thing,) = documents(DEPLOY / "secret.example.yaml")
    return thing


def pod(objects: dict) -> dict:
    return objects["Deployment", "bmask-mlflow"]["spec"]["template"]


# Valid


@pytest.mark.parametrize("version", all_versions())
def test_every_object_fits_the_schemas_that_kubernetes_publishes(objects, secret, version):
    for thing in [*objects.values(), secret]:
        validate(thing, version, strict=True)


def test_these_schemas_refuse_a_misspelt_field(objects):
    broken = objects["Deployment", "bmask-mlflow"]
    broken["spec"]["template"]["spec"]["securityContext"]["runAsNonroot"] = True
    with pytest.raises(ValidationError, match="runAsNonroot"):
        validate(broken, all_versions()[-1], strict=True)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not there")
def test_kubectl_renders_the_same_objects(objects, request):
    folder = request.node.callspec.params["objects"]
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    assert {identity(thing): thing for thing in yaml.safe_load_all(done.stdout)} == objects


# In agreement


def test_whatever_is_referred_to_by_name_exists(objects, secret):
    spec = pod(objects)["spec"]
    assert ("ServiceAccount", spec["serviceAccountName"]) in objects
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in objects
    for container in spec["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        for source in container["envFrom"]:
            assert ("ConfigMap", source["configMapRef"]["name"]) in objects
        for variable in container["env"]:
            key = variable["valueFrom"]["secretKeyRef"]
            assert key["name"] == secret["metadata"]["name"] and key["key"] == variable["name"]
            assert key["key"] in secret["stringData"]


def test_selectors_select_the_server_and_ports_are_its_own(objects):
    labels = pod(objects)["metadata"]["labels"].items()
    deployment = objects["Deployment", "bmask-mlflow"]["spec"]
    service = objects["Service", "bmask-mlflow"]["spec"]
    policy = objects["NetworkPolicy", "bmask-mlflow"]["spec"]
    assert deployment["selector"]["matchLabels"].items() <= labels
    assert service["selector"].items() <= labels
    assert policy["podSelector"]["matchLabels"].items() <= labels

    (container,) = pod(objects)["spec"]["containers"]
    (port,) = container["ports"]
    assert f"--port={port['containerPort']}" in container["args"]
    assert [entry["targetPort"] for entry in service["ports"]] == [port["name"]]
    assert [entry["port"] for rule in policy["ingress"] for entry in rule["ports"]] == [port["name"]]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


def test_the_address_that_pods_are_given_is_the_services_and_the_server_answers_to_it(objects):
    address = urlsplit(objects["ConfigMap", "bmask"]["data"]["MLFLOW_TRACKING_URI"])
    (port,) = objects["Service", address.hostname]["spec"]["ports"]
    assert (address.scheme, address.port) == ("http", port["port"])
    allowed = objects["ConfigMap", "bmask-mlflow"]["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert address.netloc in allowed


def test_pods_read_every_key_of_the_config_map_and_the_secret(objects, secret):
    assert set(objects["ConfigMap", "bmask"]["data"]) <= SETTINGS
    assert set(secret["stringData"]) == CREDENTIALS


def test_an_overlay_says_which_image(objects, request):
    if request.node.callspec.params["objects"].name != "base":
        for thing in objects.values():
            for container in containers(thing):
                assert re.fullmatch(r"[^/]+\.[^/]+/.+:(?!latest).+", container["image"])


# Closed


def test_containers_have_no_more_rights_than_the_restricted_standard_gives(objects):
    spec = pod(objects)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}


def test_the_server_runs_as_the_user_of_the_image(objects):
    *_, user = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    context = pod(objects)["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (
        int(user[0]),
        int(user[1]),
        int(user[1]),
    )


def test_mlflow_is_reached_by_named_pods_alone(objects):
    policy = objects["NetworkPolicy", "bmask-mlflow"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    for rule in policy["ingress"]:
        assert rule["from"] and all(peer["podSelector"] for peer in rule["from"])


def test_no_secret_is_applied_and_no_value_of_one_is_in_a_file(objects, secret):
    assert not [kind for kind, _ in objects if kind == "Secret"]
    assert set(secret["stringData"].values()) == {"REPLACE_ME"} and "data" not in secret
    for kind, name in objects:
        if kind == "ConfigMap":
            assert not CREDENTIALS & set(objects[kind, name]["data"])
            for value in objects[kind, name]["data"].values():
                assert "@" not in value, "an address with a password belongs into the secret"


# Running


@pytest.fixture
def example() -> dict:
    return {identity(thing): thing for thing in render(DEPLOY / "overlays/example")}


@pytest.fixture
def server(example, tmp_path):
    """The port of an MLflow server with the manifest's command, arguments and environment; the volume is a folder."""
    (container,) = pod(example)["spec"]["containers"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    args = [re.sub("^--(host|port)=.*", "", arg) for arg in container["args"]]
    environment = dict(example["ConfigMap", "bmask-mlflow"]["data"])
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"):
        environment[name] = environment[name].replace("/mlflow/", f"{tmp_path}/", 1)
    command = [sys.executable, "-m", *container["command"], *filter(None, args), "--host=127.0.0.1", f"--port={port}"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "AWS_"))}
    log = tmp_path / "server.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=kept | environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        end = time.monotonic() + 180
        while ask(port, "/health", "10.1.2.3:5000") != 200:  # probes ask with the pod's address
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.3)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, path: str, host: str) -> int:
    """The status of a GET with this Host header; 0 when nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.slow
def test_the_server_answers_to_its_services_name_and_to_no_other(server, example):
    name = urlsplit(example["ConfigMap", "bmask"]["data"]["MLFLOW_TRACKING_URI"]).netloc
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert ask(server, path, name) == 200
    assert ask(server, path, "localhost:8080") == 200  # kubectl port-forward
    assert ask(server, path, "bmask-mlflow.attacker.example:5000") == 403
    assert ask(server, path, "mlflow:5000") == 403
