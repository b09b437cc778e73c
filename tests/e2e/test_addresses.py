"""An address that is not Kubeflow's or denies access gives one sentence with the remedy and exit code 6."""

from __future__ import annotations

import pytest

from bmask.errors import PipelineError
from bmask.kubeflow import remote
from bmask.kubeflow.server import Target
from bmask.params import load_params
from kubeflow_api import COMMANDS, IMAGE, STRANGERS


@pytest.mark.parametrize(("status", "remedy"), [(401, "KFP_TOKEN"), (403, "ask its administrator")])
def test_a_server_that_refuses_is_named_with_the_remedy(kubeflow, status: int, remedy: str, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "sesame")
    kubeflow.refuse = status
    with pytest.raises(PipelineError, match=f"answered {status}.*{remedy}") as caught:
        remote.submit(load_params("params.yaml"), IMAGE, Target(kubeflow.host), "x")
    assert "sesame" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_with_the_remedy(kubeflow):
    with pytest.raises(PipelineError, match=r"127\.0\.0\.1:9 does not answer.*port-forward"):
        remote.submit(load_params("params.yaml"), IMAGE, Target("http://127.0.0.1:9"), "x")


@pytest.mark.parametrize("known", [(), ("healthz",), ("healthz", "experiments")], ids=" ".join)
@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_kubeflow_ends_with_6_and_one_sentence(kubeflow, pipeline, command, stranger, known):
    kubeflow.stranger, kubeflow.known = STRANGERS[stranger], known
    code, out, said = pipeline(*COMMANDS[command], "--host", kubeflow.host, "--image", IMAGE)
    assert (code, out) == (6, "")
    assert said.startswith(f"bmask: {kubeflow.host} answer")
    assert said.count("\n") == 1
    assert "--token-file" in said


@pytest.mark.parametrize("stranger", STRANGERS)
def test_waiting_ends_when_another_answers(kubeflow, stranger: str):
    kubeflow.stranger, kubeflow.known = STRANGERS[stranger], ("healthz",)
    with pytest.raises(PipelineError, match=r"--token-file") as caught:
        remote.wait("r1", Target(kubeflow.host), every=0.01)
    assert caught.value.exit_code == 6
    assert len(kubeflow.asked) < 5
