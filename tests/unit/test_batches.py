"""Batches take every photo in turn, depend on the step alone, and hold exact crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmask.data.split.dataset import to_photos, to_tensor
from bmask.training.batches import Crops

pytestmark = pytest.mark.usefixtures("one_thread")


def addressed(copies: int, count: int, side: int) -> np.ndarray:
    """Photos whose pixels encode their place: red is the copy and the photo, green the row, blue the column."""
    photos = np.zeros((copies, count, side, side, 3), np.uint8)
    photos[..., 0] = (np.arange(copies)[:, None] * count + np.arange(count))[..., None, None]
    photos[..., 1] = np.arange(side)[:, None]
    photos[..., 2] = np.arange(side)
    return photos


def where(batch: torch.Tensor, count: int) -> list[tuple[int, int, int, int, bool]]:
    """(copy, photo, top, left, flipped) of each crop of `addressed` photos; checks that it is one whole rectangle."""
    found = []
    for crop in to_photos(batch).astype(int):
        side = len(crop)
        source, rows, columns = crop[..., 0], crop[..., 1], crop[..., 2]
        assert (source == source[0, 0]).all()
        flipped = side > 1 and columns[0, 0] > columns[0, 1]
        top, left = rows[0, 0], columns[0].min()
        assert (rows == top + np.arange(side)[:, None]).all()
        across = left + np.arange(side)
        assert (columns == (across[::-1] if flipped else across)).all()
        found.append((*divmod(source[0, 0], count), top, left, flipped))
    return found


class Batches(Crops):
    """The crops of one domain."""

    def at(self, step: int) -> torch.Tensor:
        return super().at(step)[self.purpose]


def batches(photos: np.ndarray, size: int, batch: int, seed: int = 1, domain: str = "a") -> Batches:
    return Batches({domain: torch.from_numpy(photos)}, size, batch, seed, domain)


@given(count=st.integers(1, 13), batch=st.integers(1, 7), copies=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_every_photo_is_seen_once_before_any_is_seen_again(count, batch, copies, seed):
    source = batches(addressed(copies, count, 4), 2, batch, seed)
    assert len(source) == count
    steps = -(-3 * count // batch)
    seen = [photo for step in range(steps) for _, photo, *_ in where(source.at(step), count)]
    for lap in range(3):
        assert sorted(seen[lap * count : (lap + 1) * count]) == list(range(count))


@given(count=st.integers(1, 9), batch=st.integers(1, 5), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=25)
def test_a_batch_is_a_function_of_the_step_alone(count, batch, seed, data):
    photos = addressed(2, count, 6)
    one = batches(photos, 4, batch, seed)
    sequential = [one.at(step) for step in range(12)]
    other = batches(photos, 4, batch, seed)
    for step in data.draw(st.permutations(range(12))):
        assert torch.equal(other.at(step), sequential[step])


def test_laps_orders_domains_and_seeds_differ():
    photos, count = addressed(1, 40, 4), 40

    def order(lap: int = 0, seed: int = 1, domain: str = "a") -> list[int]:
        source = batches(photos, 4, count, seed, domain)
        return [photo for _, photo, *_ in where(source.at(lap), count)]

    orders = [order(), order(lap=1), order(seed=2), order(domain="b"), list(range(count))]
    for i, one in enumerate(orders):
        assert all(one != other for other in orders[:i])


@given(side=st.integers(4, 12), size=st.integers(2, 12), seed=st.integers(0, 9))
@settings(max_examples=30)
def test_crops_lie_within_the_photo_and_are_as_large_as_asked(side, size, seed):
    if size > side:
        with pytest.raises(ValueError, match=f"domain a has 3 photos of {side} px; crops are {size} px"):
            batches(addressed(1, 3, side), size, 2, seed)
        return
    batch = batches(addressed(1, 3, side), size, 5, seed).at(0)
    assert batch.shape == (5, 3, size, size)
    for _, _, top, left, _ in where(batch, 3):
        assert 0 <= top <= side - size
        assert 0 <= left <= side - size


def test_every_corner_copy_and_flip_is_drawn_about_equally_often():
    source = batches(addressed(3, 2, 6), 4, 50)
    found = [place for step in range(36) for place in where(source.at(step), 2)]
    total = len(found)

    def shares(position: int) -> list[float]:
        values = [place[position] for place in found]
        return [values.count(value) / total for value in sorted(set(values))]

    # Four standard errors of a share p among 1800 draws: 4 * sqrt(p * (1 - p) / 1800) < 0.048.
    assert shares(0) == pytest.approx([1 / 3] * 3, abs=0.048)
    assert shares(2) == pytest.approx([1 / 3] * 3, abs=0.048)
    assert shares(3) == pytest.approx([1 / 3] * 3, abs=0.048)
    assert shares(4) == pytest.approx([1 / 2] * 2, abs=0.048)


def test_copy_corner_and_flip_are_drawn_apart():
    source = batches(addressed(2, 2, 5), 4, 50)
    found = {(copy, top, left, flip) for step in range(20) for copy, _, top, left, flip in where(source.at(step), 2)}
    assert len(found) == 2 * 2 * 2 * 2


def test_pixels_become_floats_exactly_and_black_and_white_are_the_ends():
    values = np.arange(256, dtype=np.uint8)
    photos = np.broadcast_to(values[None, :, None, None, None], (1, 256, 2, 2, 3)).copy()
    out = batches(photos, 2, 256).at(0)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert out.min() == -1
    assert out.max() == 1
    got = np.sort(out[:, 0, 0, 0].numpy())
    np.testing.assert_allclose(got, np.arange(256) / 127.5 - 1, atol=1e-7)
    assert np.array_equal(np.sort(to_photos(out)[:, 0, 0, 0]), values)


def test_a_batch_is_what_the_dataset_makes_of_the_same_crop():
    photos = np.random.default_rng(0).integers(0, 256, (1, 5, 4, 4, 3), dtype=np.uint8)
    both = {
        tuple(t.flatten().tolist()) for p in photos[0] for t in (to_tensor(p[None])[0], to_tensor(p[None, :, ::-1])[0])
    }
    for crop in batches(photos, 4, 5).at(0):
        assert tuple(crop.flatten().tolist()) in both


def test_a_mapped_array_is_read_where_it_lies_and_never_written(tmp_path):
    path = tmp_path / "photos.npy"
    np.save(path, addressed(2, 3, 6))
    before = path.read_bytes()
    batches(np.load(path, mmap_mode="c"), 4, 3).at(0).zero_()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "photos",
    [
        np.zeros((3, 4, 4, 3), np.uint8),
        np.zeros((1, 3, 4, 5, 3), np.uint8),
        np.zeros((1, 3, 4, 4, 4), np.uint8),
        np.zeros((1, 3, 4, 4, 3), np.float32),
        np.zeros((1, 0, 4, 4, 3), np.uint8),
    ],
    ids=["no copies", "not square", "four channels", "floats", "empty"],
)
def test_arrays_that_are_no_photos_are_refused_with_their_domain(photos):
    with pytest.raises(ValueError, match=r"(photos|domain) b"):
        batches(photos, 4, 2, domain="b")
