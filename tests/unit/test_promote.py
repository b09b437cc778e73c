"""Who may move the champion: `register.promote`, and what a DVC experiment changes."""

from __future__ import annotations

import pytest

from bmask.errors import ParamsError
from bmask.params import parse_params
from bmask.tracking import registry
from bmask.tracking.runs import find_run
from bmask.tracking.store import connect
from registering import CHANGES_LITTLE, CHANGES_MUCH, NAME, REPAINTS, aliases, settings


@pytest.fixture
def experiment(place, monkeypatch) -> str:
    """A champion, and then the environment that DVC gives the stages of an experiment."""
    place.run(settings("a"), a=(REPAINTS, "f1"))
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-daks")
    return "puffy-daks"


def test_inside_an_experiment_auto_leaves_the_champion_alone_and_says_how_to_promote(place, experiment, capsys):
    decision = place.run(settings("a"), a=(CHANGES_LITTLE, "f2"))
    assert aliases() == {2: ("challenger",), 1: ("champion",)}
    assert (decision["version"], decision["promoted"], decision["champion"]) == (2, False, 1)
    assert any("better in 100.0%" in reason for reason in decision["reasons"])  # what the gate said
    assert "It passed. This is the DVC experiment puffy-daks" in decision["reasons"][-1]
    assert "`bmask champion set 2` promotes it" in capsys.readouterr().err
    assert place.register(settings("a")) == decision


def test_an_experiment_that_is_applied_is_decided_on_outside(place, experiment, monkeypatch):
    place.run(settings("a"), a=(CHANGES_LITTLE, "f2"))
    monkeypatch.delenv("DVC_EXP_NAME")
    assert place.register(settings("a"))["promoted"]
    assert aliases() == {2: ("champion",), 1: ()}


def test_a_champion_set_by_hand_outlives_an_experiment_and_the_next_run(place, monkeypatch):
    params = settings("a")
    place.run(params, a=(REPAINTS, "f1"))
    place.run(params, a=(CHANGES_LITTLE, "f2"))
    registry.set_champion(1)
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-daks")
    place.run(settings("a"), a=(CHANGES_MUCH, "f3"))
    monkeypatch.delenv("DVC_EXP_NAME")
    place.run(params, a=(CHANGES_LITTLE, "f2"))
    assert aliases()[1] == ("champion",)


def test_always_promotes_inside_an_experiment_too(place, experiment):
    assert place.run(settings("a", promote="always"), a=(CHANGES_LITTLE, "f2"))["promoted"]
    assert aliases() == {2: ("champion",), 1: ()}


def test_manual_registers_a_challenger_and_leaves_the_rest_to_a_person(place):
    params = settings("a", promote="manual")
    decision = place.run(params, a=(REPAINTS, "f1"))
    assert aliases() == {1: ("challenger",)}
    assert not decision["promoted"]
    assert decision["reasons"][-1] == ("It passed. register.promote is manual; `bmask champion set 1` promotes it.")
    registry.set_champion(1)
    assert place.register(params)["champion"] == 1
    assert aliases() == {1: ("champion",)}
    worse = place.run(settings("a", promote="manual", max_paste_outside=0.0), a=(REPAINTS, "f2"))
    assert not any(reason.startswith("It passed") for reason in worse["reasons"])


def test_never_logs_and_registers_nothing(place):
    params = settings("a", promote="never")
    for _ in range(2):
        decision = place.run(params, a=(REPAINTS, "f1"))
        assert (decision["model"], decision["version"], decision["promoted"]) == ("a", 0, False)
        assert "register.promote is never" in decision["reasons"][0]
    assert registry.registered_model(connect(), NAME) is None
    assert "test/unmask_rate" in find_run("f1").data.metrics
    assert place.register(settings("a"))["promoted"]


def test_a_word_that_is_none_of_them_is_refused():
    with pytest.raises(ParamsError, match=r"register\.promote: .*'auto', 'always', 'manual' or 'never'"):
        parse_params({"register": {"promote": "yes"}})


def test_a_run_says_which_experiment_it_belongs_to(place, experiment):
    assert "dvc_experiment" not in find_run("f1").data.tags
    place.run(settings("a"), a=(CHANGES_LITTLE, "f2"))
    run = find_run("f2")
    assert run.data.tags["dvc_experiment"] == experiment
    assert run.info.run_name == "a (puffy-daks)"
