"""The judge says where a mask shows and how much, is not fooled by smears, and is the same each time."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from drawn import write_dataset

from bmask.errors import DataError, TrainingError
from bmask.faces.watch import watch_beside
from bmask.params import parse_params, sections
from bmask.quality.alterations import lay, part
from bmask.quality.judge import FILE, Judge, inside, load_judge, save_judge
from bmask.quality.judge_export import export_judge
from bmask.quality.ladder import visible_masks
from bmask.quality.specimens import Specimens, draw_bank
from bmask.quality.train_judge import check_judge, train_judge
from bmask.stages.judge import judge

SMALL = {"filters": 8, "steps": 150, "batch_size": 16, "lr": 6e-3}
FEW = {**SMALL, "steps": 3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    torch.set_num_threads(1)
    return write_dataset(tmp_path_factory.mktemp("judge") / "split")


@pytest.fixture(scope="module")
def trained(dataset):
    options = sections.Judge(**SMALL)
    return train_judge(dataset.photos("masked", "train"), dataset.photos("unmasked", "train"), options)


def test_a_trained_judge_finds_masks_that_shine_through_and_smears_and_nothing_in_faces(dataset, trained):
    photos = [dataset.photos(domain, "validation") for domain in ("masked", "unmasked")]
    groups = dataset.groups("masked", "validation"), dataset.groups("unmasked", "validation")
    checks = check_judge(trained, *photos, groups, sections.Judge(**SMALL))
    assert checks["clean"] >= 0.9 and checks["found"] >= 0.7 and checks["fooled"] <= 0.2, checks
    assert checks["kinds"]["masked"]["share"] <= 0.2
    assert checks["kinds"]["half left"]["share"] <= checks["kinds"]["quarter left"]["share"]
    assert checks["kinds"]["mask at 100 %"]["share"] <= checks["kinds"]["mask at 25 %"]["share"]


def test_an_exported_judge_says_what_the_judge_says(dataset, trained, tmp_path):
    save_judge(tmp_path / FILE, trained, {})
    photos = np.concatenate([dataset.photos(domain, "validation")[:20] for domain in ("masked", "unmasked")])
    export_judge(tmp_path / FILE, tmp_path, photos)
    watch = watch_beside(tmp_path / "generator.safetensors")
    assert watch is not None
    larger = np.stack([cv2.resize(photo, (150, 150), interpolation=cv2.INTER_CUBIC) for photo in photos])
    for squares in (photos, larger):
        said = np.array([watch(square) for square in squares])
        assert np.abs(said - (1 - trained.unmasked(squares))).max() < 1e-3
        assert (said[:20] > 0.5).mean() > 0.7 > 0.3 > (said[20:] > 0.5).mean()


def test_a_judge_that_says_something_else_once_exported_is_not_left(dataset, trained, tmp_path, monkeypatch):
    save_judge(tmp_path / FILE, trained, {})
    monkeypatch.setattr("bmask.quality.judge_export.MAX_DIFFERENCE", -1.0)
    with pytest.raises(DataError, match=r"cannot be converted to OpenVINO \(the exported judge differs by"):
        export_judge(tmp_path / FILE, tmp_path, dataset.photos("masked", "validation")[:2])
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_judge_that_is_missing_or_damaged_does_not_keep_a_generator_from_serving(tmp_path, capsys):
    assert watch_beside(tmp_path / "generator.safetensors") is None
    assert not capsys.readouterr().err
    (tmp_path / "judge.xml").write_text("no network")
    assert watch_beside(tmp_path / "generator.safetensors") is None
    assert "without watching what is left of masks" in capsys.readouterr().err


def test_the_more_opaque_a_mask_the_more_of_it_is_seen_and_only_where_it_lies(dataset, trained):
    photos = np.array(dataset.photos("unmasked", "validation"))
    masks = visible_masks(photos, 3)
    within = masks[..., 3] > 127
    opacities = []
    for opacity in (0.25, 0.5, 1.0):
        pasted = np.stack(
            [lay(photo.astype(np.float32), mask, opacity) for photo, mask in zip(photos, masks, strict=True)]
        )
        seen = trained.see(pasted.round().astype(np.uint8))
        assert inside(seen.shows, within).mean() > 2 * inside(seen.shows, ~within).mean()
        opacities.append(inside(seen.opacity, within).mean())
    assert opacities == sorted(opacities) and opacities[2] > 1.5 * opacities[0]


def test_a_bank_has_pairs_of_which_one_shows_a_mask_and_gives_them_mirrored_as_well(dataset):
    rng = np.random.default_rng(0)
    bank = draw_bank(Specimens(dataset.photos("masked", "train"), dataset.photos("unmasked", "train"), rng), 20)
    pictures, truths = bank.batch(np.random.default_rng(1), 30)
    assert pictures.shape == (60, 3, 32, 32) and truths.shape == (60, 2, 16, 16)
    assert -1 <= pictures.min() < -0.5 and 0.5 < pictures.max() <= 1
    clean, marked = (truths[start::2, 1].flatten(1).amax(1) for start in (0, 1))
    assert clean.max() == 0 and marked.gt(0).float().mean() > 0.9  # a pair's second shows a mask; some are too faint
    stored = torch.from_numpy(bank.pictures[:, 0]).permute(0, 3, 1, 2) / 127.5 - 1
    ways = [((stored.flip(3) if mirrored else stored) - pictures[0]).abs().amax((1, 2, 3)).min() for mirrored in (0, 1)]
    assert min(ways) == 0
    # The pictures of a pair differ where the truth has a mask.
    where = [np.abs(bank.pictures[:, 0].astype(int) - bank.pictures[:, 1]).mean((3,))[i] for i in range(10)]
    for apart, truth in zip(where, bank.truths[:, :, ..., 1], strict=True):
        shown = np.kron(truth[1] > 30, np.ones((2, 2), bool))
        assert not shown.any() or apart[shown].mean() > apart[~shown].mean()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_part_of_a_mask_has_its_share_of_the_area_on_one_side_of_a_line(share):
    mask = np.zeros((64, 64, 4), np.uint8)
    mask[20:60, 10:54] = 255
    left = part(mask, share, angle=0.0)
    assert (left[..., 3] > 0).sum() / (mask[..., 3] > 0).sum() == pytest.approx(share, abs=0.03)
    assert (left[..., :3] == mask[..., :3]).all()
    columns = np.flatnonzero((left[..., 3] > 0).any(0))
    assert columns[0] == 10 and (np.diff(columns) == 1).all()
    assert (part(np.zeros_like(mask), share, 1.0) == 0).all()


def test_near_duplicates_count_once_in_the_checks(dataset, trained):
    masked, unmasked = dataset.photos("masked", "validation"), dataset.photos("unmasked", "validation")
    wrong = np.concatenate([unmasked[:1], *[masked[:1]] * 9])  # one face, and one mask nine times over
    own, alone = np.array(["face", *["mask"] * 9]), np.array([str(i) for i in range(16)])
    checks = check_judge(trained, masked, wrong, (alone, own), sections.Judge(**SMALL))
    assert checks["kinds"]["unmasked"] == {"share": 0.5, "photos": 10, "groups": 2}


@pytest.mark.parametrize("steps", [1, 5, 6])
def test_few_photos_make_few_steps_and_a_judge_all_the_same(dataset, steps):
    masked, unmasked = (dataset.photos(domain, "train")[:2] for domain in ("masked", "unmasked"))
    options = sections.Judge(**{**SMALL, "steps": steps, "batch_size": 8})
    judge = train_judge(masked, unmasked, options)
    assert all(value.isfinite().all() for value in judge.state_dict().values())
    untrained = train_judge(masked, unmasked, sections.Judge(**{**options.model_dump(), "lr": 1e-12}))
    assert any((a != b).any() for a, b in zip(judge.parameters(), untrained.parameters(), strict=True))


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_random_state_alone(dataset):
    masked, unmasked = dataset.photos("masked", "train"), dataset.photos("unmasked", "train")
    options = sections.Judge(**FEW)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (train_judge(masked, unmasked, options).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train_judge(masked, unmasked, sections.Judge(**{**FEW, "seed": 4})).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_features_of_training_photos_have_a_mean_square_of_one(dataset, trained):
    photos = np.concatenate([dataset.photos("masked", "train"), dataset.photos("unmasked", "train")])
    features = trained.photo_features(photos)
    assert features.shape == (80, 80)
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
    tree = {"train": {"image_size": 32, "threads": 1}, "judge": {**FEW, "lr": 1e-6, "min_found": 1}}
    with pytest.raises(TrainingError, match=r"judge\.min_found.*judge\.steps"):
        judge(parse_params(tree), dataset.folder, tmp_path / "judge")
    assert not (tmp_path / "judge").exists()
    assert not json.loads((tmp_path / "judge-failed-checks.json").read_text())["passed"]


def test_the_stage_writes_judge_and_checks(tmp_path, dataset):
    open_gate = {"min_clean": 0, "min_found": 0, "max_fooled": 1}
    tree = {"train": {"image_size": 32, "threads": 1}, "judge": {**FEW, **open_gate}}
    returned = judge(parse_params(tree), dataset.folder, tmp_path / "judge")
    written = json.loads((tmp_path / "judge" / "checks.json").read_text())
    assert written["found"] == returned["found"] and written["data_digest"] == dataset.digest
    assert isinstance(load_judge(tmp_path / "judge" / "judge.safetensors")[0], Judge)
