"""The judge tells faces from masks, is not fooled by counterfeits, and is the same each time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from drawn import write_dataset

from bmask.errors import DataError, TrainingError
from bmask.params import parse_params, sections
from bmask.quality.counterfeits import CHECKS, PASTED, SPOILED, TRAINING, Counterfeiter, augment
from bmask.quality.judge import Judge, load_judge, save_judge
from bmask.quality.judging import check_judge, train_judge
from bmask.stages.judge import judge

SMALL = {"filters": 8, "epochs": 12, "batch_size": 16, "lr": 4e-3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    torch.set_num_threads(1)
    return write_dataset(tmp_path_factory.mktemp("judge") / "split")


@pytest.fixture(scope="module")
def trained(dataset):
    options = sections.Judge(**SMALL)
    return train_judge(dataset.photos("masked", "train"), dataset.photos("unmasked", "train"), 32, options)


def test_a_trained_judge_tells_the_domains_apart_and_sees_through_counterfeits(dataset, trained):
    photos = [dataset.photos(domain, "validation") for domain in ("masked", "unmasked")]
    groups = dataset.groups("masked", "validation"), dataset.groups("unmasked", "validation")
    checks = check_judge(trained, *photos, groups, sections.Judge(**SMALL))
    assert checks["accuracy"] >= 0.9 and checks["pasted"] >= 0.75 and checks["fooled"] <= 0.2, checks
    assert checks["kinds"]["pasted plain"]["photos"] == 16


def test_near_duplicates_count_once_in_the_checks(dataset, trained):
    masked, unmasked = dataset.photos("masked", "validation"), dataset.photos("unmasked", "validation")
    wrong = np.concatenate([unmasked[:1], *[masked[:1]] * 9])  # one face, and one mask nine times over
    own, alone = np.array(["face", *["mask"] * 9]), np.array([str(i) for i in range(16)])
    checks = check_judge(trained, masked, wrong, (alone, own), sections.Judge(**SMALL))
    assert checks["kinds"]["unmasked"] == {"share": 0.5, "photos": 10, "groups": 2}


@pytest.mark.parametrize("steps", [1, 5, 6])
def test_few_photos_make_few_steps_and_a_judge_all_the_same(dataset, steps):
    masked, unmasked = (dataset.photos(domain, "train")[:2] for domain in ("masked", "unmasked"))
    options = sections.Judge(**{**SMALL, "epochs": steps, "batch_size": 8})
    judge = train_judge(masked, unmasked, 32, options)
    assert all(value.isfinite().all() for value in judge.state_dict().values())
    untrained = train_judge(masked, unmasked, 32, sections.Judge(**{**options.model_dump(), "lr": 1e-12}))
    assert any((a != b).any() for a, b in zip(judge.parameters(), untrained.parameters(), strict=True))


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_random_state_alone(dataset):
    masked, unmasked = dataset.photos("masked", "train"), dataset.photos("unmasked", "train")
    options = sections.Judge(**{**SMALL, "epochs": 1})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (train_judge(masked, unmasked, 32, options).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train_judge(masked, unmasked, 32, sections.Judge(**{**SMALL, "epochs": 1, "seed": 4})).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_features_of_training_photos_have_a_mean_square_of_one(dataset, trained):
    photos = np.concatenate([dataset.photos("masked", "train"), dataset.photos("unmasked", "train")])
    features = trained.photo_features(photos)
    assert features.shape == (80, 32)
    assert (features**2).mean() == pytest.approx(1, rel=1e-3)


def test_probabilities_do_not_depend_on_mirroring_batching_or_the_stored_size(dataset, trained):
    photos = np.concatenate([dataset.photos("masked", "test"), dataset.photos("unmasked", "test")] * 4)
    found = trained.unmasked(photos)
    assert found.min() >= 0 and found.max() <= 1
    assert np.allclose(found, trained.unmasked(photos[:, :, ::-1]), atol=1e-5)
    assert np.allclose(found[70:71], trained.unmasked(photos[70:71]), atol=1e-5)
    doubled = photos[:3].repeat(2, axis=1).repeat(2, axis=2)
    assert trained.unmasked(doubled) == pytest.approx(found[:3], abs=1e-5)


def test_a_saved_judge_is_loaded_with_the_same_answers(tmp_path, dataset, trained):
    save_judge(tmp_path / "j.safetensors", trained, {"data_digest": dataset.digest})
    loaded, about = load_judge(tmp_path / "j.safetensors")
    assert about["data_digest"] == dataset.digest and about["size"] == 32
    photos = dataset.photos("masked", "test")
    assert np.array_equal(loaded.photo_features(photos), trained.photo_features(photos))


@pytest.mark.parametrize("content", [None, b"", b"no judge at all"])
def test_a_file_that_is_no_judge_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "j.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="holds no judge"):
        load_judge(tmp_path / "j.safetensors")


def test_the_stage_refuses_a_judge_that_fails_its_checks_and_leaves_no_results(tmp_path, dataset):
    tree = {"train": {"image_size": 32, "threads": 1}, "judge": {**SMALL, "epochs": 1, "lr": 1e-6}}
    with pytest.raises(TrainingError, match=r"judge\.min_accuracy.*judge\.epochs"):
        judge(parse_params(tree), dataset.folder, tmp_path / "judge")
    assert not (tmp_path / "judge").exists()
    assert not json.loads((tmp_path / "judge-failed-checks.json").read_text())["passed"]


def test_the_stage_writes_judge_and_checks(tmp_path, dataset):
    open_gate = {"min_accuracy": 0, "min_pasted": 0, "max_fooled": 1}
    tree = {"train": {"image_size": 32, "threads": 1}, "judge": {**SMALL, "epochs": 1, **open_gate}}
    returned = judge(parse_params(tree), dataset.folder, tmp_path / "judge")
    written = json.loads((tmp_path / "judge" / "checks.json").read_text())
    assert written["accuracy"] == returned["accuracy"] and written["data_digest"] == dataset.digest
    assert isinstance(load_judge(tmp_path / "judge" / "judge.safetensors")[0], Judge)


@pytest.mark.parametrize("style", [TRAINING, CHECKS], ids=["training", "checks"])
def test_counterfeits_change_the_lower_face_and_keep_the_top(dataset, style):
    masked, unmasked = dataset.photos("masked", "train"), dataset.photos("unmasked", "train")
    maker = Counterfeiter(masked, unmasked, style, np.random.default_rng(0))
    makers = [(maker.paste, PASTED, unmasked), (maker.spoil, SPOILED, masked)]
    for make, kinds, photos in makers:
        for kind in kinds:
            photo = photos[0].astype(np.float32)
            made = make(photo, kind)
            assert made.shape == photo.shape and made.min() >= 0 and made.max() <= 255
            assert np.abs(made - photo).max() > 10, kind
            assert np.abs(made - photo)[:5].max() < 1, kind


def test_the_styles_of_training_and_checks_differ_in_every_field():
    pairs = zip(vars(TRAINING).values(), vars(CHECKS).values(), strict=True)
    assert all(one != other for one, other in pairs)


def test_augmentation_leaves_the_input_alone_and_stays_in_range(dataset):
    photo = dataset.photos("masked", "train")[0].astype(np.float32)
    kept = photo.copy()
    for seed in range(20):
        changed = augment(photo, np.random.default_rng(seed))
        assert changed.shape == photo.shape and changed.min() >= 0 and changed.max() <= 255
    assert np.array_equal(photo, kept)
