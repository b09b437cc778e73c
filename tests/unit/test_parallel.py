"""Many items on all cores: in order, a few ahead, and with one thread in each library."""

from __future__ import annotations

from itertools import islice

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from bmask.parallel import AHEAD, CHUNK, cores, in_chunks, one_thread_each, parallel


@given(st.lists(st.integers(), max_size=100))
def test_results_come_in_the_order_of_the_items(items):
    assert list(parallel(str, items)) == [str(item) for item in items]
    assert list(in_chunks(list, iter(items))) == items


def test_only_a_few_items_are_taken_ahead():
    """A million photos handed over at once would all be in memory."""
    taken = []

    def items():
        for number in range(100_000):
            taken.append(number)
            yield number

    assert list(islice(parallel(str, items()), 3)) == ["0", "1", "2"]
    assert CHUNK < len(taken) <= (AHEAD * cores() + 1) * CHUNK


def test_what_is_raised_comes_through_and_ends_the_rest():
    done = []

    def work(item):
        if item == 40:
            raise ValueError("the fortieth")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="the fortieth"):
        list(parallel(work, range(100_000)))
    assert len(done) < 1000


def test_libraries_have_one_thread_inside_and_theirs_again_after():
    def threads() -> list[int]:
        return [cv2.getNumThreads(), *(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")]

    before = threads()
    assert len(before) > 1
    with one_thread_each():
        assert set(threads()) == {1}
    assert threads() == before
