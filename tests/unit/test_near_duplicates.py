"""The quick search for turned and cropped copies finds what a comparison of all pairs finds."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from changed import cut, picture, turned
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bmask.data.duplicates import alignment as copies
from bmask.data.duplicates import hashing
from bmask.data.duplicates.alignment import COARSE, SIDE, VIEWS, find_near_duplicates, thumbnail
from bmask.data.duplicates.hashing import Tables

PICTURES = 150
PLANTS = (
    lambda photo: turned(photo, 4),
    lambda photo: turned(photo[:, ::-1], -9),
    lambda photo: cut(photo, 0.05, 1, 1),
    lambda photo: cut(turned(photo, -3), 0.06, 0.2, 0.8),
    lambda photo: cut(photo[:, ::-1], 0.1),
)


@cache
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails and aspects of pictures and, PICTURES places later, of their copies."""
    photos = [picture(seed, 96 + 7 * (seed % 5), 96)[..., 0] for seed in range(PICTURES)]
    photos += [PLANTS[seed % len(PLANTS)](photo) for seed, photo in enumerate(photos)]
    photos = [np.ascontiguousarray(photo) for photo in photos]
    return np.stack([thumbnail(photo) for photo in photos]), np.array([p.shape[1] / p.shape[0] for p in photos])


def found(thumbnails: np.ndarray, aspects: np.ndarray) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in np.sort(find_near_duplicates(thumbnails.__getitem__, aspects), axis=1)}


class Everyone(Tables):
    """Brute force: all photos are neighbours."""

    def neighbours(self, views):
        count, others = len(views), self._codes.shape[1]
        yield np.arange(count).repeat(others), np.tile(np.sort(self._order[0]), count)


@pytest.fixture
def brute_force(monkeypatch) -> set[tuple[int, int]]:
    with monkeypatch.context() as patch:
        patch.setattr(copies, "Tables", Everyone)
        return found(*planted())


def test_hashing_finds_of_the_planted_copies_what_brute_force_finds(brute_force):
    assert len(brute_force) >= 0.9 * PICTURES
    quick = found(*planted())
    assert quick <= brute_force
    assert len(quick) >= 0.98 * len(brute_force)


def test_fewer_tables_would_not_do(brute_force, monkeypatch):
    """This proves that the test above can fail."""
    monkeypatch.setattr(hashing, "TABLES", 2)
    assert len(found(*planted())) < 0.8 * len(brute_force)


def test_index_by_index_the_same_pairs_are_found(monkeypatch):
    whole = found(*planted())
    monkeypatch.setattr(copies, "INDEX_SIZE", 70)
    assert found(*planted()) == whole


def test_few_strangers_are_compared():
    thumbnails, aspects = planted()
    pairs = sum(len(rows) for rows, _ in tables_of(thumbnails).neighbours(views_of(thumbnails, aspects)))
    assert pairs < 0.1 * len(thumbnails) ** 2


def test_buckets_searched_a_piece_at_a_time_are_the_same(monkeypatch):
    thumbnails, aspects = planted()
    tables, views = tables_of(thumbnails), views_of(thumbnails, aspects)
    whole = np.concatenate([np.stack(pairs) for pairs in tables.neighbours(views)], axis=1)
    monkeypatch.setattr(hashing, "NEIGHBOURS", 500)
    pieces = [np.stack(pairs) for pairs in tables.neighbours(views)]
    assert len(pieces) > 3
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)


def test_neighbours_are_those_that_share_a_code_with_a_view():
    thumbnails, aspects = planted()
    views, coarse = views_of(thumbnails, aspects)[:40], coarse_of(thumbnails)
    kept = np.arange(0, len(coarse), 3)
    tables = Tables(coarse, copies._ODD[copies._LOW], kept)
    asked = tables.codes(views.reshape(-1, views.shape[-1])).reshape(-1, 40, len(VIEWS), 1)
    shared = (asked == tables.codes(coarse[kept])[:, None, None]).any((0, 2))
    rows, photos = np.concatenate([np.stack(pairs) for pairs in tables.neighbours(views)], axis=1)
    expected = np.nonzero(shared)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(photos, kept[expected[1]])


def test_a_mirrored_picture_has_the_codes_of_the_picture():
    thumbnails, _ = planted()
    tables = tables_of(thumbnails)
    codes, mirrored = (tables.codes(coarse_of(side)) for side in (thumbnails, thumbnails[..., ::-1]))
    assert np.mean(codes == mirrored) > 0.999  # a product that is nearly 0 may round to either side


def test_thousands_of_flat_pictures_meet_nobody():
    """They would share every bucket with each other."""
    flat = np.arange(3000, dtype=np.uint8)[:, None, None].repeat(SIDE, 1).repeat(SIDE, 2)
    thumbnails, aspects = planted()
    together = found(np.concatenate([thumbnails[:20], flat]), np.concatenate([aspects[:20], np.ones(len(flat))]))
    assert together == found(thumbnails[:20], aspects[:20])


@given(arrays.arrays(np.uint8, (2, SIDE, SIDE)), st.floats(1 / 8, 8))
def test_spectra_of_views_are_those_of_the_views_made_one_by_one(pictures, aspect):
    warps = np.float32(copies._in_pixels(copies._maps(np.array([aspect, 1.0]))))
    plainly = [[copies._warp(np.float32(p), warp) for warp in own] for p, own in zip(pictures, warps, strict=True)]
    expected = copies._spectra(np.float32(plainly), copies._LOW_WAVES)
    # Turned views are made of bytes, so they are rounded to half a grey level.
    largest = 0.5 * np.abs(copies._LOW_WAVES).sum(1).max()
    got = copies._view_spectra(pictures, warps)
    np.testing.assert_allclose(got[:, ~copies._STRAIGHT], expected[:, ~copies._STRAIGHT], atol=largest + 1)
    np.testing.assert_allclose(got[:, copies._STRAIGHT], expected[:, copies._STRAIGHT], atol=0.01 * largest)


def test_a_pair_correlates_where_one_of_its_views_does():
    thumbnails, aspects = planted()
    views, coarse = views_of(thumbnails, aspects)[:30], coarse_of(thumbnails)
    rows, photos = np.arange(30).repeat(len(coarse)), np.tile(np.arange(len(coarse)), 30)
    mirror = np.where(copies._ODD[copies._LOW], -1, 1)
    plainly = np.stack([views @ coarse.T, views @ (coarse * mirror).T])  # mirrored, row, view, photo
    i, v, j, mirrored = copies._correlated(views, coarse, rows, photos)
    assert set(zip(i, j, strict=True)) == set(zip(*np.nonzero(plainly.max((0, 2)) > COARSE), strict=True))
    np.testing.assert_allclose(plainly[mirrored.astype(int), i, v, j], plainly.max((0, 2))[i, j], atol=1e-5)


def coarse_of(thumbnails: np.ndarray) -> np.ndarray:
    return copies._unit(copies._spectra(thumbnails.astype(np.float32), copies._LOW_WAVES))


def tables_of(thumbnails: np.ndarray) -> Tables:
    return Tables(coarse_of(thumbnails), copies._ODD[copies._LOW], np.arange(len(thumbnails)))


def views_of(thumbnails: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    return copies._unit(copies._view_spectra(thumbnails, np.float32(copies._in_pixels(copies._maps(aspects)))))
