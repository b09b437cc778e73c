"""The two-sample test finds nothing where there is nothing, and blur where there is blur."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn import face

from bmask.quality.realism import lower_features, real_against_real, two_sample


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    return np.stack([face(rng, 48) for _ in range(160)])


GROUPS = np.array([f"g{i}" for i in range(80)]), np.array([f"r{i}" for i in range(80)])


def test_real_faces_are_not_told_from_real_faces(faces):
    features = lower_features(faces)
    assert 0.35 < two_sample(features[:80], features[80:], GROUPS).accuracy < 0.65
    halves = real_against_real(features, np.concatenate(GROUPS))
    assert 0.35 < halves.accuracy < 0.65


def test_blurred_faces_are_told_from_real_ones_and_more_blur_is_told_more_often(faces):
    found = []
    for sigma in (0.3, 2.0):
        blurred = np.stack([cv2.GaussianBlur(photo, (0, 0), sigma) for photo in faces[:80]])
        found.append(two_sample(lower_features(blurred), lower_features(faces[80:]), GROUPS).accuracy)
    assert found[1] > 0.95 and found[0] <= found[1]


def test_where_no_classifier_can_be_trained_nothing_was_told():
    """Each side is one group, so that no fold leaves both to learn from: not measured, which is better than nobody."""
    rng = np.random.default_rng(1)
    one = np.full(6, "a"), np.full(6, "b")
    found = two_sample(rng.normal(size=(6, 5)), rng.normal(size=(6, 5)), one)
    assert np.isnan(found.fake).all() and np.isnan(found.accuracy)


def test_a_photo_is_never_told_by_its_own_near_duplicate(faces):
    """Each photo occurs four times: with copies in several folds, the classifier would learn pure noise by heart."""
    rng = np.random.default_rng(1)
    fake, real = np.repeat(rng.normal(size=(20, 60)), 4, axis=0), np.repeat(rng.normal(size=(20, 60)), 4, axis=0)
    groups = np.repeat([f"f{i}" for i in range(20)], 4), np.repeat([f"r{i}" for i in range(20)], 4)
    assert two_sample(fake, real, groups).accuracy < 0.75
    alone = tuple(np.array([f"{side}{i}" for i in range(80)]) for side in "fr")
    assert two_sample(fake, real, alone).accuracy > 0.9
