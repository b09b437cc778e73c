"""Only the mask may tell masked from unmasked photos; the classifier that checks this is tested too."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

from bmask.data.reading.framing import recompress
from bmask.data.records import DOMAINS, SPLITS
from bmask.data.report.cues import BANDS, CUES, FOLDS, TREES, UPPER, cues, told_apart
from bmask.data.split.dataset import Dataset
from bmask.params import parse_params
from bmask.params.sections import Drawn
from bmask.stages.ingest import ingest
from bmask.synthetic import draw_set

CHANCE = 0.6  # for 200 photos; guessing stays three standard deviations below


def accuracies(folder: Path) -> dict[str, float]:
    dataset = Dataset.open(folder)
    photos = [dataset.photos(domain, "train") for domain in DOMAINS]
    masked = np.repeat([True, False], [len(own) for own in photos])
    groups = np.concatenate([dataset.groups(domain, "train") for domain in DOMAINS])
    return told_apart(cues(np.concatenate(photos)), masked, groups)


def run(source: Path, out: Path, **options) -> Path:
    ingest(parse_params({"ingest": {"source": str(source), **options}}), out)
    return out


def test_drawn_faces_are_told_apart_by_no_cue(embedded):
    found = accuracies(embedded)
    assert set(found) == {"spectrum", "compression", "border"}
    assert max(found.values()) < CHANCE, found


@pytest.fixture(scope="module")
def unlike(tmp_path_factory) -> Path:
    """Drawn faces whose domains come from two sources: masked photos from small files, unmasked from large ones."""
    folder = tmp_path_factory.mktemp("unlike") / "photos"
    draw_set(folder, Drawn(masked=170, unmasked=170, size=96, hard=0, seed=21))
    rng = np.random.default_rng(4)
    for domain, low, high in (("masked", 30, 60), ("unmasked", 80, 96)):
        for path in sorted((folder / domain).iterdir()):
            side = int(rng.integers(low, high))
            with Image.open(path) as photo:
                photo.resize((side, side), Image.Resampling.LANCZOS).save(path)
    for path in (folder / "truth").rglob("*.png"):
        path.unlink()
    for path in sorted((folder / "truth").iterdir(), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder / "truth").rmdir()
    return folder


def test_matching_takes_away_what_two_sources_give_away(unlike, tmp_path):
    before = accuracies(run(unlike, tmp_path / "as is", match_resolution=False))
    after = accuracies(run(unlike, tmp_path / "matched"))
    assert before["spectrum"] > 0.85, before
    assert max(after.values()) < 0.65, after


@pytest.fixture(scope="module")
def alike(embedded) -> np.ndarray:
    """uint8 (200, S, S, 3): photos of both domains, shuffled; the tests change the first hundred."""
    photos = np.concatenate([Dataset.open(embedded).photos(domain, split) for domain in DOMAINS for split in SPLITS])
    return np.random.default_rng(3).permutation(photos)[:200]


def framed(photo: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(photo[2:-2, 2:-2], 2, 2, 2, 2, cv2.BORDER_CONSTANT)


@pytest.mark.parametrize(
    ("cue", "plant"),
    [
        ("spectrum", lambda photo: cv2.GaussianBlur(photo, (0, 0), 0.6)),
        ("compression", lambda photo: recompress(photo, 20)),
        ("border", framed),
    ],
)
def test_a_planted_cue_is_found(alike, cue, plant):
    photos = np.concatenate([[plant(photo) for photo in alike[:100]], alike[100:]])
    masked, groups = np.arange(200) < 100, np.arange(200)
    found = told_apart({"planted": cues(photos)[cue], "alike": cues(alike)[cue]}, masked, groups)
    assert found["planted"] > 0.85
    assert found["alike"] < 0.65


def test_copies_of_a_photo_do_not_count_as_knowing_it():
    rng = np.random.default_rng(0)
    features, masked = np.repeat(rng.normal(size=(60, 8)), 4, axis=0), np.repeat(rng.random(60) < 0.5, 4)
    assert told_apart({"noise": features}, masked, np.arange(240))["noise"] > 0.9
    assert told_apart({"noise": features}, masked, np.repeat(np.arange(60), 4))["noise"] < 0.7


def test_folds_that_are_dealt_once_give_what_each_kind_of_cue_gives_with_its_own():
    rng = np.random.default_rng(1)
    masked, groups = rng.random(240) < 0.5, rng.integers(0, 200, 240)
    kinds = {f"hint of {hint}": rng.normal(size=(240, 3)) + hint * masked[:, None] for hint in (0.3, 0.6, 1)}
    found = told_apart(kinds, masked, groups)
    assert len(set(found.values())) == len(kinds)
    for name, features in kinds.items():
        trees = ExtraTreesClassifier(TREES, min_samples_leaf=3, random_state=0)
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        own = cross_val_score(trees, features, masked, groups=groups, cv=folds, scoring="balanced_accuracy")
        assert found[name] == own.mean()


def test_few_photos_give_no_number():
    assert np.isnan(told_apart({"none": np.zeros((80, 2))}, np.arange(80) < 40, np.arange(80))["none"])


def plain(photo: np.ndarray) -> dict[str, np.ndarray]:
    """All cues of one photo, number by number."""
    grey = photo[: round(UPPER * len(photo))].astype(np.float32) @ np.float32([0.299, 0.587, 0.114])
    height, width = grey.shape
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * np.hanning(height)[:, None] * np.hanning(width))) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) / 0.5 * BANDS
    rings = [power[(ring <= frequency) & (frequency < ring + 1)] for ring in range(BANDS)]
    jumps = [np.abs(np.diff(grey, axis=axis)).mean(1 - axis) for axis in (0, 1)]
    phases = [np.array([own[phase::8].mean() for phase in range(min(8, len(own)))]) for own in jumps]
    sides = (grey, grey[:, ::-1].T, grey.T)
    return {
        "spectrum": np.array([np.log(ring.sum() / max(ring.size, 1) + 1e-3) for ring in rings]),
        "compression": np.array([most / (own.mean() + 1e-6) for own in phases for most in (own[-1], own.max())]),
        "border": np.array([value for side in sides for value in (side[0].std(), np.abs(side[0] - side[2]).mean())]),
    }


@given(st.integers(1, 5), st.integers(16, 100), st.integers(0, 10_000))
def test_cues_of_many_photos_are_those_of_each(count, side, seed):
    photos = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    found, single = cues(photos), [plain(photo) for photo in photos]
    for name in CUES:
        np.testing.assert_allclose(found[name], [own[name] for own in single], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("side", [16, 19, 72, 286])
def test_cues_are_finite_numbers_at_every_size(side):
    photos = np.stack([np.zeros((side, side, 3), np.uint8), np.full((side, side, 3), 255, np.uint8)])
    for name, values in cues(photos).items():
        assert values.shape[0] == 2 and np.isfinite(values).all(), name
    assert set(cues(photos)) == set(CUES)
