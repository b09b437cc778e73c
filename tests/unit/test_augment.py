"""Copies vary a photo mildly, always in the same way for the same photo, and never add what looks like a mask."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from bmask.data.records import DOMAINS
from bmask.errors import DataError
from bmask.files import read_json, write_json, write_text
from bmask.params import Params, parse_params
from bmask.params.sections import Augment
from bmask.stages.augment import augment, policy, vary_once

SIZE = 32


def photo(seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE, SIZE, 3)), (3, 3, 0))
    return np.uint8(np.clip(128 + 50 * noise / noise.std(), 0, 255))


def write_dataset(folder: Path, masked: list[int], unmasked: list[int], private: bool = False) -> Path:
    """A split as ingest writes it, its photos named by their seeds."""
    folder.mkdir()
    rows = ["domain,name,sha256,width,height,group,split,index,slices,reason"]
    for domain, seeds in zip(DOMAINS, (masked, unmasked), strict=True):
        np.save(folder / f"{domain}_train.npy", np.stack([photo(seed) for seed in seeds]))
        for index, seed in enumerate(seeds):
            content = hashlib.sha256(str(seed).encode()).hexdigest()
            rows.append(f"{domain},{seed}.png,{content},{SIZE},{SIZE},{content[:12]},train,{index},,")
    write_text(folder / "manifest.csv", "\n".join(rows) + "\n")
    about = {"digest": "d", "load_size": SIZE, "fit": "crop", "private": private, "truth": False, "version": 4}
    write_json(folder / "summary.json", about)
    return folder


def params(**options) -> Params:
    sizes = {"ingest": {"load_size": SIZE}, "train": {"image_size": 16}}
    return parse_params({"augment": {"copies": 3, **options}, **sizes})


def arrays(out: Path) -> dict[str, np.ndarray]:
    return {domain: np.load(out / f"{domain}_train.npy") for domain in DOMAINS}


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "split", [1, 2, 3], [4, 5])


def test_the_first_copy_is_the_photo_itself_and_the_others_are_not(dataset, tmp_path):
    augment(params(), dataset, tmp_path / "out")
    for domain, copies in arrays(tmp_path / "out").items():
        photos = np.load(dataset / f"{domain}_train.npy")
        assert copies.shape == (3, *photos.shape)
        assert copies.dtype == np.uint8
        np.testing.assert_array_equal(copies[0], photos)
        for one in range(3):
            for other in range(one):
                assert (copies[one] != copies[other]).any((1, 2, 3)).all()
        # a copy is much nearer to its own photo than photos are to each other
        strange = np.abs(photos[:, None].astype(int) - photos[None]).mean((2, 3, 4))
        assert np.abs(copies[1:].astype(int) - photos).mean() < 0.6 * strange[strange > 0].mean()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(dataset, tmp_path):
    for out, options in (("a", {}), ("b", {}), ("c", {"seed": 12})):
        augment(params(**options), dataset, tmp_path / out)
    for name in ("masked_train.npy", "unmasked_train.npy", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    digests = [read_json(tmp_path / out / "summary.json")["digest"] for out in "abc"]
    assert digests[0] == digests[1] != digests[2]
    assert (arrays(tmp_path / "a")["masked"][0] == arrays(tmp_path / "c")["masked"][0]).all()
    assert (arrays(tmp_path / "a")["masked"][1] != arrays(tmp_path / "c")["masked"][1]).any()


def test_an_added_photo_or_copy_changes_no_other_copies(dataset, tmp_path):
    more = write_dataset(tmp_path / "more", [9, 1, 8, 2, 3], [5, 4])
    augment(params(), dataset, tmp_path / "few")
    augment(params(copies=4), more, tmp_path / "many")
    few, many = arrays(tmp_path / "few"), arrays(tmp_path / "many")
    np.testing.assert_array_equal(few["masked"], many["masked"][:3, [1, 3, 4]])
    np.testing.assert_array_equal(few["unmasked"], many["unmasked"][:3, ::-1])


def test_private_photos_are_on_no_sheet(dataset, tmp_path):
    augment(params(), dataset, tmp_path / "out")
    assert Image.open(tmp_path / "out" / "contact_sheet.png").height > 5 * SIZE
    augment(params(), write_dataset(tmp_path / "private", [1], [2], private=True), tmp_path / "out2")
    assert not list((tmp_path / "out2").glob("*.png"))


def test_one_copy_is_the_photos_alone(dataset, tmp_path):
    augment(params(copies=1), dataset, tmp_path / "out")
    np.testing.assert_array_equal(arrays(tmp_path / "out")["masked"][0], np.load(dataset / "masked_train.npy"))


def test_without_a_split_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(DataError, match="run ingest first"):
        augment(params(), tmp_path / "nothing", tmp_path / "out")


def copies_of(picture: np.ndarray, count: int = 60, **options) -> np.ndarray:
    settings = Augment(**options)
    vary = policy(settings, SIZE)
    return np.stack([vary_once(vary, picture, "some photo", copy, settings.seed) for copy in range(1, count + 1)])


def test_no_copy_has_borders_holes_or_blocks():
    grey = np.full((SIZE, SIZE, 3), 140, np.uint8)
    for copy in copies_of(grey, scale=0.3, rotate=30, crop=0.5):
        assert np.ptp(copy, axis=(0, 1)).max() <= 1
        assert abs(copy.mean() - 140) < 40


def test_no_copy_is_flipped():
    ramp = np.broadcast_to(np.linspace(30, 220, SIZE)[None, :, None], (SIZE, SIZE, 3)).astype(np.uint8)
    for copy in copies_of(ramp):
        assert copy[:, -8:].mean() > copy[:, :8].mean() + 60


def test_no_copy_is_squashed():
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    disc = np.where((rows**2 + columns**2 < 64)[..., None], 250, 20).repeat(3, -1).astype(np.uint8)
    for copy in copies_of(disc, scale=0.3, crop=0.6):
        white = copy.mean(-1) > 128
        tall, wide = white.any(1).sum(), white.any(0).sum()
        cut = white[[0, -1]].any() or white[:, [0, -1]].any()
        assert cut or abs(int(tall) - int(wide)) <= 1


def test_crop_and_light_are_drawn_apart():
    picture = np.full((SIZE, SIZE, 3), 120, np.uint8)
    picture[..., 0] = np.linspace(70, 170, SIZE)
    only = {name: 0.0 for name in ("scale", "rotate", "contrast", "saturation", "hue")}
    copies = copies_of(picture, 120, crop=0.4, **only).astype(float)
    light = copies[..., 1].mean((1, 2))
    crop = light / np.gradient(copies[..., 0], axis=2).mean((1, 2))
    assert crop.std() / crop.mean() > 0.05
    assert light.std() > 3
    assert abs(np.corrcoef(crop, light)[0, 1]) < 0.4


def test_two_photos_are_not_varied_alike():
    vary = policy(Augment(), SIZE)
    one, other = (vary_once(vary, photo(3), content, 1, 11) for content in ("one file", "another file"))
    assert (one != other).any()


def test_settings_of_zero_leave_the_photo_as_it_is():
    still = {name: 0.0 for name in ("scale", "rotate", "brightness", "contrast", "saturation", "hue")}
    for copy in copies_of(photo(3), 5, crop=1.0, **still):
        assert np.abs(copy.astype(int) - photo(3)).max() <= 2
