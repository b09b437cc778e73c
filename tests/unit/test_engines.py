"""Generators on OpenVINO: they paint what PyTorch paints, do not need it, and say what is wrong with their files."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import asdict

import numpy as np
import pytest
import torch

from bmask.errors import DataError
from bmask.gan.generator_file import FILE, load_generator, read_about, save_generator
from bmask.gan.lookup import build_generator
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.gan.systems.inpainting import InpaintingOptions
from bmask.gan.translation import Translation
from bmask.serving import agreement, engines
from bmask.serving.exporting import export
from bmask.serving.unmasker import Unmasker

SIZE = 32
SYSTEMS = {
    "cyclegan": CycleGANOptions(filters=8, blocks=1),
    "attentiongan": AttentionGANOptions(scheme=2, filters=8, blocks=1, masks=4),
    "inpainting": InpaintingOptions(filters=16, blocks=1),
}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Untrained generators, each with its export beside it; large weights make attention and picture vary by place."""
    made = {}
    for name, options in SYSTEMS.items():
        torch.manual_seed(1)
        generator = build_generator(options)
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.mul_(2)
        made[name] = tmp_path_factory.mktemp(name) / FILE
        save_generator(made[name], generator, {"network": asdict(options), "image_size": SIZE, "note": "ü"})
        export(made[name], made[name].parent)
    return made


@pytest.fixture
def photos():
    return np.random.default_rng(3).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("count", [1, 5])
def test_both_engines_compute_the_same(files, photos, name, count):
    plain, fast = (engines.open_engine(files[name], one, "cpu", "fp32") for one in ("pytorch", "openvino"))
    assert (plain.name, fast.name) == ("pytorch", "openvino")
    (pictures, attention), (ours, found) = plain(photos[:count]), fast(photos[:count])
    assert pictures.std() > 0.05
    np.testing.assert_allclose(ours, pictures, atol=5e-4)  # the range is 2
    if attention is None:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_allclose(found, attention, atol=5e-4)  # the range is 2


def test_weights_in_half_precision_are_exported_as_such(files, tmp_path):
    generator, about = load_generator(files["inpainting"])
    save_generator(tmp_path / FILE, generator, about, torch.float16)
    size = export(tmp_path / FILE, tmp_path).with_suffix(".bin").stat().st_size
    assert size < 0.6 * files["inpainting"].with_suffix(".bin").stat().st_size


def test_what_is_exported_has_the_generators_header(files):
    assert engines.OpenVINO(files["inpainting"].with_suffix(".xml")).about == read_about(files["inpainting"])


def test_what_was_exported_is_taken_and_without_it_pytorch(files, tmp_path):
    assert Unmasker(files["cyclegan"]).engine.name == "openvino"
    assert Unmasker(files["cyclegan"], engine="pytorch").engine.name == "pytorch"
    bare = tmp_path / FILE
    bare.write_bytes(files["cyclegan"].read_bytes())
    assert Unmasker(bare).engine.name == "pytorch"
    assert Unmasker(bare, engine="openvino").engine.name == "openvino"  # converted
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_who_asks_often_gets_a_conversion_but_of_no_packed_model(files, tmp_path):
    """register packs a model without an export if the export disagrees with PyTorch."""
    bare = tmp_path / FILE
    bare.write_bytes(files["cyclegan"].read_bytes())
    assert Unmasker(bare, engine="fastest").engine.name == "openvino"
    (tmp_path / engines.SETTINGS).write_text('{"threshold": 0.1}')
    assert Unmasker(bare, engine="fastest").engine.name == "pytorch"


def test_a_network_that_openvino_cannot_convert_is_served_by_pytorch(files, tmp_path, monkeypatch, capsys):
    bare = tmp_path / FILE
    bare.write_bytes(files["cyclegan"].read_bytes())
    forward = Translation.__new__

    def odd(cls, image, *others, **named):
        torch.linalg.eigvalsh(image[0, 0])
        return forward(cls, image + torch.linalg.eigvalsh(image[0, 0])[0] * 0, *others, **named)

    monkeypatch.setattr(Translation, "__new__", odd)
    with pytest.raises(DataError, match="cannot be converted to OpenVINO"):
        export(bare, tmp_path / "exported")
    assert Unmasker(bare, engine="fastest").engine.name == "pytorch"
    assert "cannot be converted" in capsys.readouterr().err


def test_an_exported_file_may_be_named_itself(files):
    exported = files["cyclegan"].with_suffix(".xml")
    assert Unmasker(exported).engine.name == "openvino"
    assert Unmasker(exported, engine="pytorch").engine.name == "pytorch"


def test_threads_may_share_an_engine(files, photos):
    engine = engines.open_engine(files["inpainting"], "openvino")
    expected = [engine(photo[None])[0].copy() for photo in photos]
    found: list[np.ndarray | None] = [None] * len(photos)

    def work(index: int) -> None:
        for _ in range(5):
            found[index] = engine(photos[index][None])[0].copy()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(photos))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_an_answer_stays_as_it_is_when_the_next_one_comes(files, photos):
    engine = engines.open_engine(files["inpainting"], "openvino")
    first = engine(photos[:1])[0]
    kept = first.copy()
    engine(photos[1:2])
    np.testing.assert_array_equal(first, kept)


def test_neither_pytorch_nor_a_way_out_of_the_machine_is_needed(files):
    code = f"""
import socket, sys
sys.modules["torch"] = None
def refuse(*_): raise AssertionError("a connection")
socket.socket.connect = refuse
import numpy as np
from bmask.serving.unmasker import Unmasker
(result,) = Unmasker({str(files["inpainting"])!r}).unmask([np.full((40, 30, 3), 90, np.uint8)])
assert result.image.shape == (40, 30, 3)
assert sys.modules["openvino_telemetry"] is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("ending", [".xml", ".bin"])
def test_a_file_that_was_cut_short_is_named(files, tmp_path, ending):
    for path in files["cyclegan"].parent.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if path.suffix == ending else content)
    with pytest.raises(DataError, match=r"generator\.xml cannot be read as a network .*make it again"):
        Unmasker(tmp_path / FILE)


def test_a_missing_engine_is_told_with_the_remedy(files, monkeypatch):
    monkeypatch.setattr(engines, "_installed", lambda library: library != "torch")
    with pytest.raises(DataError, match=r"needs PyTorch, .*bmask\[train\]"):
        Unmasker(files["cyclegan"], engine="pytorch")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DataError, match="pip install openvino"):
        Unmasker(files["cyclegan"], engine="openvino")


def test_an_export_that_paints_otherwise_is_not_taken(files, photos, monkeypatch, capsys, tmp_path):
    assert agreement.export_checked(files["cyclegan"], photos, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"generator.xml", "generator.bin"}
    assert "OpenVINO will serve the generator" in capsys.readouterr().err
    monkeypatch.setattr(agreement, "export", lambda _, folder: export(files["attentiongan"], folder))
    (other := tmp_path / "other").mkdir()
    assert not agreement.export_checked(files["cyclegan"], photos, other)
    assert not any(other.iterdir())
    assert "too much, so PyTorch will serve the generator" in capsys.readouterr().err
