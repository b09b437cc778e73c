"""Faces are found in drawn photos, where they are, at any size and by several threads, and not where none is."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmask.faces.alignment import GREY
from bmask.faces.finding import MIN_SIDE, brought, find_faces
from bmask.faces.network import SIZE, Face, detect, distinct, weights
from bmask.synthetic import draw_face


def scene(face: np.ndarray, height: int, width: int, top: int, left: int) -> np.ndarray:
    """A face somewhere in a larger grey picture."""
    photo = np.full((height, width, 3), GREY, np.uint8)
    photo[top : top + len(face), left : left + len(face)] = face
    return photo


@pytest.mark.parametrize("kind", ["surgical", "n95", None])
def test_drawn_faces_are_found_where_they_are(kind):
    found = 0
    for seed in range(4):
        face = draw_face(seed, 96, kind).masked
        tight, wide = find_faces(face), find_faces(scene(face, 200, 330, 60, 170))
        found += bool(tight) + bool(wide)
        if tight and wide:
            moved = wide[0].landmarks - [170, 60]
            eyes = np.linalg.norm(np.subtract(*tight[0].landmarks[:2]))
            assert np.linalg.norm(moved - tight[0].landmarks, axis=1).mean() < 0.12 * eyes
            left, right, nose, *mouth = wide[0].landmarks
            assert left[0] < nose[0] < right[0]
            assert max(left[1], right[1]) < nose[1] < min(point[1] for point in mouth)
    assert found >= 7


def test_a_small_face_in_a_large_photo_is_found_and_the_largest_comes_first():
    near, far = draw_face(1, 150, None).masked, draw_face(2, 70, None).masked
    photo = scene(near, 200, 300, 40, 10)
    photo[20:90, 210:280] = far
    faces = find_faces(photo)
    assert [bool(face.box[0] > 200) for face in faces] == [False, True]
    assert brought(faces[0].landmarks) > 1.5 * brought(faces[1].landmarks)


def test_where_no_face_is_none_is_found():
    rng = np.random.default_rng(0)
    noise = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (150, 200), interpolation=cv2.INTER_CUBIC)
    assert find_faces(noise) == find_faces(noise, small=True) == []
    assert find_faces(np.zeros((16, 120, 3), np.uint8)) == []


def test_a_face_of_a_few_pixels_is_none():
    face = cv2.resize(draw_face(1, 96, None).masked, (MIN_SIDE - 1,) * 2, interpolation=cv2.INTER_AREA)
    assert find_faces(face) == []


def test_every_thread_finds_the_same():
    photos = [draw_face(seed, 64, None).masked for seed in range(3)]
    expected = [find_faces(photo) for photo in photos]
    found: list = [None] * 3

    def work(index: int) -> None:
        found[index] = find_faces(photos[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for one, other in zip(expected, found, strict=True):
        assert [face.score for face in one] == [face.score for face in other]
        np.testing.assert_array_equal([face.landmarks for face in one], [face.landmarks for face in other])


def test_boxes_and_landmarks_at_the_edge_are_not_cut_there():
    face = cv2.resize(draw_face(3, 128, None).masked, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    whole = detect(
        cv2.copyMakeBorder(cv2.resize(face, (128, 128)), 64, 64, 64, 64, cv2.BORDER_CONSTANT, value=(127,) * 3)
    )
    cut = detect(
        cv2.copyMakeBorder(cv2.resize(face, (128, 128)), 64, 64, 0, 128, cv2.BORDER_CONSTANT, value=(127,) * 3)
    )
    assert np.abs(whole[0].landmarks - [64, 0] - cut[0].landmarks).max() < 6


def test_the_small_faces_of_a_group_are_found_part_by_part_each_once():
    photo = np.full((480, 720, 3), 120, np.uint8)
    for number in range(24):
        row, column = divmod(number, 6)
        photo[row * 120 + 24 : row * 120 + 96, column * 120 + 24 : column * 120 + 96] = draw_face(
            number, 72, None
        ).masked
    few, many = find_faces(photo), find_faces(photo, small=True)
    assert len(many) >= 18 > len(few)
    cells = [tuple((face.box[:2] + face.box[2:] / 2) // 120) for face in many]
    assert len(set(cells)) == len(cells)


def test_the_detector_sees_what_opencv_makes_of_the_same_network():
    """OpenVINO is twice as fast; a face's place moves by no thousandth of a px."""
    picture = cv2.resize(scene(draw_face(3, 96, "n95").masked, 200, 200, 50, 50), (SIZE, SIZE))
    network = cv2.dnn.readNetFromONNX(str(weights()))
    network.setInput(cv2.dnn.blobFromImage(picture))
    heat, sizes, shifts, points = (output[0] for output in network.forward(("537", "538", "539", "540")))
    row, column = np.unravel_index(heat[0].argmax(), heat[0].shape)
    height, width = np.exp(sizes[:, row, column]) * 4
    top, left = (np.array([row, column]) + shifts[:, row, column] + 0.5) * 4 - (height / 2, width / 2)
    best = detect(picture)[0]
    assert best.score == pytest.approx(heat.max(), abs=1e-4)
    np.testing.assert_allclose(best.box, [left, top, width, height], atol=1e-3)
    nose = points[4:6, row, column] * (height, width) + (top, left)
    np.testing.assert_allclose(best.landmarks[2], nose[::-1], atol=1e-3)


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 12)] * 2), max_size=12), st.sampled_from([0.3, 0.4])
)
def test_of_faces_in_one_place_the_first_stays(boxes, overlap):
    faces = [Face(0.5, np.array(box, float), np.zeros((5, 2))) for box in boxes]
    kept: list[Face] = []
    for face in faces:
        if all(face.overlap(other) <= overlap for other in kept):
            kept.append(face)
    assert [id(face) for face in distinct(faces, overlap)] == [id(face) for face in kept]
