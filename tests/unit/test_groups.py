"""Copies of one picture are one group, strangers are not, and nothing that is added carries a photo across."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from bmask.data.groups import MIRROR, distance, find_groups, group_names, part_of, perceptual_hash, settle
from bmask.data.thumbnails import area_average

THRESHOLD = 4
SEEDS = st.integers(0, 10_000)
HASHES = st.integers(0, 2**64 - 1)


def picture(seed: int, height: int = 128, width: int = 96) -> np.ndarray:
    """Something with the spectrum of a photo: noise at four scales."""
    noise = np.random.default_rng(seed).normal(size=(4, height, width, 3))
    total = sum(gaussian_filter(layer, (s, s, 0)) * s for layer, s in zip(noise, (24, 12, 5, 2), strict=True))
    return np.uint8(np.clip(128 + 50 * total / total.std(), 0, 255))


def jpeg(photo: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def smaller(photo: np.ndarray, share: float) -> np.ndarray:
    shape = (round(photo.shape[1] * share), round(photo.shape[0] * share))
    return np.asarray(Image.fromarray(photo).resize(shape))


COPIES = {
    "re-compressed": lambda photo: jpeg(photo, 30),
    "shrunk": lambda photo: smaller(photo, 0.5),
    "mirrored": lambda photo: photo[:, ::-1],
    "mirrored, shrunk and re-compressed": lambda photo: jpeg(smaller(photo[:, ::-1], 0.6), 50),
    "brightened": lambda photo: np.uint8(np.clip(photo * 1.08 + 6, 0, 255)),
    "grey": lambda photo: np.asarray(Image.fromarray(photo).convert("L").convert("RGB")),
    "slightly cropped": lambda photo: photo[1:],
}


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_joins_the_group_of_its_picture(change):
    apart = [
        distance(perceptual_hash(photo), perceptual_hash(np.ascontiguousarray(COPIES[change](photo))))
        for photo in map(picture, range(30))
    ]
    assert np.mean(np.array(apart) <= THRESHOLD) >= 0.95


@given(st.integers(16, 130), st.integers(16, 130), st.integers(1, 40), SEEDS)
def test_area_averages_are_those_of_a_picture_enlarged_until_cells_are_whole_pixels(height, width, side, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    rows, columns = (np.arange(side * n) // side for n in (height, width))
    enlarged = grey[rows][:, columns].reshape(side, height, side, width)
    np.testing.assert_allclose(area_average(grey, side), enlarged.mean((1, 3)), atol=1e-6)


def test_strangers_stay_apart():
    hashes = np.array([perceptual_hash(picture(seed)) for seed in range(100)])
    assert len(set(find_groups(hashes, THRESHOLD))) == 100


@given(SEEDS)
def test_the_mirrored_hash_is_the_hash_xor_a_constant(seed):
    photo = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    mirrored = perceptual_hash(np.ascontiguousarray(photo[:, ::-1]))
    assert np.bitwise_count(perceptual_hash(photo) ^ MIRROR ^ mirrored) <= 5  # some coefficients are nearly 0


def test_flat_pictures_join_one_group_and_no_other():
    flat = [np.full((40, 40, 3), value, np.uint8) for value in (0, 90, 255)]
    labels = find_groups(np.array([perceptual_hash(p) for p in [*flat, *map(picture, range(20))]]), THRESHOLD)
    assert len(set(labels[:3])) == 1
    assert len(set(labels)) == 21


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
    labels = find_groups(np.array(hashes, np.uint64), THRESHOLD)
    for i in range(len(hashes)):
        for j in range(len(hashes)):
            assert (labels[i] == labels[j]) == (root(i) == root(j))


@given(HASHES)
def test_a_photo_and_its_mirror_image_draw_the_same_part(value):
    assert part_of(np.uint64(value), 0.2, 0.1) == part_of(np.uint64(value) ^ MIRROR, 0.2, 0.1)


def test_the_shares_are_those_asked_for():
    hashes = np.random.default_rng(0).integers(0, 2**64, 4000, np.uint64)
    parts = [part_of(value, 0.2, 0.1) for value in hashes]
    assert abs(parts.count("test") / 4000 - 0.2) < 0.025
    assert abs(parts.count("validation") / 4000 - 0.08) < 0.02


@given(HASHES, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_validation_share_leaves_test_alone(value, test, one, other):
    a, b = part_of(np.uint64(value), test, one), part_of(np.uint64(value), test, other)
    assert (a == "test") == (b == "test")


PART = st.sampled_from(["train", "validation", "test"])
DRAWN = st.lists(st.tuples(st.integers(0, 6), PART), min_size=1, max_size=40)


@given(DRAWN)
def test_no_group_lies_in_two_parts_and_none_is_lost(drawn):
    groups, parts = zip(*drawn, strict=True)
    settled = settle(groups, parts)
    for group in set(groups):
        mine = [(own, part) for g, own, part in zip(groups, parts, settled, strict=True) if g == group]
        kept = {part for _, part in mine if part}
        assert len(kept) == 1
        part = kept.pop()
        assert all(now == own == part for own, now in mine if now)
        owns = [own for own, _ in mine]
        assert owns.count(part) == max(map(owns.count, owns))  # the majority stays


@given(st.lists(HASHES, min_size=1, max_size=8), st.data())
def test_added_photos_never_carry_an_old_one_from_part_to_part(bases, data):
    def near(value: int) -> int:
        for bit in data.draw(st.lists(st.integers(0, 63), max_size=6)):
            value ^= 1 << bit
        return value ^ (int(MIRROR) if data.draw(st.booleans()) else 0)

    old = [near(data.draw(st.sampled_from(bases))) for _ in range(data.draw(st.integers(1, 10)))]
    new = [near(data.draw(st.sampled_from(bases))) for _ in range(data.draw(st.integers(0, 10)))]

    def split(values: list[int]) -> list[str]:
        hashes = np.array(values, np.uint64)
        return settle(find_groups(hashes, THRESHOLD), [part_of(value, 0.4, 0.4) for value in hashes])

    for before, after in zip(split(old), split(old + new), strict=False):
        assert not before or not after or before == after


@given(st.lists(st.tuples(st.integers(0, 4), st.text("0123456789abcdef", min_size=14, max_size=14)), min_size=1))
def test_group_names_do_not_depend_on_numbers_or_order(pairs):
    groups, contents = zip(*pairs, strict=True)
    names = dict(zip(pairs, group_names(groups, contents), strict=True))
    again = group_names([9 - g for g in reversed(groups)], list(reversed(contents)))
    assert [names[pair] for pair in reversed(pairs)] == again
