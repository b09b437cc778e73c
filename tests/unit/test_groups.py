"""Near-duplicates are one group, unrelated photos are not, and added photos never move a photo to another split."""

from __future__ import annotations

import io
from functools import cache

import cv2
import numpy as np
import pytest
from changed import cut, picture, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from bmask.data.duplicates import groups as grouping
from bmask.data.duplicates.alignment import SIDE
from bmask.data.duplicates.groups import group_names
from bmask.data.duplicates.signatures import FLAT, MIRROR, SIGNATURE, perceptual_hash, signature
from bmask.data.duplicates.thumbnails import area_average
from bmask.data.split.assignment import settle, split_of
from bmask.synthetic import draw_face

THRESHOLD = 4
SEEDS = st.integers(0, 10_000)
HASHES = st.integers(0, 2**64 - 1)


def jpeg(photo: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def smaller(photo: np.ndarray, share: float) -> np.ndarray:
    shape = (round(photo.shape[1] * share), round(photo.shape[0] * share))
    return np.asarray(Image.fromarray(photo).resize(shape))


def lit(photo: np.ndarray, contrast: float, brightness: float) -> np.ndarray:
    return np.uint8(np.clip((photo - 128.0) * contrast + 128 + brightness, 0, 255))


COPIES = {
    "re-compressed": lambda photo: jpeg(photo, 30),
    "shrunk": lambda photo: smaller(photo, 0.5),
    "mirrored": lambda photo: photo[:, ::-1],
    "mirrored, shrunk and re-compressed": lambda photo: jpeg(smaller(photo[:, ::-1], 0.6), 50),
    "brightened": lambda photo: lit(photo, 1, 30),
    "of less contrast": lambda photo: lit(photo, 0.7, 0),
    "grey": lambda photo: np.asarray(Image.fromarray(photo).convert("L").convert("RGB")),
    "cropped by 1 % a side": lambda photo: cut(photo, 0.01),
    "cropped by 3 % a side": lambda photo: cut(photo, 0.03, 0.2, 0.9),
    "cropped by 5 % a side": lambda photo: cut(photo, 0.05),
    "cropped by 10 % a side": lambda photo: cut(photo, 0.1),
    "cropped at the top left by 10 %": lambda photo: cut(photo, 0.05, 1, 1),
    "turned by 3 degrees": lambda photo: turned(photo, 3),
    "turned by 10 degrees": lambda photo: turned(photo, -10),
    "turned by 10 degrees, the border continued": lambda photo: turned(photo, 10, cv2.BORDER_REPLICATE),
    "mirrored, turned by 5 degrees and re-compressed": lambda photo: jpeg(turned(photo[:, ::-1], 5), 60),
}


@cache
def faces(count: int) -> list[np.ndarray]:
    """Drawn faces of different people, every other one masked."""
    drawn = [draw_face((11, 0, i), 96, "surgical" if i % 2 else None, None) for i in range(count)]
    return [face.masked if i % 2 else face.unmasked for i, face in enumerate(drawn)]


def find_groups(prints: np.ndarray, threshold: int) -> np.ndarray:
    return grouping.find_groups(prints["hash"], prints["aspect"], prints["thumbnail"].__getitem__, threshold)


def prints_of(photos) -> np.ndarray:
    return np.array([signature(np.ascontiguousarray(photo)) for photo in photos])


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_joins_the_group_of_its_picture(change):
    labels = find_groups(prints_of([*faces(40), *map(COPIES[change], faces(40))]), THRESHOLD)
    assert np.mean(labels[:40] == labels[40:]) >= 0.95


@given(st.integers(16, 130), st.integers(16, 130), st.integers(1, 40), SEEDS)
def test_area_averages_are_those_of_a_picture_enlarged_until_cells_are_whole_pixels(height, width, side, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    rows, columns = (np.arange(side * n) // side for n in (height, width))
    enlarged = grey[rows][:, columns].reshape(side, height, side, width)
    np.testing.assert_allclose(area_average(grey, side), enlarged.mean((1, 3)), atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (17, 900), (130, 31), (2901, 2902), (2903, 2901)])  # the last overflows
@pytest.mark.parametrize("darkest", [0, 255])
def test_area_averages_are_to_the_last_bit_those_of_the_whole_integral_image(shape, darkest):
    grey = np.random.default_rng(5).integers(darkest, 256, shape, np.uint8)
    cells = cv2.integral(grey, sdepth=cv2.CV_64F)
    for axis in (0, 1):
        at = np.linspace(0, shape[axis], 33)
        below = np.minimum(at.astype(int), shape[axis] - 1)
        low, high = cells.take(below, axis), cells.take(below + 1, axis)
        cells = np.diff(low + (high - low) * np.expand_dims(at - below, 1 - axis), axis=axis)
    np.testing.assert_array_equal(area_average(grey, 32), cells * (32 * 32 / grey.size))


@given(st.integers(16, 130), st.integers(16, 130), SEEDS)
def test_the_hash_is_that_of_the_whole_cosine_transform(height, width, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    signs = dctn(area_average(grey, 32), norm="ortho")[1:9, 1:9] > FLAT
    assert int(perceptual_hash(grey)) == int("".join(map(str, signs.ravel().astype(int))), 2)


def test_strangers_stay_apart():
    assert len(set(find_groups(prints_of([*faces(40), *map(picture, range(100))]), THRESHOLD))) == 140


def test_a_pair_is_joined_whatever_else_is_in_the_set():
    copies = [photo for i in range(20) for photo in (picture(i), turned(picture(i), 8))]
    labels = find_groups(prints_of(copies), THRESHOLD)
    for i in range(0, 40, 2):
        alone = find_groups(prints_of(copies[i : i + 2]), THRESHOLD)
        assert (alone[0] == alone[1]) == (labels[i] == labels[i + 1])


@given(SEEDS)
def test_the_mirrored_hash_is_the_hash_xor_a_constant(seed):
    photo = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    mirrored = perceptual_hash(np.ascontiguousarray(photo[:, ::-1]))
    assert np.bitwise_count(perceptual_hash(photo) ^ MIRROR ^ mirrored) <= 5  # some coefficients are nearly 0


def test_flat_pictures_join_one_group_and_no_other():
    flat = [np.full((40, 40, 3), value, np.uint8) for value in (0, 90, 255)]
    labels = find_groups(prints_of([*flat, *map(picture, range(20))]), THRESHOLD)
    assert len(set(labels[:3])) == 1
    assert len(set(labels)) == 21


def hashes_alone(values: list[int]) -> np.ndarray:
    """Signatures with empty thumbnails, which align with nothing."""
    return np.array([(value, 1, np.zeros((SIDE, SIDE))) for value in values], SIGNATURE)


@settings(deadline=None)
@given(st.lists(HASHES, min_size=1, max_size=6), st.data())
def test_groups_equal_a_union_find_written_by_hand(bases, data):
    flips = st.lists(st.integers(0, 63), max_size=7)
    hashes = []
    for _ in range(data.draw(st.integers(1, 14))):
        value = data.draw(st.sampled_from(bases)) ^ (int(MIRROR) if data.draw(st.booleans()) else 0)
        for bit in data.draw(flips):
            value ^= 1 << bit
        hashes.append(value)
    leader = list(range(len(hashes)))

    def root(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    for i, one in enumerate(hashes):
        for j, other in enumerate(hashes):
            if min((one ^ other).bit_count(), (one ^ other ^ int(MIRROR)).bit_count()) <= THRESHOLD:
                leader[root(i)] = root(j)
    labels = find_groups(hashes_alone(hashes), THRESHOLD)
    for i in range(len(hashes)):
        for j in range(len(hashes)):
            assert (labels[i] == labels[j]) == (root(i) == root(j))


@given(HASHES)
def test_a_photo_and_its_mirror_image_draw_the_same_split(value):
    assert split_of(np.uint64(value), 0.2, 0.1) == split_of(np.uint64(value) ^ MIRROR, 0.2, 0.1)


def test_the_shares_are_those_asked_for():
    hashes = np.random.default_rng(0).integers(0, 2**64, 4000, np.uint64)
    splits = [split_of(value, 0.2, 0.1) for value in hashes]
    assert abs(splits.count("test") / 4000 - 0.2) < 0.025
    assert abs(splits.count("validation") / 4000 - 0.08) < 0.02


@given(HASHES, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_validation_share_leaves_test_alone(value, test, one, other):
    a, b = split_of(np.uint64(value), test, one), split_of(np.uint64(value), test, other)
    assert (a == "test") == (b == "test")


SPLIT = st.sampled_from(["train", "validation", "test"])
DRAWN = st.lists(st.tuples(st.integers(0, 6), SPLIT), min_size=1, max_size=40)


@given(DRAWN)
def test_no_group_lies_in_two_splits_and_none_is_lost(drawn):
    groups, splits = zip(*drawn, strict=True)
    settled = settle(groups, splits)
    for group in set(groups):
        mine = [(own, split) for g, own, split in zip(groups, splits, settled, strict=True) if g == group]
        kept = {split for _, split in mine if split}
        assert len(kept) == 1
        split = kept.pop()
        assert all(now == own == split for own, now in mine if now)
        owns = [own for own, _ in mine]
        assert owns.count(split) == max(map(owns.count, owns))  # the majority stays


CHANGED = st.tuples(
    st.integers(0, 4),  # which picture
    st.booleans(),  # mirrored
    st.floats(-15, 15),
    st.floats(0, 0.12),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(30, 95),
)


def changed(drawn: tuple) -> np.ndarray:
    seed, mirrored, degrees, share, right, down, quality = drawn
    photo = picture(seed)[:, :: -1 if mirrored else 1]
    return jpeg(np.ascontiguousarray(cut(turned(photo, degrees), share, right, down)), quality)


@settings(deadline=None, max_examples=25)
@given(st.lists(CHANGED, min_size=1, max_size=8), st.lists(CHANGED, max_size=8))
def test_added_photos_never_carry_an_old_one_from_split_to_split(old, new):
    prints = prints_of(map(changed, old + new))
    own = [split_of(value, 0.4, 0.4) for value in prints["hash"]]
    before = settle(find_groups(prints[: len(old)], THRESHOLD), own[: len(old)])
    groups = find_groups(prints, THRESHOLD)
    after = settle(groups, own)
    assert all(not one or not other or one == other for one, other in zip(before, after, strict=False))
    for group in set(groups):
        assert len({split for g, split in zip(groups, after, strict=True) if g == group and split}) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.text("0123456789abcdef", min_size=14, max_size=14)), min_size=1))
def test_a_group_is_called_by_its_smallest_content_whatever_its_number_and_order(pairs):
    groups, contents = zip(*pairs, strict=True)
    smallest = [min(other for its, other in pairs if its == group)[:12] for group in groups]
    assert group_names(groups, contents).tolist() == smallest
    again = group_names([9 - g for g in reversed(groups)], list(reversed(contents)))
    assert again.tolist() == smallest[::-1]
