"""Scores are measured on what serving gives; intervals resample groups; comparisons are paired."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drawn import write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from bmask.data.split.dataset import resize
from bmask.errors import DataError
from bmask.gan.translation import Translation
from bmask.quality.features import inception, inception_features, inception_path
from bmask.quality.judge import Judge
from bmask.quality.measuring import reference, score
from bmask.quality.render import rendered, renderer, resize_regions, translator
from bmask.quality.scores import (
    Scores,
    group_weights,
    intervals,
    paired_bootstrap,
    photo_interval,
    primary_value,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    torch.set_num_threads(1)
    return write_dataset(tmp_path_factory.mktemp("scores") / "split")


@pytest.fixture(scope="module")
def judge():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Judge(4, 32).eval()


@pytest.fixture
def truth(dataset):
    """The perfect translation: it returns every photo's twin."""
    twins, _ = dataset.truth("test")
    photos = np.array(dataset.photos("masked", "test"))

    def translate(batch):
        rows = [int((photos == photo).all(axis=(1, 2, 3)).argmax()) for photo in batch]
        return np.array(twins)[rows], None

    return translate


def identity(photos):
    return photos, None


def test_the_identity_leaves_everything_untouched(dataset, judge):
    found = score(renderer(identity, 0.1), reference(dataset, "test", judge, 32)).photos
    assert (found["untouched"] == 1).all() and (found["upper_mae"] == 0).all() and (found["outside_mae"] == 0).all()
    assert found["upper_ssim"] == pytest.approx(np.ones(14), abs=1e-4)
    assert "attention" not in found


def test_the_true_faces_get_the_best_paired_scores(dataset, judge, truth):
    found = score(renderer(truth, 0.1), reference(dataset, "test", judge, 32)).photos
    assert (found["region_mae"] == 0).all() and found["region_ssim"] == pytest.approx(np.ones(14), abs=1e-4)
    assert found["region_psnr"] == pytest.approx(np.full(14, 10 * math.log10(255**2 * 12)))
    worse = score(renderer(identity, 0.1), reference(dataset, "test", judge, 32)).photos
    assert (worse["region_mae"] > 5).all() and (worse["region_ssim"] < 0.9).all()


def test_no_paired_scores_without_truth(tmp_path, judge):
    bare = write_dataset(tmp_path / "bare", truth=False)
    found = score(renderer(identity, 0.1), reference(bare, "test", judge, 32)).photos
    assert {"residue", "residue_rate", "grade", "upper_ssim", "untouched"} <= set(found)
    assert not [name for name in found if name.startswith(("region_", "outside_", "cutout_"))]


def test_pixels_under_the_attention_threshold_are_the_photos_own(dataset, judge):
    attention = np.zeros((32, 32), np.float32)
    attention[20:28, 8:24], attention[:4] = 1, 0.1  # the first rows lie at the threshold, not above it

    def paint(photos):
        images = np.where(attention[..., None] > 0, np.uint8(255 - photos), photos)
        return images, np.broadcast_to(attention, photos.shape[:3])

    made = rendered(paint, np.array(dataset.photos("masked", "test")), 0.1)
    kept = attention <= 0.1
    assert np.array_equal(made.images[:, kept], made.photos[:, kept])
    assert np.array_equal(made.images[:, ~kept], 255 - made.photos[:, ~kept])
    scores = score(renderer(paint, 0.1), reference(dataset, "test", judge, 32))
    assert scores.photos["attention"] == pytest.approx(np.full(14, (attention == 1).mean()))


def test_a_generator_is_rendered_in_batches_as_if_at_once(tmp_path):
    wide = write_dataset(tmp_path / "wide", counts={"train": 2, "validation": 2, "test": 70})

    class Negative(torch.nn.Module):
        def forward(self, x):
            return Translation(-x, torch.full_like(x[:, :1], 0.5))

    found = rendered(translator(Negative()), resize(wide.photos("masked", "test"), 16), 0.0)
    assert found.images.shape == (70, 16, 16, 3) and found.attention.shape == (70, 16, 16)
    assert np.abs(found.images.astype(int) - (255 - found.photos)).max() <= 1


def test_a_split_without_photos_is_refused(tmp_path, judge):
    empty = write_dataset(tmp_path / "small", counts={"train": 4, "validation": 4, "test": 1})
    with pytest.raises(DataError, match="1 masked photos"):
        score(renderer(identity, 0.1), reference(empty, "test", judge, 32))


def test_a_pixel_that_the_mask_touches_belongs_to_the_region():
    region = np.zeros((1, 8, 8), np.uint8)
    region[0, 3, 3] = 255
    assert np.argwhere(resize_regions(region, 4)[0]).tolist() == [[1, 1]]


def made(n: int = 40, shift: float = 0.0, rate: float = 0.8, seed: int = 0, photos: dict | None = None) -> Scores:
    rng = np.random.default_rng(seed)
    real = np.random.default_rng(99).normal(size=(50, 6)).astype(np.float32)
    values = {"unmask_rate": (rng.random(n) < rate).astype(float), "upper_ssim": rng.uniform(0.8, 1, n)}
    return Scores(
        names=np.array([f"{i}.png" for i in range(n)]),
        groups=np.array([f"g{i // 2}" for i in range(n)]),
        slices=np.array(["cap" if i % 4 == 0 else "" for i in range(n)]),
        photos=values if photos is None else photos,
        features=(rng.normal(size=(n, 6)) + shift).astype(np.float32),
        real=real,
        real_groups=np.array([f"r{i}" for i in range(50)]),
        prefix="judge_",
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 1000))
def test_photos_of_one_group_are_drawn_together_and_as_many_groups_as_there_are(members, seed):
    groups = np.array([f"g{m}" for m in members])
    weights = group_weights(groups, 20, seed)
    for row in weights:
        times = {group: set(row[groups == group]) for group in groups}
        assert all(len(found) == 1 for found in times.values())
        assert sum(found.pop() for found in times.values()) == len(set(members))


@pytest.mark.parametrize("found", [None, 0, 7])
def test_a_photo_without_a_cutout_stays_in_the_means(dataset, judge, tmp_path, found):
    """The masks of the last photos, or of all, were not found: the judge's output replaces them."""
    untold = write_dataset(tmp_path / "untold", truth=False)
    cutouts = None if found is None else np.zeros((14, 32, 32), np.uint8)
    if found:
        cutouts[:found, 20:28, 8:24] = 255
    scores = score(renderer(identity, 0.25), reference(untold, "test", judge, 32, cutouts=cutouts))
    for name in ("residue", "grade"):
        assert np.isfinite(scores.photos[name]).all(), name


def test_attention_is_measured_as_serving_lays_it_over_the_photo(dataset, judge):
    """Attention up to the threshold changes nothing, so it counts as 0 in a mean and in a mask's area."""
    regions = np.array(dataset.truth("test")[1])
    real = reference(dataset, "test", judge, 32, cutouts=regions)

    def faint(photos):
        return 255 - photos, np.full(photos.shape[:3], 0.2, np.float32)

    found = score(renderer(faint, 0.25), real)
    assert found.photos["untouched"].min() == 1
    assert found.photos["attention"].max() == 0 and found.photos["cutout_area"].max() == 0
    half = score(renderer(lambda photos: (255 - photos, np.full(photos.shape[:3], 0.625, np.float32)), 0.25), real)
    assert half.photos["attention"] == pytest.approx(np.full(14, 0.5))


def test_the_interval_of_a_rate_has_the_width_that_theory_gives():
    n = 400
    values = np.repeat([1.0, 0.0], n // 2)
    scores = made(n, photos={"unmask_rate": np.random.default_rng(1).permutation(values)})
    single = Scores(**{**vars(scores), "groups": scores.names})
    found = photo_interval(single, "unmask_rate", 2000, 0)
    assert found.value == 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * math.sqrt(0.25 / n), rel=0.1)


@pytest.mark.parametrize("n", [1, 4, 100])
def test_a_rate_of_all_or_none_has_the_interval_of_clopper_and_pearson(n):
    from scipy.stats import binomtest

    for rate in (0.0, 1.0):
        scores = made(2 * n, photos={"unmask_rate": np.full(2 * n, rate)})  # groups of two
        exact = binomtest(int(rate * n), n).proportion_ci(0.95, "exact")
        assert photo_interval(scores, "unmask_rate", 50, 0) == pytest.approx((rate, exact.low, exact.high))


def test_masked_photos_without_a_face_stay_in_every_rate_as_masks_left(tmp_path):
    """Four of a hundred photos were lost before any system saw them; all others came out clean."""
    values = {"unmask_rate": np.ones(96), "residue_rate": np.zeros(96), "upper_ssim": np.ones(96)}
    scores = Scores(**{**vars(made(96, photos=values)), "lost": 0.04})
    scores.save(tmp_path / "s.npz")
    for own in (scores, Scores.load(tmp_path / "s.npz")):
        found = {name: photo_interval(own, name, 50, 0) for name in values}
        assert found["unmask_rate"].value == found["unmask_rate"].high == pytest.approx(0.96)
        assert found["residue_rate"].value == found["residue_rate"].low == pytest.approx(0.04)
        assert found["residue_rate"].high > 0.04
        assert found["upper_ssim"].value == 1  # not a rate
        assert photo_interval(own, "unmask_rate", 50, 0, np.arange(96) < 9).value == 1  # slices have no lost photos


def test_copies_of_a_photo_in_one_group_do_not_narrow_the_interval():
    values = np.random.default_rng(0).random(50)
    groups = np.array([f"g{i}" for i in range(50)])

    def width(times: int) -> float:
        scores = made(50 * times, photos={"upper_ssim": np.tile(values, times)})
        found = photo_interval(Scores(**{**vars(scores), "groups": np.tile(groups, times)}), "upper_ssim", 800, 0)
        return found.high - found.low

    assert width(4) == pytest.approx(width(1), rel=1e-9)


def test_intervals_hold_their_values_and_repeat_with_the_seed():
    scores = made(shift=0.5)
    found = intervals(scores, 200, 5)
    assert set(found) == {"unmask_rate", "upper_ssim", "judge_kid", "judge_frechet"}
    assert all(interval.low <= interval.value <= interval.high for interval in found.values())
    assert intervals(scores, 200, 5) == found != intervals(scores, 200, 6)


def test_scores_that_some_photos_lack_are_means_over_the_others():
    scores = made(4, photos={"outside_ssim": np.array([0.5, np.nan, 0.7, np.nan])})
    assert photo_interval(scores, "outside_ssim", 50, 0).value == pytest.approx(0.6)
    nothing = made(4, photos={"outside_ssim": np.full(4, np.nan)})
    assert all(math.isnan(number) for number in photo_interval(nothing, "outside_ssim", 50, 0))


def test_the_paired_bootstrap_sees_small_but_steady_gains():
    base = made()
    values = base.photos["upper_ssim"]
    better = Scores(**{**vars(base), "photos": {**base.photos, "upper_ssim": values + 0.001}})
    assert paired_bootstrap(better, base, "upper_ssim", 200, 0) == 1
    assert paired_bootstrap(base, better, "upper_ssim", 200, 0) == 0
    assert paired_bootstrap(base, base, "kid", 200, 0) == 0


def test_of_two_kernel_distances_the_lower_wins():
    near, far = made(shift=0.1), made(shift=1.0)
    assert paired_bootstrap(near, far, "kid", 200, 0) > 0.95
    assert primary_value(near, "kid") > primary_value(far, "kid")


def test_scores_of_other_photos_are_not_compared():
    with pytest.raises(DataError, match="score both again"):
        paired_bootstrap(made(40), made(38), "kid", 10, 0)


def test_saved_scores_are_loaded_unchanged_and_other_files_are_refused(tmp_path):
    scores = made()
    scores.save(tmp_path / "s.npz")
    loaded = Scores.load(tmp_path / "s.npz")
    assert intervals(loaded, 50, 0) == intervals(scores, 50, 0)
    assert np.array_equal(loaded.slices, scores.slices) and loaded.prefix == "judge_"
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match="run evaluate again"):
        Scores.load(tmp_path / "s.npz")


def test_without_cached_inception_weights_the_distances_carry_the_judges_name(dataset, judge, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not inception_path().is_file()
    real = reference(dataset, "test", judge, 32)
    assert real.prefix == "judge_" and real.real.shape == (14, 40)


@pytest.mark.slow
def test_with_cached_inception_weights_they_are_used(dataset, judge, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    from torchvision.models import inception_v3

    inception_path().parent.mkdir(parents=True)
    torch.save(inception_v3(weights=None, init_weights=False).state_dict(), inception_path())
    real = reference(dataset, "test", judge, 32)
    assert real.prefix == "" and real.real.shape == (14, 2048)


def test_inception_features_are_resized_and_normalised_as_imagenet_was():
    class Mean(torch.nn.Module):
        def forward(self, x):
            assert x.shape[2:] == (299, 299)
            return x.mean(dim=(2, 3))

    photos = np.full((2, 20, 20, 3), 128, np.uint8)
    expected = (128 / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert inception_features(Mean(), photos) == pytest.approx(np.stack([expected] * 2), abs=1e-4)


def test_inception_ends_in_2048_features():
    assert inception_features(inception(), np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 2048)
