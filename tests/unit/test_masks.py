"""Stage masks on a few photos: what it writes, that it writes the same again, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bmask.data.split.dataset import Dataset
from bmask.errors import DataError
from bmask.gan.perceptual import FaceFeatures
from bmask.params import Params, parse_params
from bmask.params.sections import Model
from bmask.pasting.finder import MaskFinder
from bmask.quality.measuring import read_cutouts
from bmask.recipe import open_photos
from bmask.stages.masks import masks
from tiny import TEST, TRAIN, VALIDATION, write_augment, write_dataset

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, COUNT = 36, 40
SETTINGS = {"count": COUNT, "cut_out": 0.5, "bare": 0.1, "filters": 8, "steps": 80, "batch_size": 8, "lr": 0.01}


def params(image_size: int = 32, **changes) -> Params:
    train = {"image_size": image_size, "device": "cpu", "threads": 1}
    return parse_params({"ingest": {"load_size": SIDE}, "train": train, "masks": SETTINGS | changes})


def run(folder: Path, out: str = "masks", **changes) -> Path:
    masks(params(**changes), folder / "ingest", folder / "augment", folder / out)
    return folder / out


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    """What ingest and augment leave."""
    folder = tmp_path_factory.mktemp("before")
    write_dataset(folder / "ingest", load_size=SIDE)
    write_augment(folder / "augment", load_size=SIDE)
    return folder


@pytest.fixture(scope="module")
def written(before) -> Path:
    torch.set_num_threads(1)
    return run(before)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_its_files_are_what_trainings_and_evaluation_read(written):
    shapes = {path.stem: (np.load(path).dtype.name, np.load(path).shape) for path in written.glob("*.npy")}
    train = shapes.pop("cutouts_train")
    assert shapes == {
        "masks_train": ("uint8", (1, COUNT, SIDE, SIDE, 4)),
        "cutouts_validation": ("uint8", (VALIDATION, SIDE, SIDE)),
        "cutouts_test": ("uint8", (TEST, SIDE, SIDE)),
    }
    found = json.loads((written / "summary.json").read_text())["found"]
    assert train == ("uint8", (2, round(found["train"] * TRAIN), SIDE, SIDE, 4))
    others = {"finder.safetensors", "features.safetensors", "summary.json", "contact_sheet.png"}
    assert {path.name for path in written.iterdir() if path.suffix != ".npy"} == others
    FaceFeatures().load_state_dict(load_file(written / "features.safetensors"))
    MaskFinder(8).load_state_dict(load_file(written / "finder.safetensors"))
    assert Image.open(written / "contact_sheet.png").width > 10 * SIDE


def test_a_cutout_lies_where_the_photo_of_that_copy_wears_its_mask(before, written):
    worn = np.load(written / "cutouts_train.npy")
    photos = np.load(before / "augment" / "masked_train.npy")
    known = {photo.tobytes(): number for number, photo in enumerate(photos[0])}
    numbers = [known[photo.tobytes()] for photo in np.ascontiguousarray(worn[0, ..., :3])]
    assert len(set(numbers)) == len(numbers)
    assert np.array_equal(worn[1, ..., :3], photos[1, numbers])
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    band = (abs(x - 0.5) < 0.35) & (y > 0.55) & (y < 0.85)
    cut = worn[..., 3] > 127
    overlap = (cut & band).sum((2, 3)) / (cut | band).sum((2, 3))
    assert np.median(overlap) > 0.5


def test_of_the_masks_to_paste_some_are_none_and_some_are_cloth_of_the_photos(written):
    bank = np.load(written / "masks_train.npy")[0]
    bare = ~bank[..., 3].any((1, 2))
    assert bare.sum() == round(0.1 * COUNT)
    means = np.stack([m[..., :3][m[..., 3] == 255].mean(0) for m in bank[~bare]])
    blue = (means[:, 2] > means[:, 1]) & (means[:, 1] > means[:, 0])  # as tiny.pictures draws masks
    assert blue.sum() >= 0.5 * (COUNT - bare.sum()) - 4


def test_the_same_again_is_the_same_to_the_byte(before, written):
    assert contents(run(before, "again")) == contents(written)


def test_private_photos_get_no_sheet_pictures_of_any_size_will_do_and_another_seed_is_another_digest(
    before, written, tmp_path
):
    """The finder halves its pictures four times, but other systems may train at 20 px."""
    shutil.copytree(before / "augment", tmp_path / "augment")
    write_dataset(tmp_path / "ingest", load_size=SIDE, private=True)
    out = run(tmp_path, image_size=20, cut_out=0.0, bare=0.0, seed=14)
    assert not list(out.glob("*.png"))
    told, other = (json.loads((folder / "summary.json").read_text()) for folder in (out, written))
    assert told["private"] is True
    assert told["digest"] != other["digest"]
    bank = np.load(out / "masks_train.npy")
    assert bank.shape == (1, COUNT, SIDE, SIDE, 4)
    assert bank[..., 3].any((2, 3)).all()


def test_where_few_masks_are_found_only_trainings_that_need_them_are_refused(before, tmp_path, capsys):
    shutil.copytree(before / "ingest", tmp_path / "ingest")
    shutil.copytree(before / "augment", tmp_path / "augment")
    shutil.copy(tmp_path / "augment" / "unmasked_train.npy", tmp_path / "augment" / "masked_train.npy")
    out = run(tmp_path)
    assert "too few to learn from; frame photos by their faces (ingest.fit: face)" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"found on 0% of the masked .*ingest\.fit: face.*masks\.steps"):
        open_photos(recipe("inpainting"), tmp_path / "augment", out)
    assert set(open_photos(recipe("cyclegan"), tmp_path / "augment", out)[0]) == {"a", "b"}


def test_masks_of_other_photos_are_refused(before, written, tmp_path):
    assert set(open_photos(recipe("inpainting"), before / "augment", written)[0]) == {"a", "b", "masks", "cutouts"}
    write_augment(tmp_path / "augment", digest="another", load_size=SIDE)
    with pytest.raises(DataError, match=r"was made of other photos than .*run `bmask masks` again"):
        open_photos(recipe("inpainting"), tmp_path / "augment", written)


def test_cutouts_of_other_photos_are_refused_where_systems_are_measured(before, written, tmp_path):
    dataset = Dataset.open(before / "ingest")
    assert read_cutouts(written, dataset, "test").shape == (TEST, SIDE, SIDE)
    assert read_cutouts(tmp_path, dataset, "test") is None
    shutil.copytree(before / "ingest", tmp_path / "other")
    about = json.loads((tmp_path / "other/summary.json").read_text())
    (tmp_path / "other/summary.json").write_text(json.dumps(about | {"digest": "of others"}))
    with pytest.raises(DataError, match=r"was made of other photos than .*run `bmask masks` again"):
        read_cutouts(written, Dataset.open(tmp_path / "other"), "test")


def recipe(system: str) -> Model:
    return parse_params({"models": {"m": {"network": {"system": system}}}}).models["m"]
