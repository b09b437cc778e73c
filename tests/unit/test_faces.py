"""The embedded set: what training and measuring may rely on."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmask.errors import DataError
from bmask.params.sections import Drawn
from bmask.synthetic import CASES, KINDS, draw_face, draw_set
from bmask.synthetic.canvas import Canvas, Pose, ellipse, mirrored, rounded
from bmask.synthetic.traits import STYLES, TONES, sample_person

SMALL = Drawn(masked=50, unmasked=40, size=32, hard=0.5, seed=3)


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else image[..., ::-1]


def contents(folder: Path) -> dict[str, str]:
    files = (f for f in sorted(folder.rglob("*")) if f.is_file())
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "set"
    draw_set(folder, SMALL)
    return folder


def rows(folder: Path) -> dict[str, list[str]]:
    with (folder / "truth" / "slices.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: row["slices"].split(";") for row in csv.DictReader(file)}


# one picture


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(KINDS),
    case=st.sampled_from((None, *CASES)),
    size=st.sampled_from((32, 40, 57)),
)
def test_a_twin_equals_its_masked_picture_outside_the_region_and_there_alone(seed, kind, case, size):
    face = draw_face(seed, size, kind, case)
    for image in (face.masked, face.unmasked):
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8
    assert face.region.shape == (size, size)
    assert set(np.unique(face.region)) <= {0, 255}
    outside = face.region == 0
    np.testing.assert_array_equal(face.masked[outside], face.unmasked[outside])
    assert 0.04 < (~outside).mean() < 0.5  # below 0.1 only where a hand hides much of it
    assert face.slices == ((kind, case) if case else (kind,))
    if case != "skin_coloured_mask":
        assert (face.masked != face.unmasked).any(-1)[~outside].mean() > 0.9


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), case=st.sampled_from((None, "hand", "cap", "several_people")))
def test_without_a_mask_there_is_no_region_and_one_picture(seed, case):
    face = draw_face(seed, 32, None, case)
    np.testing.assert_array_equal(face.masked, face.unmasked)
    assert not face.region.any()
    assert face.slices == ()
    assert face.masked.std() > 5


@pytest.mark.parametrize("kind", KINDS)
def test_masks_cover_a_sensible_share_of_the_picture(kind):
    shares = [(draw_face((11, i), 32, kind).region > 0).mean() for i in range(12)]
    assert 0.15 < np.mean(shares) < 0.35
    assert min(shares) > 0.08
    assert max(shares) < 0.45


def test_masks_lie_over_mouth_and_chin_and_leave_the_eyes_free():
    regions = np.mean([draw_face((5, i), 32, KINDS[i % 5]).region > 0 for i in range(20)], axis=0)
    assert regions[22:27, 13:19].mean() > 0.95  # around the mouth
    assert regions[:13].mean() < 0.01  # brows and forehead


def test_the_same_seed_draws_the_same_bytes_and_another_seed_another_picture():
    first, again, other = draw_face((7, 1), 48), draw_face((7, 1), 48), draw_face((7, 2), 48)
    for field in ("masked", "unmasked", "region"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert (first.unmasked != other.unmasked).mean() > 0.5


def test_the_same_seed_shows_the_same_person_at_every_size():
    small, large = draw_face(9, 64, "cloth"), draw_face(9, 192, "cloth")
    shrunk = cv2.resize(large.masked, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - small.masked).mean() < 8  # noise and edges differ
    assert np.abs((large.region > 0).mean() - (small.region > 0).mean()) < 0.04


def test_kinds_of_mask_are_worn_by_the_same_person():
    first, second = (draw_face(4, 48, kind) for kind in ("surgical", "printed"))
    both_free = (first.region == 0) & (second.region == 0)
    np.testing.assert_array_equal(first.masked[both_free], second.masked[both_free])
    np.testing.assert_array_equal(first.unmasked, second.unmasked)


def test_a_hand_stays_in_the_twin_and_out_of_the_region():
    shrunk = 0
    for seed in range(8):
        with_hand, free = draw_face(seed, 48, "surgical", "hand"), draw_face(seed, 48, "surgical")
        hand = (free.region > 0) & (with_hand.region == 0)
        np.testing.assert_array_equal(with_hand.masked[hand], with_hand.unmasked[hand])
        shrunk += hand.mean() > 0.02
    assert shrunk >= 7


def test_two_people_wear_two_masks():
    apart = 0
    for seed in range(12):
        region = (draw_face(seed, 48, "cloth", "several_people").region > 0).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(region)
        apart += (stats[1:, cv2.CC_STAT_AREA] > 40).sum() >= 2
    assert apart >= 6  # in the others the masks touch


def test_a_skin_coloured_mask_is_nearer_to_the_skin_than_others():
    def distance(case: str | None) -> float:
        faces = [draw_face((2, i), 32, "cloth", case) for i in range(12)]
        return float(np.mean([np.abs(f.masked.astype(float) - f.unmasked)[f.region > 0].mean() for f in faces]))

    assert distance("skin_coloured_mask") < 0.6 * distance(None)


def test_unknown_kinds_and_cases_are_refused():
    with pytest.raises(ValueError, match="kind 'scarf'"):
        draw_face(1, 32, "scarf")
    with pytest.raises(ValueError, match="case 'rain'"):
        draw_face(1, 32, "cloth", "rain")


def test_people_vary_in_tone_hair_beard_and_glasses():
    people = [sample_person(np.random.default_rng([1, i])) for i in range(400)]
    assert {p.tone for p in people} == set(range(len(TONES)))
    assert len(TONES) >= 8
    assert len(np.unique([p.skin for p in people], axis=0)) == 400  # tones vary around their centres
    assert {p.hair for p in people} == set(STYLES)
    assert len({p.beard for p in people}) >= 5
    assert len({p.glasses for p in people}) == 4
    assert sum(p.smile > 0.4 for p in people) > 50
    assert sum(p.smile < -0.3 for p in people) > 20


# the folder


def test_the_set_has_the_shape_of_a_photo_folder_with_truth(drawn):
    masked, unmasked = ([f"face_{i:05d}.png" for i in range(n)] for n in (SMALL.masked, SMALL.unmasked))
    expected = {f"masked/{n}" for n in masked} | {f"unmasked/{n}" for n in unmasked} | {"truth/slices.csv"}
    expected |= {f"truth/{part}/{n}" for n in masked for part in ("twin", "region")}
    assert set(contents(drawn)) == expected
    assert [p.name for p in drawn.parent.iterdir()] == ["set"]  # nothing beside it
    assert list(rows(drawn)) == masked
    for name in masked[:10]:
        region = read(drawn / "truth" / "region" / name)
        shown, twin = read(drawn / "masked" / name), read(drawn / "truth" / "twin" / name)
        assert shown.shape == twin.shape == (32, 32, 3)
        assert region.shape == (32, 32)
        np.testing.assert_array_equal(shown[region == 0], twin[region == 0])


def test_every_kind_and_every_failure_case_appears_and_hard_is_their_share(drawn):
    slices = list(rows(drawn).values())
    assert {s[0] for s in slices} == set(KINDS)
    assert {s[1] for s in slices if len(s) > 1} == set(CASES)
    assert sum(len(s) > 1 for s in slices) == SMALL.hard * SMALL.masked


def test_pictures_do_not_depend_on_how_many_there_are(drawn, tmp_path):
    draw_set(tmp_path / "few", SMALL.model_copy(update={"masked": 4, "unmasked": 3}))
    whole, few = contents(drawn), contents(tmp_path / "few")
    few.pop("truth/slices.csv")
    assert few == {name: whole[name] for name in few}


def test_the_domains_show_different_people(drawn):
    def people(part: str) -> set[str]:
        return {hashlib.sha256(read(f).tobytes()).hexdigest() for f in (drawn / part).iterdir()}

    assert len(people("unmasked")) == SMALL.unmasked
    assert len(people("truth/twin")) == SMALL.masked
    assert not people("unmasked") & people("truth/twin")


def test_twins_and_the_unmasked_domain_look_alike_but_for_who_they_show(drawn):
    twins, unmasked = (
        np.stack([read(f) for f in sorted((drawn / part).iterdir())]).astype(float)
        for part in ("truth/twin", "unmasked")
    )
    means = [p.mean((1, 2)) for p in (twins, unmasked)]
    error = np.sqrt(sum(m.var(0) / len(m) for m in means))
    assert (np.abs(means[0].mean(0) - means[1].mean(0)) < 4 * error).all()


def test_folder_names_are_parameters(tmp_path):
    draw_set(tmp_path / "set", Drawn(masked=1, unmasked=1, size=32), masked="mit Maske", unmasked="b")
    assert {p.name for p in (tmp_path / "set").iterdir()} == {"mit Maske", "b", "truth"}


@pytest.mark.parametrize("names", [("../a", "b"), ("a", "a"), ("truth", "b"), ("a", ""), ("a", ".."), ("a/b", "c")])
def test_names_that_leave_the_folder_or_clash_are_refused(tmp_path, names):
    with pytest.raises(DataError, match="folder names"):
        draw_set(tmp_path / "set", Drawn(masked=1, unmasked=1, size=32), *names)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        draw_set(tmp_path, Drawn(masked=1, unmasked=1, size=32))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_set_that_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise OSError("disk full")

    monkeypatch.setattr("bmask.synthetic.folder.write_text", stop)
    with pytest.raises(OSError, match="disk full"):
        draw_set(tmp_path / "set", Drawn(masked=1, unmasked=1, size=32))
    assert not list(tmp_path.iterdir())


# paint and pose


def test_painting_on_both_pictures_uncovers_what_was_mask():
    canvas = Canvas(20)
    everything = canvas.fill(np.array([(-1, -1), (2, -1), (2, 2), (-1, 2.0)]))
    half = canvas.fill(np.array([(-1, -1), (0.5, -1), (0.5, 2), (-1, 2.0)]))
    canvas.paint_mask(everything, (1.0, 0, 0))
    canvas.paint(half, (0, 1.0, 0))
    assert canvas.coverage is not None
    soft = 0.03  # opencv's filled polygons are not quite opaque in the picture's outermost pixels
    np.testing.assert_allclose(canvas.coverage[:, :9], 0, atol=soft)
    np.testing.assert_allclose(canvas.coverage[:, 11:], 1, atol=soft)
    np.testing.assert_array_equal(canvas.images[0][:, :, 12:], 0)  # the mask never reaches the twin
    np.testing.assert_allclose(canvas.images[0][:, :, :9], canvas.images[1][:, :, :9], atol=soft)


def test_a_filled_ellipse_has_its_area_and_its_place():
    rows, columns, alpha = Canvas(300).fill(ellipse(0.4, 0.6, 0.2, 0.1, corners=90))
    assert alpha.sum() == pytest.approx(np.pi * 60 * 30, rel=0.05)  # opencv's edges are half a pixel wider
    y, x = (np.arange(s.start, s.stop) + 0.5 for s in (rows, columns))
    assert (alpha.sum(0) @ x) / alpha.sum() == pytest.approx(120, abs=1.0)
    assert (alpha.sum(1) @ y) / alpha.sum() == pytest.approx(180, abs=1.0)


@given(yaw=st.floats(-0.95, 0.95), y=st.floats(-0.9, 0.9))
def test_turning_the_head_keeps_the_order_of_its_features_and_its_outline(yaw, y):
    pose = Pose(x=0.5, y=0.5, scale=0.4, roll=0, yaw=yaw, pitch=0, width=0.7)
    line = np.stack([np.linspace(-0.7, 0.7, 29), np.full(29, y)], 1)
    x = pose.turn(line)[:, 0]
    assert (np.diff(x) > 0).all()
    assert x[-1] - x[0] == pytest.approx(1.4)


@given(st.integers(3, 12), st.booleans())
def test_rounding_corners_stays_within_them(n, closed):
    points = np.random.default_rng(n).uniform(-1, 1, (n, 2))
    smooth = rounded(points, 3, closed)
    assert (smooth.min(0) >= points.min(0) - 1e-9).all()
    assert (smooth.max(0) <= points.max(0) + 1e-9).all()
    if not closed:
        np.testing.assert_allclose(smooth[[0, -1]], points[[0, -1]])


def test_mirroring_does_not_double_points_on_the_axis():
    np.testing.assert_array_equal(mirrored([(0, 0), (1, 1), (0, 2)]), [(0, 0), (1, 1), (0, 2), (-1, 1)])
    assert len(mirrored([(0.5, 0), (1, 1)])) == 4
