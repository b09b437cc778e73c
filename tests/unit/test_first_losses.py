"""The first five steps of each system give the losses of commit e0f9f8a, before systems were plugged in."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bmask.training.loop import train
from tiny import LOOP, SIZE, SYSTEMS, TRAIN, pictures

RECORDED = json.loads(Path(__file__).with_name("first_losses.json").read_text())
OPTIONS = dataclasses.replace(LOOP, epochs=3, sample_every=9, checkpoint_every=9, epoch_photos=8)
# Processors sum in different orders, and Adam amplifies this: the gradients' norms differed by 3e-4 at the fourth step
# with AVX-512, by 3e-3 at the fifth without.
FIRST, GROWTH = 3e-4, 3.0


@pytest.mark.parametrize("name", RECORDED)
def test_the_first_losses_are_those_of_before(name, one_thread, tmp_path):
    photos = {d: np.stack([pictures(TRAIN, 18, d == "a", seed) for seed in (0, 9)]) for d in "ab"}
    history = train(SYSTEMS[name], photos, torch.zeros(1, 3, SIZE, SIZE), OPTIONS, tmp_path, {}).history
    for step, recorded in enumerate(RECORDED[name]):
        for loss, value in recorded.items():
            assert history[step][loss] == pytest.approx(value, rel=FIRST * GROWTH**step, abs=1e-6), (step, loss)
