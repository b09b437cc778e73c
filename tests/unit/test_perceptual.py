"""The features of faces are what OpenCV computes from the same file, that of the detector's network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from bmask.errors import DataError
from bmask.faces import features
from bmask.faces.features import feature_weights
from bmask.faces.network import SIZE, weights
from bmask.gan.perceptual import FaceFeatures, perceptual_distance

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> FaceFeatures:
    made = FaceFeatures().requires_grad_(False)
    made.load_state_dict(feature_weights())
    return made


def noise(side: int, seed: int = 0) -> np.ndarray:
    """uint8 (side, side, 3), smooth enough that a shift by a pixel shows."""
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8), (0, 0), 3)


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_they_are_what_opencv_gives_before_each_strided_layer(network):
    """The sizes of OpenCV's outputs show which layers those are."""
    theirs = cv2.dnn.readNetFromONNX(str(weights()))
    theirs.enableFusion(False)  # else activations are merged into convolutions
    layers = [theirs.getLayer(theirs.getLayerId(name)) for name in theirs.getLayerNames()]
    names = [layer.name for layer in layers if layer.type == "Convolution"][:46]
    picture = noise(SIZE)
    theirs.setInput(cv2.dnn.blobFromImage(picture))
    outputs = theirs.forward(names)
    strided = [i for i in range(1, len(outputs) - 1) if outputs[i + 1].shape[2] * 2 == outputs[i].shape[2]]
    found = network(tensor(picture))
    assert [tuple(f.shape) for f in found] == [outputs[i].shape for i in strided]
    assert [f.shape[2] for f in found] == [SIZE // 2, SIZE // 4, SIZE // 8, SIZE // 16]
    for ours, i in zip(found, strided, strict=True):
        size = np.sqrt(np.square(outputs[i].astype(float)).mean(1, keepdims=True)) + 1e-3
        assert np.abs(ours.numpy() - outputs[i] / size).max() < 1e-3  # values reach 10; 2e-5 was measured


def test_the_distance_is_that_of_the_region_and_none_between_a_picture_and_itself(network):
    picture, other = noise(64), noise(64)
    other[:, :16] = noise(64, seed=1)[:, :16]
    left, right = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    left[..., :32], right[..., 56:] = 1, 1
    ours, true = network(tensor(other)), network(tensor(picture))
    assert perceptual_distance(true, true, left) == 0
    assert perceptual_distance(ours, true, left) > 20 * perceptual_distance(ours, true, right)
    both = sum(float(np.abs(p.numpy() - q.numpy()).mean()) for p, q in zip(ours, true, strict=True))
    assert float(perceptual_distance(ours, true, torch.ones(1, 1, 64, 64))) == pytest.approx(both, rel=1e-5)


def test_a_file_that_holds_another_network_is_refused(monkeypatch):
    monkeypatch.setattr(features, "FaceFeatures", lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 7, 3)))
    with pytest.raises(DataError, match=r"centerface\.onnx is another network than CenterFace"):
        feature_weights()
