"""Photos in, unmasked photos out: sizes, untouched pixels, independence of companions, and the MLflow model."""

from __future__ import annotations

import base64
import io
import json
import threading
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from bmask.data.reading.decoding import MAX_PIXELS
from bmask.data.reading.framing import frame, resample
from bmask.errors import DataError
from bmask.gan.generator_file import save_generator
from bmask.gan.lookup import build_generator
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.serving import model
from bmask.serving.engines import PyTorch
from bmask.serving.unmasker import Unmasker
from bmask.tracking.resolving import ARTIFACT

SIZE = 32
SYSTEMS = {
    "cyclegan": CycleGANOptions(filters=8, blocks=1),
    "attentiongan1": AttentionGANOptions(scheme=1, filters=8, blocks=1),
    "attentiongan2": AttentionGANOptions(scheme=2, filters=8, blocks=1, masks=4, background_bias=1.0),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """Untrained generators of every system, saved as the training saves them; large weights make them differ."""
    folder = tmp_path_factory.mktemp("generators")
    files = {}
    for name, options in SYSTEMS.items():
        torch.manual_seed(1)
        generator = build_generator(options)
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.mul_(3)
        files[name] = folder / name / "generator.safetensors"
        save_generator(files[name], generator, {"network": asdict(options), "image_size": SIZE, "model": name})
    return files


def photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_photo_keeps_its_size_and_its_untouched_pixels(generators, name):
    photos = [photo(64, 64), photo(16, 100, 1), photo(130, 50, 2), photo(33, 32, 3)]
    results = Unmasker(generators[name]).unmask(photos)
    for before, (after, attention, faces) in zip(photos, results, strict=True):
        assert faces == ()  # faces were not searched for
        assert after.shape == before.shape
        assert after.dtype == np.uint8
        assert attention.shape == before.shape[:2]
        assert attention.dtype == np.uint8
        np.testing.assert_array_equal(after[attention == 0], before[attention == 0])
        assert (after != before).any()


def test_a_generator_without_attention_replaces_the_middle_square_alone(generators):
    (result,) = Unmasker(generators["cyclegan"]).unmask([photo(40, 60)])
    expected = np.zeros((40, 60), np.uint8)
    expected[:, 10:50] = 255
    np.testing.assert_array_equal(result.attention, expected)


@pytest.mark.parametrize("name", SYSTEMS)
def test_at_the_generators_size_without_a_threshold_the_result_is_the_generators_image(generators, name):
    unmasker = Unmasker(generators[name], threshold=0.0, precision="fp32")
    before = photo(SIZE, SIZE)
    x = torch.tensor(before).permute(2, 0, 1)[None] / 127.5 - 1
    expected = (unmasker.engine.generator(x).image[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(unmasker.unmask([before])[0].image - expected).max() <= 0.5 + 1e-2


@pytest.mark.parametrize("name", SYSTEMS)
def test_bf16_gives_the_picture_of_fp32_to_a_grey_level_in_the_mean(generators, name):
    photos = [photo(SIZE, SIZE, seed) for seed in range(3)]
    exact, fast = (Unmasker(generators[name], 0.0, "cpu", precision).unmask(photos) for precision in ("fp32", "bf16"))
    for one, other in zip(exact, fast, strict=True):
        difference = np.abs(one.image.astype(int) - other.image)
        assert 0 < difference.mean() < 1
        assert difference.max() < 16
        assert np.abs(one.attention.astype(int) - other.attention).max() <= 8


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_result_does_not_depend_on_the_photos_beside_it(generators, name):
    unmasker = Unmasker(generators[name])
    photos = [photo(30 + seed, 60 - seed, seed) for seed in range(9)]
    together = unmasker.unmask(photos)
    for index in (0, 4, 8):
        (alone,) = unmasker.unmask([photos[index]])
        assert np.array_equal(alone.image, together[index].image)
        assert np.array_equal(alone.attention, together[index].attention)


def test_batches_as_a_gpu_takes_them_give_each_photo_its_own_result(generators):
    photos = [photo(30 + seed, 60 - seed, seed) for seed in range(6)]
    unmasker = Unmasker(generators["attentiongan1"], device="cpu")
    expected = unmasker.unmask(photos)
    unmasker.batch = 4
    for one, other in zip(expected, unmasker.unmask(photos), strict=True):
        assert np.abs(one.image.astype(int) - other.image).max() <= 1  # sums in another order
        assert np.abs(one.attention.astype(int) - other.attention).max() <= 1


def test_threads_may_share_one_unmasker(generators):
    unmasker = Unmasker(generators["attentiongan2"])
    photos = [photo(40, 40, seed) for seed in range(6)]
    expected = unmasker.unmask(photos)
    found = [None] * len(photos)

    def work(index):
        found[index] = unmasker.unmask([photos[index]])[0]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(photos))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(expected, found, strict=True))


def test_a_generator_of_padded_photos_sees_the_whole_photo(generators):
    cropping = Unmasker(generators["cyclegan"])
    padding = Unmasker(PyTorch(cropping.engine.generator, cropping.about | {"fit": "pad"}))
    before = photo(40, 60)
    (result,) = padding.unmask([before])
    (square,) = cropping.unmask([frame(before, "pad")])
    assert result.image.shape == before.shape
    assert (result.attention == 255).all()
    np.testing.assert_array_equal(result.image, square.image[10:50])


def test_no_photos_give_no_results(generators):
    assert Unmasker(generators["cyclegan"]).unmask([]) == []


def test_a_file_that_is_no_generator_is_refused(tmp_path):
    (tmp_path / "generator.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"generator\.safetensors"):
        Unmasker(tmp_path / "generator.safetensors")


# The MLflow model, loaded as MLflow loads it


@pytest.fixture(scope="module")
def packed(generators, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "model"
    model.save_model(generators["attentiongan2"], folder, metadata={"model": "attentiongan2"}, threshold=0.2)
    return folder


def encoded(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def serve(packed, body):
    """What the scoring server does with a request body, without the network."""
    from mlflow.models.utils import _validate_serving_input  # the public name only adds a warning since 3.13

    return _validate_serving_input(str(packed), json.dumps(body))


def test_a_packed_model_holds_no_pickle_and_no_host(packed):
    files = [path for path in packed.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pyc", ".bin"}]
    assert (packed / ARTIFACT).is_file()
    requirements = (packed / "requirements.txt").read_text().split()
    assert all("==" in line and "/" not in line and "+" not in line for line in requirements)
    assert {line.split("==")[0] for line in requirements} >= {"mlflow", "torch", "safetensors", "pillow"}


def test_its_example_is_served(packed):
    example = json.loads((packed / "serving_input_example.json").read_text())
    (record,) = serve(packed, example)
    assert decoded(record["image"]).shape == (32, 32, 3)
    assert decoded(record["attention"]).shape == (32, 32)


def test_it_gives_what_the_unmasker_gives_with_the_threshold_it_was_packed_with(packed, generators):
    before = photo(50, 70)
    expected = Unmasker(generators["attentiongan2"], threshold=0.2).unmask([before])[0]
    np.testing.assert_array_equal(Unmasker(packed / ARTIFACT).unmask([before])[0].image, expected.image)
    (record,) = serve(packed, {"inputs": {"image": [encoded(Image.fromarray(before))]}, "params": {"attention": True}})
    np.testing.assert_array_equal(decoded(record["image"]), expected.image)
    np.testing.assert_array_equal(decoded(record["attention"]), expected.attention)


@pytest.mark.parametrize("shape", ["inputs", "inputs_list", "records", "split"])
def test_all_shapes_of_a_request_give_the_same_records(packed, shape):
    texts = [encoded(Image.fromarray(photo(30, 40, seed))) for seed in (0, 1)]
    body = {
        "inputs": {"inputs": {"image": texts}},
        "inputs_list": {"inputs": [{"image": text} for text in texts]},
        "records": {"dataframe_records": [{"image": "data:image/png;base64," + text} for text in texts]},
        "split": {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
    }[shape]
    records = serve(packed, body)
    assert [set(record) for record in records] == [{"image", "faces"}] * 2
    assert records == serve(packed, {"inputs": {"image": texts}})
    assert records[0] != records[1]


def test_exif_orientation_is_applied_and_transparency_kept(packed):
    picture = Image.fromarray(photo(30, 50)).convert("RGBA")
    alpha = np.full((30, 50), 255, np.uint8)
    alpha[:5] = 0
    picture.putalpha(Image.fromarray(alpha))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    text = base64.b64encode(buffer.getvalue()).decode()
    (record,) = serve(packed, {"inputs": {"image": [text]}})
    after = decoded(record["image"])
    assert after.shape == (50, 30, 4)
    np.testing.assert_array_equal(after[..., 3], np.rot90(alpha, -1))


BAD = {
    "no base64": ("###", "Row 1 of image is not base64; send the photo's file as a base64 string."),
    "no picture": (base64.b64encode(b"hello").decode(), "Row 1 of image is no picture"),
    "too large": (encoded(Image.new("1", (20000, 20000))), f"Row 1 of image has more than {MAX_PIXELS} pixels"),
    "too small": (encoded(Image.new("RGB", (4, 4))), "Row 1 of image is 4x4 px"),
    "null": (None, "Row 1 of image is null"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_answered_with_400_and_one_sentence_that_names_it(packed, case):
    from mlflow.exceptions import MlflowException

    content, sentence = BAD[case]
    good = encoded(Image.fromarray(photo(20, 20)))
    with pytest.raises(MlflowException) as caught:
        serve(packed, {"dataframe_records": [{"image": good}, {"image": content}]})
    answer = json.loads(caught.value.serialize_as_json())
    assert caught.value.get_http_status_code() == 400
    assert answer["message"].startswith(sentence)
    assert "\n" not in answer["message"]
    assert set(answer) == {"error_code", "message"}


@pytest.mark.parametrize("body", [{"inputs": {"image": []}}, {"dataframe_records": [{"photo": "AAAA"}]}])
def test_a_request_without_photos_is_answered_with_400(packed, body):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        serve(packed, body)
    assert caught.value.get_http_status_code() == 400
    assert json.loads(caught.value.serialize_as_json())["message"].startswith("The request holds no photos")


def test_in_the_same_process_a_plain_dictionary_of_lists_works_too(packed):
    import mlflow

    texts = [encoded(Image.fromarray(photo(30, 40, seed))) for seed in (0, 1)]
    records = mlflow.pyfunc.load_model(str(packed)).predict({"image": texts})
    assert records == serve(packed, {"inputs": {"image": texts}})


def test_a_missing_generator_file_cannot_be_packed(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        model.save_model(tmp_path / "generator.safetensors", tmp_path / "model")


def test_the_frame_is_the_one_ingest_stores():
    from bmask.serving import compositing

    before = photo(90, 70)
    np.testing.assert_array_equal(compositing.frame(before, SIZE), resample(frame(before, "crop"), SIZE))
