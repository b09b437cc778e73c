"""Trainings of inpainting through the command's function: their folders, MLflow runs, and what goes on from them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bmask.errors import DataError
from bmask.faces.template import TEMPLATE
from bmask.gan.generator_file import FILE, load_generator
from bmask.html.charts import read_losses
from bmask.kubeflow.inside import last_losses
from bmask.recipe import DISCRIMINATORS
from bmask.tracking.outputs import ensure_logged
from logged import assert_holds, rows_of, run_of, runs, train_here
from pasted import params, write_folders
from tiny import tiny_params

pytestmark = pytest.mark.usefixtures("one_thread")

GAME = ("gan", "features", "d_region", "gradient_discriminators")
STILL = {"lr": 1e-12, "epochs": 1, "constant_epochs": 1}


@pytest.fixture(autouse=True)
def folders(workplace):
    write_folders(workplace / "results")


def train(**changes) -> Path:
    return train_here(params(**changes), "painter")


def test_its_folder_and_its_run_tell_the_losses_of_the_game_from_when_it_began(store):
    folder = train()
    assert {path.name for path in folder.iterdir()} == {FILE, DISCRIMINATORS, "losses.csv", "run.json", "samples"}
    with open(folder / "losses.csv", newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    assert [[bool(row[name]) for name in GAME] for row in cells] == [[False] * 4] * 6 + [[True] * 4] * 6
    assert all(row["reconstruction_l1"] and row["perceptual"] for row in cells)
    assert_holds(store, run_of(store, folder), rows_of(folder))
    steps, losses = read_losses(folder / "losses.csv")
    assert len(steps) == len(losses["gan"]) == 12
    assert set(GAME) <= set(last_losses(str(folder)))


def test_it_is_logged_again_from_its_folder_and_taken_back_to_the_byte(new_store):
    new_store()
    folder = train()
    shutil.rmtree("checkpoints")
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    client = new_store("second")
    run = ensure_logged(folder)
    assert DISCRIMINATORS in {item.path for item in client.list_artifacts(run.info.run_id)}
    assert_holds(client, run, rows_of(folder))
    shutil.rmtree(folder)
    train()
    assert not Path("checkpoints").exists()  # nothing was trained
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole
    assert len(runs(client)) == 1


def assert_goes_on_from(teacher: Path, pupil: Path) -> None:
    ours, theirs = (load_generator(folder / FILE)[0].state_dict() for folder in (pupil, teacher))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6)
    ours, theirs = (load_file(folder / DISCRIMINATORS) for folder in (pupil, teacher))
    for name, value in theirs.items():
        assert value.dtype == torch.float16
        torch.testing.assert_close(ours[name], value, rtol=2e-3, atol=2e-3, msg=name)


@pytest.mark.parametrize("where", [pytest.param("a folder", marks=pytest.mark.slow), "MLflow"])
def test_a_warm_start_goes_on_with_generator_and_discriminators(where, store, capsys):
    folder = train()
    address = "teacher"
    if where == "MLflow":
        address = f"models:/{run_of(store, folder).data.tags['bmask.model_id']}"
    shutil.move(folder, "teacher")
    begun = train(train={"ema": 0.0, "seed": 9}, warm_start=address, **STILL)
    said = capsys.readouterr().err
    assert f"{FILE}\n" in said.partition("warm start ab from ")[2]
    assert f"{DISCRIMINATORS}\n" in said.partition("warm start discriminators from ")[2]
    assert_goes_on_from(Path("teacher"), begun)
    assert len(runs(store)) == 2


def test_a_generator_of_faces_states_their_framing_and_a_warm_start_says_where_it_was_another(store, capsys):
    def framed(fit: str) -> None:
        path = Path("results/ingest/summary.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"fit": fit}))

    framed("face")
    shutil.move(train(**STILL), "teacher")
    about = load_generator(Path("teacher") / FILE)[1]
    assert (about["fit"], about["template"]) == ("face", TEMPLATE.tolist())
    train(warm_start="teacher", **STILL)
    assert "trained on photos with another framing" not in capsys.readouterr().err
    framed("aligned")
    folder = train(warm_start="teacher", train={"seed": 9}, **STILL)
    assert "trained on photos with another framing" in capsys.readouterr().err
    assert "template" not in load_generator(folder / FILE)[1]


@pytest.mark.slow
def test_other_discriminators_are_another_training_and_those_of_another_size_start_fresh(store, capsys):
    shutil.move(train(), "teacher")
    first = train(warm_start="teacher", **STILL)
    before = (first / "run.json").read_bytes()
    other = load_file(f"teacher/{DISCRIMINATORS}")
    save_file({name: value * 0.5 for name, value in other.items()}, f"teacher/{DISCRIMINATORS}")
    assert (train(warm_start="teacher", **STILL) / "run.json").read_bytes() != before
    capsys.readouterr()
    train(warm_start="teacher", network={"discriminator_filters": 8}, **STILL)
    said = capsys.readouterr().err
    assert f"no warm start of the discriminators: those in teacher/{DISCRIMINATORS} are other networks" in said
    train(warm_start="teacher", network={"w_gan": 0.0}, **STILL)
    assert "they start fresh" in capsys.readouterr().err


def test_features_masks_and_cutouts_that_are_missing_are_named_with_the_remedy(store):
    Path("results/masks/features.safetensors").unlink()
    with pytest.raises(
        DataError,
        match=r"models\.painter.*: results/masks/features\.safetensors, .* network features, .*exist.*`bmask masks`",
    ):
        train()
    write_folders(Path("results"))
    Path("results/masks/cutouts_train.npy").unlink()
    with pytest.raises(
        DataError, match=r"models\.painter: .*'cutouts' batches, for which cutouts_train\.npy is missing"
    ):
        train()


def test_systems_that_need_no_masks_train_without_them(store):
    shutil.rmtree("results/masks")
    assert (train_here(tiny_params()) / FILE).is_file()
