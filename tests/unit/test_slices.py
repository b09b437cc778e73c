"""Labels by rules: how often they are right on drawn faces, whose truth is known, and when they are used."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.data.records import SPLITS
from bmask.data.split.dataset import Dataset
from bmask.data.split.slices import CROWN, FACE, MASK, RULES, SIZE, Look, labels
from bmask.params import parse_params
from bmask.stages.ingest import ingest

RIGHT = {  # minimum precision and recall on the faces of `embedded`, three in ten of which are hard cases
    "skin_coloured_mask": (0.6, 0.6),
    "patterned_mask": (0.5, 0.45),
    "headwear": (0.5, 0.3),
}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.truth], ids=lambda rule: rule.label)
def test_a_rule_is_right_often_enough_to_compare_rates(embedded, rule):
    dataset = Dataset.open(embedded)
    photos = np.concatenate([dataset.photos("masked", split) for split in SPLITS])
    true = np.array([bool(set(rule.truth) & own) for split in SPLITS for own in dataset.slices(split)])
    says = np.array([rule.label in labels(photo, 96) for photo in photos])
    precision, recall = (says & true).sum() / says.sum(), (says & true).sum() / true.sum()
    print(f"{rule.label}: precision {precision:.2f}, recall {recall:.2f} of {true.sum()} in {len(true)}")
    assert precision >= RIGHT[rule.label][0]
    assert recall >= RIGHT[rule.label][1]


def test_dark_and_small_are_what_they_say():
    bright, dark = np.full((72, 72, 3), 200, np.uint8), np.full((72, 72, 3), 30, np.uint8)
    assert "dark" in labels(dark, 100) and "dark" not in labels(bright, 100)
    assert "small" in labels(bright, 71) and "small" not in labels(bright, 72)


@given(st.integers(0, 10_000), st.integers(1, 255), st.sampled_from([FACE, MASK, CROWN]))
def test_what_the_rules_see_is_cut_from_the_whole_picture_in_numbers(seed, brightest, box):
    photo = np.random.default_rng(seed).integers(0, brightest, (SIZE, SIZE, 3), np.uint8, endpoint=True)
    packed = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
    look = Look(packed, SIZE, SIZE)
    whole = (packed.astype(np.float32) - np.float32([0, 128, 128])) * np.float32([100 / 255, 1, 1])
    left, right, top, bottom = (round(share * SIZE) for share in box)
    part = whole[top:bottom, left:right]
    np.testing.assert_array_equal(look.cut(box), part, strict=True)
    np.testing.assert_array_equal(look.colour(box), np.sort(part.reshape(-1, 3), axis=0)[part[..., 0].size // 2])
    np.testing.assert_array_equal(look.light(), whole[: SIZE // 2, :, 0], strict=True)


def test_the_rules_say_the_same_at_every_load_size(embedded):
    photos = Dataset.open(embedded).photos("masked", "train")[:100]
    larger = [np.kron(photo, np.ones((4, 4, 1), np.uint8)) for photo in photos]
    same = [labels(photo, 999) == labels(large, 999) for photo, large in zip(photos, larger, strict=True)]
    assert np.mean(same) > 0.95


def run(source: Path, out: Path) -> Dataset:
    ingest(parse_params({"ingest": {"source": str(source), "load_size": 48}}), out)
    return Dataset.open(out)


def test_rules_label_what_the_source_does_not(few_faces, tmp_path):
    own = run(few_faces, tmp_path / "own")
    assert {"surgical", "cap"} <= set().union(*own.slices("train"))
    bare = tmp_path / "bare"
    shutil.copytree(few_faces, bare, ignore=shutil.ignore_patterns("truth"))
    dataset = run(bare, tmp_path / "ruled")
    found = set().union(*(labels for split in SPLITS for labels in dataset.slices(split)))
    assert found and found <= {rule.label for rule in RULES}
    assert dataset.digest != own.digest
    photos = dataset.photos("masked", "test")
    assert dataset.slices("test") == [set(labels(photo, 96)) for photo in photos]
