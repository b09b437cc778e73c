"""What makes a training another one, and what does not."""

from __future__ import annotations

import pytest

from bmask.fingerprint import fingerprint, identity, short
from bmask.reach import code_of_training
from tiny import tiny_params


def of(**changes) -> dict:
    params = tiny_params(**changes)
    return fingerprint(params, params.models["unmasker"], "the photos", {})


def test_neither_where_checkpoints_are_nor_how_long_it_trains_makes_another_training():
    same = [of(), of(train={"checkpoints": "s3://bucket/prefix"}), of(epochs=9, constant_epochs=5)]
    assert same[0] == same[1] == same[2]
    assert "s3" not in str(same[1])
    params = tiny_params()
    longer = tiny_params(epochs=9)
    recipes = (params.models["unmasker"], longer.models["unmasker"])
    assert identity(same[0], recipes[0]) != identity(same[0], recipes[1])


@pytest.mark.parametrize("changes", [{"train": {"seed": 2}}, {"train": {"threads": 2}}, {"lr": 2e-3}])
def test_what_decides_the_bits_makes_another_training(changes):
    assert short(of(**changes)) != short(of())


def test_photos_and_the_weights_to_begin_from_count(tmp_path):
    params = tiny_params()
    recipe = params.models["unmasker"]
    (tmp_path / "g").write_bytes(b"weights")
    (tmp_path / "h").write_bytes(b"other weights")
    found = [fingerprint(params, recipe, "photos", {"ab": tmp_path / name}) for name in "gh"]
    found += [fingerprint(params, recipe, data, {}) for data in ("photos", "others")]
    assert len({short(each) for each in found}) == 4


def test_the_code_of_its_own_system_counts():
    networks = {"scheme": {"system": "attentiongan"}, "cycle": {"system": "cyclegan"}}
    params = tiny_params(networks)
    for name, network in networks.items():
        found = fingerprint(params, params.models[name], "the photos", {})
        assert found["code"] == code_of_training(network["system"])
