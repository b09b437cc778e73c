"""Parameters as they arrive in a container, artifacts as the stages know them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.errors import ParamsError, TrainingError
from bmask.files import write_json
from bmask.kubeflow.inside import GPUS, last_losses, log_numbers, on_any_node, on_gpus, params_of, training_folder
from bmask.params import load_params

ROOT = Path(__file__).resolve().parents[2]


def as_doubles(tree: object) -> object:
    """What protobuf's Struct makes of JSON: every number a double, keys in any order."""
    if isinstance(tree, dict):
        return {key: as_doubles(tree[key]) for key in sorted(tree, reverse=True)}
    if isinstance(tree, list):
        return [as_doubles(value) for value in tree]
    return float(tree) if isinstance(tree, int) and not isinstance(tree, bool) else tree


@pytest.mark.parametrize("name", ["params.yaml", "profiles/paper.yaml", "profiles/photos-cpu.yaml"])
def test_params_survive_the_way_through_kubeflow(name: str):
    params = load_params(ROOT / name)
    tree = json.loads(json.dumps(as_doubles(params.model_dump(mode="json", by_alias=True))))
    models = [{"name": name, **model} for name, model in tree.pop("models").items()]
    assert params_of(sorted(models, key=lambda m: list(params.models).index(m["name"])), **tree) == params


def test_a_wrong_field_is_named():
    with pytest.raises(ParamsError, match=r"train\.sede is not a parameter"):
        params_of(train={"sede": 1.0})


def test_trainings_lie_under_their_models_names(tmp_path: Path):
    for artifact, model in (("a1", "cyclegan"), ("a2", "attentiongan")):
        (tmp_path / artifact).mkdir()
        write_json(tmp_path / artifact / "run.json", {"model": model})
    with training_folder([str(tmp_path / "a1"), str(tmp_path / "a2")]) as folder:
        assert {p.name: p.resolve() for p in folder.iterdir()} == {
            "cyclegan": tmp_path / "a1",
            "attentiongan": tmp_path / "a2",
        }
    assert not folder.exists()
    assert (tmp_path / "a1" / "run.json").exists()


class Metrics:
    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/metrics"
        self.logged: dict[str, float] = {}

    def log_metric(self, name: str, value: float) -> None:
        self.logged[name] = value


@given(st.dictionaries(st.text("abc", min_size=1), st.integers() | st.text() | st.floats(allow_nan=False)))
def test_numbers_alone_are_logged(tree: dict):
    with tempfile.TemporaryDirectory() as folder:
        metrics = Metrics(folder)
        log_numbers(metrics, {"deep": tree, "x_low": 1.0})
        assert json.loads(Path(metrics.path).read_text()) == metrics.logged
    assert metrics.logged == {f"deep.{k}": float(v) for k, v in tree.items() if not isinstance(v, str)}


@pytest.mark.parametrize("processes", [{}, {"processes": 3}, {"processes": "auto"}])
def test_a_task_trains_in_a_process_for_each_gpu_that_it_was_promised(processes: dict, monkeypatch):
    monkeypatch.setattr("bmask.gan.device.gpus", lambda: 4)
    assert on_gpus({"seed": 2, **processes}) == {"seed": 2, **processes}  # promised no GPU: the section decides
    for promised in (1, 4):
        monkeypatch.setenv(GPUS, str(promised))
        assert on_gpus({"seed": 2, **processes}) == {"seed": 2, "processes": promised}


@pytest.mark.parametrize(("seen", "said"), [(0, "none"), (1, "1")])
def test_a_task_that_sees_fewer_gpus_than_promised_does_not_begin(seen: int, said: str, monkeypatch):
    monkeypatch.setattr("bmask.gan.device.gpus", lambda: seen)
    monkeypatch.setenv(GPUS, "2")
    with pytest.raises(TrainingError, match=rf"cluster\.gpus requested 2 GPUs, but torch sees {said};"):
        on_gpus({})


def test_a_task_on_a_cpu_node_does_not_ask_for_the_gpu_that_trainings_were_told_to_use():
    assert on_any_node({"device": "cuda", "seed": 2}) == {"device": "auto", "seed": 2}
    assert on_any_node({"device": "cpu"}) == {"device": "cpu"}
    assert on_any_node({}) == {}


def test_a_loss_that_has_no_last_value_is_none(tmp_path: Path):
    """A game that has not begun leaves empty cells."""
    (tmp_path / "losses.csv").write_text("step,total,gan\n1,2.5,\n2,1.5,\n")
    assert last_losses(str(tmp_path)) == {"step": 2.0, "total": 1.5}
