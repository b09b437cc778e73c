"""The first five steps of each system give the losses of commit e0f9f8a, before systems were plugged in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bmask.training.loop import train
from bmask.training.options import LoopOptions
from tiny import SIZE, SYSTEMS, TRAIN, pictures

RECORDED = json.loads(Path(__file__).with_name("first_losses.json").read_text())
OPTIONS = LoopOptions(
    epochs=3,
    constant_epochs=2,
    batch_size=4,
    lr=2e-3,
    image_size=SIZE,
    device="cpu",
    precision="fp32",
    threads=1,
    pool=4,
    ema=0.9,
    sample_every=9,
    checkpoint_every=9,
    log_every=1,
    epoch_photos=8,
)


@pytest.mark.parametrize("name", RECORDED)
def test_the_first_losses_are_those_of_before(name, one_thread, tmp_path):
    photos = {d: np.stack([pictures(TRAIN, 18, d == "a", seed) for seed in (0, 9)]) for d in "ab"}
    history = train(SYSTEMS[name], photos, torch.zeros(1, 3, SIZE, SIZE), OPTIONS, tmp_path, {}).history
    for step, recorded in enumerate(RECORDED[name]):
        for loss, value in recorded.items():
            assert history[step][loss] == pytest.approx(value, rel=1e-4, abs=1e-6), (step, loss)
