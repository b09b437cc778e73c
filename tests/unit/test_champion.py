"""The registry by hand: show, set, roll back, on a real SQLite store."""

from __future__ import annotations

import pytest

from bmask.errors import DataError
from bmask.tracking import registry as champion
from bmask.tracking.store import connect


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        before, folder = mlflow.get_tracking_uri(), tmp_path_factory.mktemp("store")
        patch.chdir(folder)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield connect()
        mlflow.set_tracking_uri(before)


@pytest.fixture
def name(request):
    """Each test has a registered model of its own in the one store."""
    return request.node.name


def add(client, name, count, **tags):
    if champion.registered_model(client, name) is None:
        client.create_registered_model(name)
    for _ in range(count):
        client.create_model_version(name, "file:///nowhere", tags={"model": "attentiongan", **tags})


def present(client, name):
    found = champion.champion(client, name)
    return found.number if found else None


def test_an_empty_registry_says_what_to_do(client, name):
    assert "run the pipeline first" in champion.show(name)
    assert champion.versions(client, name) == []
    for action in (lambda: champion.set_champion(1, name), lambda: champion.rollback(name)):
        with pytest.raises(DataError, match=r"no (version|champion)"):
            action()


def test_any_version_can_be_made_champion(client, name):
    add(client, name, 3)
    assert "version 2" in champion.set_champion(2, name)
    assert present(client, name) == 2
    assert "already" in champion.set_champion("2", name)
    champion.set_champion(1, name)
    assert present(client, name) == 1
    with pytest.raises(DataError, match="no version 7; there are 3, 2, 1"):
        champion.set_champion(7, name)
    assert present(client, name) == 1


def test_rollback_goes_back_as_many_times_as_there_were_champions(client, name):
    add(client, name, 4)
    for version in (1, 3, 2, 1, 4):
        champion.set_champion(version, name)
    for expected in (1, 2, 3, 1):
        assert f"version {expected} is the champion again" in champion.rollback(name)
        assert present(client, name) == expected
    with pytest.raises(DataError, match="no champion before version 1 is left"):
        champion.rollback(name)
    assert present(client, name) == 1


def test_what_was_rolled_back_is_marked_until_it_is_champion_again(client, name):
    add(client, name, 2)
    champion.set_champion(1, name)
    champion.set_champion(2, name)
    champion.rollback(name)
    marks = {version.number: champion.ROLLED_BACK in version.tags for version in champion.versions(client, name)}
    assert marks == {1: False, 2: True}
    assert "rolled back" in champion.show(name)
    champion.set_champion(2, name)
    assert "rolled back" not in champion.show(name)
    champion.rollback(name)
    assert present(client, name) == 1


def test_a_champion_that_was_deleted_is_left_out_of_the_way_back(client, name):
    add(client, name, 3)
    for version in (1, 2, 3):
        champion.set_champion(version, name)
    client.delete_model_version(name, "2")
    champion.rollback(name)
    assert present(client, name) == 1


def test_an_alias_that_was_moved_elsewhere_is_the_truth(client, name):
    add(client, name, 3)
    champion.set_champion(1, name)
    client.set_registered_model_alias(name, champion.CHAMPION, "2")  # in MLflow's own UI
    champion.set_champion(3, name)
    champion.rollback(name)
    assert present(client, name) == 2


def test_a_promotion_that_was_killed_half_way_does_no_harm(client, name):
    add(client, name, 3)
    champion.set_champion(1, name)
    champion.set_champion(2, name)
    champion._remember(client, name, [1, 2])  # the history is written, then comes the kill
    champion.set_champion(3, name)
    champion.rollback(name)
    champion.rollback(name)
    assert present(client, name) == 1


def test_a_challenger_that_wins_is_no_challenger_any_more(client, name):
    add(client, name, 2)
    champion.set_champion(1, name)
    client.set_registered_model_alias(name, champion.CHALLENGER, "2")
    champion.set_champion(2, name)
    aliases = {version.number: version.aliases for version in champion.versions(client, name)}
    assert aliases == {2: (champion.CHAMPION,), 1: ()}


def test_the_table_shows_versions_scores_and_origin(client, name):
    add(client, name, 1, **{"score.residue_rate": "0.8125", "git_sha": "a" * 40 + "-dirty", "data_digest": "d" * 64})
    add(client, name, 1, **{"score.residue_rate": "nonsense"})
    champion.set_champion(1, name)
    header, newer, older = champion.show(name).splitlines()
    assert header.split() == ["version", "alias", "model", "residue_rate", "git", "data", "registered"]
    assert newer.split()[:4] == ["2", "-", "attentiongan", "-"]
    assert older.split()[:6] == ["1", "champion", "attentiongan", "0.812", "aaaaaaaa+", "dddddddd"]
