"""A generator as one file: it loads as it was saved, and any other file is refused with a sentence."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bmask.errors import DataError
from bmask.gan.generator_file import load_generator, read_about, save_generator
from bmask.gan.lookup import build_generator
from tiny import SYSTEMS, full_disk

pytestmark = pytest.mark.usefixtures("one_thread")


def saved(path, name: str = "scheme2", **about):
    torch.manual_seed(5)
    generator = build_generator(SYSTEMS[name])
    save_generator(path, generator, {"network": asdict(SYSTEMS[name]), "image_size": 16, **about})
    return generator


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_generator_translates_after_loading_as_it_did_before_saving(tmp_path, name):
    generator = saved(tmp_path / "g.safetensors", name)
    loaded, _ = load_generator(tmp_path / "g.safetensors")
    for (key, one), (other_key, other) in zip(generator.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert key == other_key
        assert torch.equal(one, other)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        for one, other in zip(generator.eval()(x), loaded(x), strict=True):
            assert (one is None and other is None) or torch.equal(one, other)


def test_a_loaded_generator_is_ready_to_serve_and_not_to_train(tmp_path):
    saved(tmp_path / "g.safetensors")
    loaded, _ = load_generator(tmp_path / "g.safetensors")
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_what_is_told_about_it_travels_in_the_header(tmp_path):
    saved(tmp_path / "g.safetensors", model="größe", data_digest="abc", nested={"lr": 1e-4, "list": [1, None]})
    for about in (read_about(tmp_path / "g.safetensors"), load_generator(tmp_path / "g.safetensors")[1]):
        assert about["model"] == "größe"
        assert about["nested"] == {"lr": 1e-4, "list": [1, None]}
        assert about["network"] == asdict(SYSTEMS["scheme2"])


def test_weights_are_kept_in_fp32_whatever_they_were(tmp_path):
    generator = build_generator(SYSTEMS["cyclegan"]).bfloat16()
    save_generator(tmp_path / "g.safetensors", generator, {"network": asdict(SYSTEMS["cyclegan"])})
    assert {tensor.dtype for tensor in load_file(tmp_path / "g.safetensors").values()} == {torch.float32}
    loaded, _ = load_generator(tmp_path / "g.safetensors")
    for one, other in zip(generator.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one.float(), other)


def test_loading_leaves_the_callers_random_numbers_alone(tmp_path):
    saved(tmp_path / "g.safetensors")
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    load_generator(tmp_path / "g.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_equal_generators_are_equal_files(tmp_path):
    files = [tmp_path / f"{n}.safetensors" for n in range(8)]  # a random order would differ among eight files
    for path in files:
        saved(path, model="m", data_digest="abc")
    assert len({path.read_bytes() for path in files}) == 1


def test_saving_replaces_the_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "deep" / "er" / "g.safetensors"
    saved(path, model="one")
    saved(path, model="two")
    assert read_about(path)["model"] == "two"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_file_whole_and_no_other(tmp_path):
    saved(tmp_path / "g.safetensors", model="old")
    with full_disk(room=2_000), pytest.raises(Exception, match=r"(?i)file too large"):
        saved(tmp_path / "g.safetensors", model="new")
    assert load_generator(tmp_path / "g.safetensors")[1]["model"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]


def test_other_people_on_the_machine_can_read_the_file(tmp_path):
    saved(tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").stat().st_mode & 0o044 == 0o044


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("generators")


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_a_file_cut_anywhere_is_refused(folder, cut):
    whole, short = folder / "whole.safetensors", folder / "short.safetensors"
    if not whole.exists():
        saved(whole)
    content = whole.read_bytes()
    short.write_bytes(content[: int(cut * len(content))])
    for read in (read_about, load_generator):
        with pytest.raises(DataError, match=r"short\.safetensors"):
            read(short)


def test_a_missing_file_a_folder_and_a_text_are_refused_with_a_remedy(tmp_path):
    (tmp_path / "text").write_text("no weights here")
    (tmp_path / "folder").mkdir()
    for name in ("missing", "folder"):
        with pytest.raises(DataError, match=f"{name} does not exist; name a generator"):
            load_generator(tmp_path / name)
    with pytest.raises(DataError, match="text is not a safetensors file"):
        load_generator(tmp_path / "text")


def test_weights_of_something_else_are_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="not a bmask generator"):
        load_generator(tmp_path / "x.safetensors")
    save_file(
        {"x": torch.zeros(2)}, tmp_path / "y.safetensors", metadata={"format": "bmask-generator-99", "about": "{}"}
    )
    with pytest.raises(DataError, match=r"bmask-generator-99.*expected 'bmask-generator-1'"):
        load_generator(tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    "network",
    [
        {"system": "dualgan"},
        {**asdict(SYSTEMS["cyclegan"]), "colour": 3},
        {**asdict(SYSTEMS["cyclegan"]), "blocks": 4},
        None,
    ],
    ids=["unknown system", "unknown option", "other weights", "no network"],
)
def test_a_generator_of_a_later_version_is_refused_with_its_name(tmp_path, network):
    path = tmp_path / "g.safetensors"
    saved(path)
    about = {"network": network} if network else {}
    save_file(load_file(path), path, metadata={"format": "bmask-generator-1", "about": json.dumps(about)})
    with pytest.raises(DataError, match=r"g\.safetensors"):
        load_generator(path)
