"""The split that ingest wrote is what others read; pixels survive the way to tensors and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bmask.data.split.dataset import Dataset, resize, to_photos, to_tensor
from bmask.errors import DataError
from bmask.files import write_json, write_text

PHOTOS = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.just(3)).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


@given(PHOTOS)
def test_photos_survive_the_way_to_tensors_and_back(photos):
    tensor = to_tensor(photos)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert tensor.shape == (len(photos), 3, *photos.shape[1:3])
    np.testing.assert_array_equal(to_photos(tensor), photos)


def test_black_is_minus_one_and_white_is_one():
    tensor = to_tensor(np.array([[[[0, 255, 51]]]], np.uint8))
    np.testing.assert_allclose(tensor.flatten(), [-1, 1, 51 / 127.5 - 1], atol=1e-7)


def test_values_are_rounded_half_up_and_clamped():
    values = torch.tensor([-3.0, 0.0, 3.0]).reshape(1, 3, 1, 1)  # 0 lies at 127.5
    assert to_photos(values).tolist() == [[[[0, 128, 255]]]]


def test_every_stored_value_round_trips():
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(to_photos(to_tensor(every)), every)


@given(arrays(np.uint8, (2, 12, 12, 3)), st.sampled_from([2, 3, 4]))
def test_shrinking_takes_the_mean_of_each_block(photos, factor):
    size = 12 // factor
    small = resize(photos, size)
    for row in range(size):
        for column in range(size):
            block = photos[:, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert np.abs(small[:, row, column] - block.mean((1, 2))).max() <= 0.51


def test_resize_keeps_flat_photos_flat_and_equal_sizes_untouched():
    flat = np.full((2, 10, 10, 3), 77, np.uint8)
    for size in (4, 10, 23):
        resized = resize(flat, size)
        assert resized.shape == (2, size, size, 3)
        assert (resized == 77).all()
    noise = np.random.default_rng(0).integers(0, 256, (2, 10, 10, 3), np.uint8)
    np.testing.assert_array_equal(resize(noise, 10), noise)


@pytest.fixture
def folder(tmp_path):
    summary = {"digest": "d", "load_size": 4, "fit": "crop", "private": True, "truth": True, "version": 4}
    write_json(tmp_path / "summary.json", summary)
    write_text(
        tmp_path / "manifest.csv",
        "domain,name,sha256,width,height,group,split,index,slices,reason\n"
        'masked,"b, ü.png",s1,9,9,g1,test,1,cap;hand,\n'
        "masked,a.png,s0,9,9,g0,test,0,,\n"
        "masked,bad.txt,s2,,,,,,,is no picture\n"
        "unmasked,c.png,s3,9,9,g0,train,0,,\n",
    )
    np.save(tmp_path / "masked_test.npy", np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3))
    np.save(tmp_path / "truth_test_twin.npy", np.ones((2, 4, 4, 3), np.uint8))
    np.save(tmp_path / "truth_test_region.npy", np.full((2, 4, 4), 255, np.uint8))
    return tmp_path


def test_names_groups_and_labels_follow_the_order_of_the_array(folder):
    dataset = Dataset.open(folder)
    assert dataset.names("masked", "test") == ["a.png", "b, ü.png"]
    assert dataset.hashes("masked", "test") == ["s0", "s1"]
    assert dataset.groups("masked", "test").tolist() == ["g0", "g1"]
    assert dataset.slices("test") == [set(), {"cap", "hand"}]
    assert (dataset.digest, dataset.load_size, dataset.private) == ("d", 4, True)


def test_photos_and_truth_are_mapped_read_only(folder):
    dataset = Dataset.open(folder)
    photos = dataset.photos("masked", "test")
    assert isinstance(photos, np.memmap)
    assert not photos.flags.writeable
    assert photos[1, 0, 0, 0] == 48
    twin, region = dataset.truth("test")
    assert twin.shape == (2, 4, 4, 3)
    assert region.shape == (2, 4, 4)
    assert dataset.truth("train") is None
    to_tensor(photos).mul_(0)  # a copy, not the mapped file
    assert photos[1, 0, 0, 0] == 48


def test_what_is_missing_or_damaged_is_named(folder, tmp_path):
    dataset = Dataset.open(folder)
    with pytest.raises(DataError, match=r"masked_train\.npy does not exist"):
        dataset.photos("masked", "train")
    (folder / "masked_test.npy").write_bytes(b"\x93NUMPY rubbish")
    with pytest.raises(DataError, match=r"masked_test\.npy is damaged"):
        dataset.photos("masked", "test")
    with pytest.raises(DataError, match="no mask/test"):
        dataset.names("mask", "test")
    write_json(folder / "summary.json", {"version": 99})
    with pytest.raises(DataError, match="layout 99"):
        Dataset.open(folder)
    write_text(folder / "summary.json", "{")
    with pytest.raises(DataError, match="damaged"):
        Dataset.open(folder)
    with pytest.raises(DataError, match="run ingest first"):
        Dataset.open(tmp_path / "elsewhere")
