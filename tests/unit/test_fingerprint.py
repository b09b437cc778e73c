"""What makes a training another one, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bmask import fingerprint as module
from bmask.fingerprint import fingerprint, identity, short
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


def test_a_changed_source_counts_where_it_decides_bits(tmp_path, monkeypatch):
    package = Path(module.__file__).parent
    for folder in ("gan", "training"):
        shutil.copytree(package / folder, tmp_path / folder)
    code = of()["code"]
    monkeypatch.setattr(module, "__file__", str(tmp_path / "fingerprint.py"))
    assert of()["code"] == code
    with open(tmp_path / "gan/generator_file.py", "a") as file:
        file.write("# how generators are written\n")
    assert of()["code"] == code
    for name in ("gan/losses.py", "training/loop.py"):
        with open(tmp_path / name, "a") as file:
            file.write("# other arithmetic\n")
        changed = of()["code"]
        assert changed != code
        code = changed
