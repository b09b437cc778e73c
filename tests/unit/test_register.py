"""Registration and promotion on a real SQLite store, with real generators and real scores of a tiny split.

Nothing is trained. The primary score is the likeness of the upper face, so that a generator with little attention
beats one that repaints the picture; thresholds of 0 let everything through unless a test raises them.
"""

from __future__ import annotations

import json
import shutil

import pytest

from bmask.errors import DataError
from bmask.faces.watch import watch_beside
from bmask.files import write_json
from bmask.gan.generator_file import FILE, load_generator, save_generator
from bmask.serving.unmasker import Unmasker
from bmask.tracking import registry as champion
from bmask.tracking.outputs import EVALUATED
from bmask.tracking.resolving import SHIPPED, best, resolve
from bmask.tracking.runs import find_run
from bmask.tracking.store import connect
from registering import CHANGES_LITTLE, CHANGES_MUCH, NAME, REPAINTS, SIZE, Place, aliases, settings


def test_the_best_training_becomes_the_first_champion_and_everything_is_logged(place):
    params = settings("a", "b")
    decision = place.run(params, a=(REPAINTS, "fa"), b=(CHANGES_LITTLE, "fb"))
    assert (decision["model"], decision["version"], decision["promoted"], decision["champion"]) == ("b", 1, True, 1)
    assert aliases() == {1: ("champion",)}
    (version,) = champion.versions(connect(), NAME)
    assert version.tags["fingerprint"] == "fb"
    assert version.tags["data_digest"] == place.digest
    assert float(version.tags["score.upper_ssim"]) == pytest.approx(decision["scores"]["upper_ssim"], abs=1e-4)
    assert version.tags["git_sha"]
    client = connect()
    for fingerprint in ("fa", "fb"):
        run = find_run(fingerprint)
        assert run.data.metrics["total"] == 2.25
        assert run.data.metrics["test/unmask_rate"] >= 0
        logged = client.get_logged_model(run.data.tags["bmask.model_id"])
        measured = {metric.key: metric for metric in logged.metrics}
        assert measured["test/upper_ssim"].dataset_digest == place.digest[:36]
    assert resolve("champion").read_bytes() == (place.folder / "train" / "b" / FILE).read_bytes()


def test_a_second_run_changes_nothing(place):
    params = settings("a")
    first = place.run(params, a=(CHANGES_MUCH, "fa"))
    client, run = connect(), find_run("fa")
    before = [version.tags for version in champion.versions(client, NAME)]
    assert place.register(params) == first
    after = find_run("fa")
    assert [version.tags for version in champion.versions(client, NAME)] == before
    assert after.data.tags == run.data.tags
    assert after.info.end_time == run.info.end_time
    for key in ("total", "test/unmask_rate"):
        history = client.get_metric_history(run.info.run_id, key)
        assert len(history) == len({metric.step for metric in history})
    assert len(client.search_logged_models([run.info.experiment_id])) == 1


def test_a_better_training_takes_over_and_the_way_back_is_kept(place):
    params = settings("a")
    place.run(params, a=(REPAINTS, "f1"))
    decision = place.run(params, a=(CHANGES_LITTLE, "f2"))
    assert decision["promoted"]
    assert any("better in 100.0%" in reason for reason in decision["reasons"])
    assert aliases() == {2: ("champion",), 1: ()}
    champion.rollback()
    assert aliases() == {2: (), 1: ("champion",)}


def test_a_worse_training_is_the_challenger_and_the_reason_is_told(place):
    params = settings("a")
    place.run(params, a=(CHANGES_LITTLE, "f1"))
    decision = place.run(params, a=(REPAINTS, "f2"))
    assert not decision["promoted"]
    assert decision["champion"] == 1
    assert any("register.confidence" in reason for reason in decision["reasons"])
    assert aliases() == {2: ("challenger",), 1: ("champion",)}


def test_under_a_threshold_nobody_becomes_champion(place):
    decision = place.run(settings("a", max_residue_rate=0.0, max_paste_outside=0.0), a=(REPAINTS, "f1"))
    assert not decision["promoted"]
    assert decision["champion"] is None
    assert any("misses register.max_" in reason for reason in decision["reasons"])
    assert aliases() == {1: ("challenger",)}


def test_a_rollback_by_hand_outlives_the_next_runs(place):
    params = settings("a")
    place.run(params, a=(REPAINTS, "f1"))
    place.run(params, a=(CHANGES_LITTLE, "f2"))
    champion.rollback()
    place.register(params)
    assert aliases()[1] == ("champion",)
    again = place.run(settings("a", seed=2))  # the same training, evaluated anew
    assert again["version"] == 2
    assert not again["promoted"]
    assert "`bmask champion set 2` brings it back" in again["reasons"][-1]
    assert aliases() == {2: ("challenger",), 1: ("champion",)}


def test_an_old_training_that_comes_back_keeps_its_version(place):
    params = settings("a")
    place.run(params, a=(CHANGES_LITTLE, "f1"))
    place.run(params, a=(REPAINTS, "f2"))
    decision = place.run(params, a=(CHANGES_LITTLE, "f1"))
    assert decision["version"] == 1
    assert decision["promoted"]
    assert len(aliases()) == 2


def test_a_store_that_was_wiped_is_filled_again(place, store_template):
    params = settings("a", "b")
    first = place.run(params, a=(REPAINTS, "fa"), b=(CHANGES_LITTLE, "fb"))
    connect()
    shutil.rmtree(place.folder / "mlruns")
    fresh = place.folder / "fresh.db"
    shutil.copy(store_template, fresh)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{fresh}")
        second = place.register(params)
        assert {**second, "reasons": []} == {**first, "reasons": []}
        assert aliases() == {1: ("champion",)}
        assert find_run("fa").data.tags[EVALUATED] == find_run("fb").data.tags[EVALUATED]
        assert resolve("champion").is_file()


def test_new_photos_do_not_deadlock_since_the_champion_is_scored_on_them(place):
    params = settings("a")
    place.run(params, a=(REPAINTS, "f1"))
    place.split("digest-of-new-photos", seed=5)
    decision = place.run(params, a=(CHANGES_LITTLE, "f2"))
    assert decision["promoted"]
    assert decision["data_digest"] == "digest-of-new-photos"
    assert aliases() == {2: ("champion",), 1: ()}
    place.split("digest-of-newer-photos", seed=6)
    assert not place.run(params, a=(REPAINTS, "f3"))["promoted"]


def test_a_champion_of_another_size_can_be_compared(place, monkeypatch):
    params = settings("a")
    place.train("a", CHANGES_LITTLE, "f1")
    generator, about = load_generator(place.folder / "train" / "a" / FILE)
    save_generator(place.folder / "train" / "a" / FILE, generator, about | {"image_size": 2 * SIZE})
    place.run(params)
    decision = place.run(params, a=(REPAINTS, "f2"))
    assert not decision["promoted"]
    assert aliases()[1] == ("champion",)


def test_a_champion_that_cannot_be_loaded_stays_and_the_reason_is_told(place):
    params = settings("a")
    place.run(params, a=(REPAINTS, "f1"))
    for path in resolve("champion").parent.glob("generator.*"):
        path.write_bytes(b"damaged")
    decision = place.run(params, a=(CHANGES_LITTLE, "f2"))
    assert not decision["promoted"]
    assert "version 1, cannot be loaded" in decision["reasons"][0]
    assert aliases() == {2: ("challenger",), 1: ("champion",)}
    champion.set_champion(2)
    assert aliases() == {2: ("champion",), 1: ()}


def test_another_attention_threshold_is_another_version_that_serves_with_it(place):
    import mlflow

    place.run(settings("a"), a=(CHANGES_LITTLE, "f1"))
    decision = place.run(settings("a", threshold=0.2))
    assert decision["version"] == 2
    served = mlflow.pyfunc.load_model(f"models:/{NAME}/2").unwrap_python_model()
    assert served.unmasker.threshold == 0.2
    assert Unmasker(resolve(f"models:/{NAME}/2")).about["fingerprint"] == "f1"
    assert place.register(settings("a", threshold=0.2)) == decision


def test_a_version_is_exported_and_served_by_openvino_and_one_that_differs_by_pytorch(place, monkeypatch):
    place.run(settings("a"), a=(CHANGES_LITTLE, "f1"))
    first = resolve(f"models:/{NAME}/1")
    assert Unmasker(first).engine.name == "openvino"
    assert watch_beside(first) is not None  # the judge that scored it
    monkeypatch.setattr("bmask.serving.agreement.MAX_DIFFERENCE", -1.0)
    monkeypatch.setattr("bmask.quality.judge_export.MAX_DIFFERENCE", -1.0)
    place.run(settings("a"), a=(CHANGES_MUCH, "f2"))
    second = resolve(f"models:/{NAME}/2")
    assert Unmasker(second).engine.name == "pytorch"
    assert watch_beside(second) is None


def test_the_data_digest_and_the_report_of_the_photos_are_with_the_run_and_the_digest_with_the_version(place):
    place.run(settings("a"), a=(REPAINTS, "f1"))
    run = find_run("f1")
    assert run.data.tags["data_digest"] == place.digest
    assert run.inputs.dataset_inputs[0].dataset.digest == place.digest[:36]
    (version,) = connect().search_model_versions(f"name = '{NAME}'")
    assert version.tags["data_digest"] == place.digest
    logged = connect().get_logged_model(run.data.tags["bmask.model_id"])
    assert logged.tags["data_digest"] == place.digest
    assert [item.path for item in connect().list_artifacts(run.info.run_id, "data")] == ["data/report.html"]


def test_a_report_of_photos_that_became_private_is_not_logged(place, capsys):
    params = settings("a")
    place.train("a", REPAINTS, "f1")
    place.evaluate(params)
    split = place.folder / "split"
    write_json(split / "summary.json", json.loads((split / "summary.json").read_text()) | {"private": True})
    place.page("ingest", '<img src="data:image/png;base64,">')
    place.register(params)
    assert "data" not in artifacts(find_run("f1"))
    assert "shows pictures of private photos" in capsys.readouterr().err


# A pipeline run on Kubeflow.


@pytest.fixture
def pipeline(place, monkeypatch) -> Place:
    """Two evaluated trainings of one pipeline run, with the leaderboard and the report for people."""
    monkeypatch.setenv("KFP_RUN_ID", "0a1b2c3d-1111-2222-3333-444455556666")
    place.train("a", REPAINTS, "fa")
    place.train("b", CHANGES_LITTLE, "fb")
    place.evaluate(settings("a", "b"))
    (place.folder / "evaluate" / "leaderboard.csv").write_text("system,unmask_rate\n")
    place.page("evaluate", '<img src="data:image/png;base64,">')
    return place


def parents() -> list:
    client = connect()
    place = client.get_experiment_by_name("bmask").experiment_id
    return client.search_runs([place], "tags.`bmask.kind` = 'pipeline'")


def artifacts(run) -> set[str]:
    return {item.path for item in connect().list_artifacts(run.info.run_id)}


def test_a_pipeline_run_ends_with_what_it_came_to(pipeline):
    decision = pipeline.register(settings("a", "b"))
    for _ in range(2):
        (parent,) = parents()
        assert parent.info.run_name == "pipeline 0a1b2c3d"
        assert parent.info.status == "FINISHED"
        trainings = [find_run(fingerprint) for fingerprint in ("fa", "fb")]
        assert parent.data.tags["bmask.trainings"].split() == [run.info.run_id for run in trainings]
        assert parent.data.tags["bmask.best"] == "b"
        assert parent.data.tags["data_digest"] == pipeline.digest
        for run in trainings:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        (measured,) = connect().get_metric_history(parent.info.run_id, "test/upper_ssim")
        assert measured.value == decision["scores"]["upper_ssim"]
        assert artifacts(parent) == {"data", "leaderboard.csv", "report.html"}
        assert pipeline.register(settings("a", "b")) == decision  # a retried task


def test_pictures_of_private_photos_stay_out_of_a_pipeline_run(pipeline, capsys):
    summary = pipeline.folder / "split" / "summary.json"
    write_json(summary, json.loads(summary.read_text()) | {"private": True})
    pipeline.register(settings("a", "b"))
    (parent,) = parents()
    assert artifacts(parent) == {"data", "leaderboard.csv"}
    assert "report.html shows pictures of private photos" in capsys.readouterr().err
    pipeline.page("evaluate", "numbers alone")
    pipeline.register(settings("a", "b"))
    assert artifacts(parent) == {"data", "leaderboard.csv", "report.html"}


def test_under_kubeflows_plugin_the_run_of_the_task_holds_what_the_pipeline_run_came_to(pipeline, monkeypatch):
    client = connect()
    given = client.create_run(client.get_experiment_by_name("bmask").experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    decision = pipeline.register(settings("a", "b"))
    assert not parents()
    run = client.get_run(given.info.run_id)
    assert run.info.status == "RUNNING"  # the plugin ends the run
    assert run.data.metrics["test/upper_ssim"] == decision["scores"]["upper_ssim"]
    assert artifacts(run) == {"data", "leaderboard.csv", "report.html"}
    trainings = [find_run(fingerprint) for fingerprint in ("fa", "fb")]
    assert run.data.tags["bmask.trainings"].split() == [training.info.run_id for training in trainings]
    assert {training.data.tags["mlflow.parentRunId"] for training in trainings} == {given.info.run_id}


def test_outside_of_kubeflow_no_parent_is_made(place):
    place.run(settings("a"), a=(REPAINTS, "f1"))
    assert not parents()
    assert "kfp_run_id" not in find_run("f1").data.tags


@pytest.mark.parametrize("missing", ["split/summary.json", "train/a/run.json", "evaluate/scores.json", "scores"])
def test_a_missing_output_names_the_stage_to_run(place, missing):
    params = settings("a")
    place.train("a", REPAINTS, "f1")
    place.evaluate(params)
    (place.folder / ("evaluate/scores/a.npz" if missing == "scores" else missing)).unlink()
    with pytest.raises(DataError, match=r"run (the stage that writes|evaluate)"):
        place.register(params)


def test_params_without_models_have_nothing_to_register(place):
    with pytest.raises(DataError, match="models is empty"):
        place.register(settings())


# resolve, where it needs a registry


def test_models_are_found_in_the_registry_and_errors_list_what_is_there(place):
    params = settings("a")
    place.run(params, a=(REPAINTS, "f1"))
    trained = place.folder / "train"
    weights = (trained / "a" / FILE).read_bytes()
    model_id = find_run("f1").data.tags["bmask.model_id"]
    for name in ("champion", f"models:/{NAME}@champion", f"models:/{NAME}/1", f"models:/{model_id}"):
        assert resolve(name).read_bytes() == weights
    with pytest.raises(DataError, match=f"there are .*a, champion, models:/{NAME}/1"):
        resolve("challenger", trained=trained)
    for name in ("models:/nobody@champion", "models:/m-0123", "models:/", "nonsense", str(place.folder)):
        with pytest.raises(DataError, match="there are"):
            resolve(name, trained=trained)


def test_without_a_name_the_champion_is_taken_and_else_the_one_that_ships(place, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.folder}/none.db")
        assert best() == SHIPPED
        assert not (place.folder / "none.db").exists()
    assert best() == SHIPPED  # a store without the model
    place.run(settings("a"), a=(REPAINTS, "f1"))
    assert best() == "champion"
    connect().delete_registered_model_alias(NAME, "champion")
    assert best() == SHIPPED
    assert resolve(SHIPPED).is_file()
    assert Unmasker(resolve(SHIPPED)).finds_faces


def test_with_nothing_trained_the_remedy_is_named(place):
    with pytest.raises(DataError, match="run the pipeline first"):
        resolve("champion")
