"""Baselines know the photo and one fixed ellipse, never the truth."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import write_dataset

from bmask.quality.baselines import baseline, lower_face, mean_photo


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("baselines") / "split")


def test_identity_returns_the_input(dataset):
    photos = np.array(dataset.photos("masked", "test"))
    images, attention = baseline("identity", dataset, 32)(photos)
    assert np.array_equal(images, photos) and attention is None


def test_inpainting_changes_the_ellipse_alone_and_ignores_what_lay_there(dataset):
    photos = np.array(dataset.photos("masked", "test"))
    translate = baseline("telea", dataset, 32)
    images, attention = translate(photos)
    inside = lower_face(32) > 0
    assert np.array_equal(images[:, ~inside], photos[:, ~inside])
    assert not np.array_equal(images[:, inside], photos[:, inside])
    assert np.array_equal(attention[0], lower_face(32)) and attention.shape == photos.shape[:3]
    hidden = np.where(inside[..., None], np.uint8(0), photos)
    assert np.array_equal(translate(hidden)[0], images)


def test_mean_face_pastes_the_mean_unmasked_training_face_softly(dataset):
    photos = np.array(dataset.photos("masked", "test"))
    images, attention = baseline("mean_face", dataset, 32)(photos)
    mean = np.asarray(dataset.photos("unmasked", "train")).mean(axis=0)
    assert np.abs(images[:, 23, 16] - mean[23, 16]).max() <= 1.5
    assert np.array_equal(images[:, :4], photos[:, :4])
    assert np.abs(np.diff(attention[0], axis=0)).max() < 0.5


def test_the_mean_photo_is_read_in_pieces(dataset):
    photos = np.concatenate([dataset.photos("unmasked", "train")] * 7)
    assert len(photos) > 256
    assert np.allclose(mean_photo(photos, 32), photos.mean(axis=0), atol=1e-3)


def test_an_unknown_baseline_is_refused(dataset):
    with pytest.raises(ValueError, match="mirror"):
        baseline("mirror", dataset, 32)
