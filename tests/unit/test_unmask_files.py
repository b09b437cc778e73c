"""Files and folders of photos through an unmasker, and the names of models."""

from __future__ import annotations

import os
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageCms

from bmask.errors import DataError
from bmask.serving import files, model
from bmask.serving.files import plan, unmask_files
from bmask.serving.unmasker import Unmasker
from bmask.synthetic import draw_face
from bmask.tracking.resolving import ARTIFACT, resolve
from tiny import full_disk, write_generator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def unmasker(generator):
    return Unmasker(generator, threshold=0.3)


def picture(width=40, height=30, mode="RGB", seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def pixels(path):
    return np.asarray(Image.open(path))


def test_what_was_found_is_said(tmp_path, capsys):
    """A generator of faces, on a wall, a person with a blue lower face, and one without."""
    from test_unmask_faces import Masked

    face = draw_face(3, 120, None).masked
    masked = face.copy()
    masked[72:, 30:90] = (90, 120, 230)
    for name, pixel in {"wall": np.full((90, 90, 3), 120, np.uint8), "bare": face, "masked": masked}.items():
        wide = np.full((200, 200, 3), 110, np.uint8)
        wide[40 : 40 + len(pixel), 40 : 40 + len(pixel)] = pixel
        Image.fromarray(wide).save(tmp_path / f"{name}.png")
    unmasker = Unmasker((Masked(), {"image_size": 32, "fit": "face"}), device="cpu")
    unmask_files(tmp_path, tmp_path / "out", unmasker)
    unmask_files(tmp_path / "masked.png", tmp_path / "plain", unmasker, mark=False)
    marked = {
        str(path.relative_to(tmp_path)): Image.open(path).info.get("XML:com.adobe.xmp", "")
        for path in [*(tmp_path / "out").iterdir(), *(tmp_path / "plain").iterdir()]
    }
    assert {name for name, xmp in marked.items() if xmp} == {"out/masked.png"}
    (described,) = ElementTree.fromstring(marked["out/masked.png"]).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    source = described.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert source.endswith("/digitalsourcetype/compositeWithTrainedAlgorithmicMedia")
    said = capsys.readouterr().err
    assert "unmasked 3 of 3 photos" in said
    named = r"1 of 2 faces changed; no face was found in 1 \(\S+/wall\.png\); no mask was found in 1 \(\S+/bare\.png\)"
    assert re.search(named, said)


def test_a_folder_is_mirrored_and_untouched_pixels_stay_bit_for_bit(tmp_path, unmasker):
    for name in ("a.png", "deep/Ümläut 口罩.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed=len(name)).save(tmp_path / "in" / name)
    left_out = unmask_files(tmp_path / "in", tmp_path / "out", unmasker, attention=True)
    assert left_out == []
    for name in ("a", "deep/Ümläut 口罩"):
        before, after = pixels(tmp_path / "in" / f"{name}.png"), pixels(tmp_path / "out" / f"{name}.png")
        kept = pixels(tmp_path / "out" / f"{name}.attention.png") == 0
        assert after.shape == before.shape
        assert kept.any()
        assert (before != after).any()
        np.testing.assert_array_equal(after[kept], before[kept])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif"])
def test_any_common_format_and_mode_works(tmp_path, unmasker, suffix, mode):
    if mode == "I;16":
        photo = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    else:
        photo = picture(mode=mode)
    try:
        photo.save(tmp_path / f"a.{suffix}")
    except (OSError, ValueError, KeyError):
        pytest.skip("this format cannot hold this mode")
    assert unmask_files(tmp_path / f"a.{suffix}", tmp_path / "out.png", unmasker) == []
    assert pixels(tmp_path / "out.png").shape[:2] == (30, 40)


def test_transparency_is_kept_with_the_pixels_below_it(tmp_path, unmasker):
    before = np.asarray(picture(mode="RGBA")).copy()
    before[:, :20, 3] = 0
    Image.fromarray(before).save(tmp_path / "a.png")
    unmask_files(tmp_path / "a.png", tmp_path / "out", unmasker, attention=True)
    after, kept = pixels(tmp_path / "out" / "a.png"), pixels(tmp_path / "out" / "a.attention.png") == 0
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    np.testing.assert_array_equal(after[kept], before[kept])


def test_the_colour_profile_stays_and_the_place_of_the_photo_does_not(tmp_path, unmasker):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x0112] = 6
    picture().save(tmp_path / "a.jpg", icc_profile=profile, exif=exif)
    unmask_files(tmp_path / "a.jpg", tmp_path / "b.png", unmasker)
    after = Image.open(tmp_path / "b.png")
    assert after.size == (30, 40)  # upright
    assert after.info["icc_profile"] == profile
    assert not after.getexif()


def test_bad_files_are_named_and_counted_and_the_others_are_done(tmp_path, unmasker, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(3):
        picture(seed=seed).save(source / f"{seed}.jpg")
    (source / "broken.jpg").write_bytes((source / "0.jpg").read_bytes()[:200])
    (source / "notes.txt").write_text("no photo")
    (source / ".hidden.jpg").write_text("not even looked at")
    left_out = unmask_files(source, tmp_path / "out", unmasker)
    assert len(left_out) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "1.png", "2.png"}
    said = capsys.readouterr().err
    assert "unmasked 3 of 5 photos" in said
    assert "broken.jpg" in said
    assert "notes.txt is no picture" in said


def test_photos_of_one_stem_do_not_overwrite_each_other(tmp_path, unmasker):
    source = tmp_path / "in"
    source.mkdir()
    picture(seed=1).save(source / "face.jpg")
    picture(seed=2).save(source / "face.webp")
    picture(seed=3).save(source / "other.jpg")
    unmask_files(source, tmp_path / "out", unmasker)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"face.jpg.png", "face.webp.png", "other.png"}


def test_a_name_that_is_kept_long_takes_no_other_photos_place(tmp_path, unmasker, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for seed, name in enumerate(("a.jpg", "a.png", "a.jpg.png", "b.png", "b.attention.webp")):
        picture(seed=seed).save(source / name)
    assert unmask_files(source, tmp_path / "out", unmasker, attention=True) == []
    results = {"a.jpg.png", "a.png.png", "a.jpg.png.png", "b.png.png", "b.attention.webp.png"}
    masks = {f"{name.removesuffix('.png')}.attention.png" for name in results}
    assert {path.name for path in (tmp_path / "out").iterdir()} == results | masks
    assert "unmasked 5 of 5 photos" in capsys.readouterr().err
    for photo in source.iterdir():
        result = tmp_path / "out" / f"{photo.name}.png"
        kept = pixels(result.with_name(f"{result.stem}.attention.png")) == 0
        if photo.suffix == ".png":
            np.testing.assert_array_equal(pixels(result)[kept], pixels(photo)[kept])


def test_what_phones_leave_beside_photos_is_no_photo_that_failed(tmp_path, unmasker, capsys):
    source = tmp_path / "in"
    (source / "@eaDir").mkdir(parents=True)
    picture().save(source / "a.jpg")
    for name in ("a.mov", "a.AAE", "a.jpg.json", "@eaDir/a.jpg"):
        (source / name).write_text("no photo")
    assert unmask_files(source, tmp_path / "out", unmasker) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert "videos left aside: 1 (a.mov)" in capsys.readouterr().err


def test_where_no_name_is_left_the_photo_is_named_and_left_out(tmp_path, unmasker, capsys):
    source = tmp_path / "in"
    source.mkdir()
    picture(seed=1).save(source / "a.jpg")
    for name in (
        "a.webp",
        "a.jpg.attention",
    ):  # the mask of the first would be a.jpg.attention.png, as the last's result
        shutil.copy(source / "a.jpg", source / name)
    (line,) = unmask_files(source, tmp_path / "out", unmasker, attention=True)
    assert "a.jpg.attention would be written over the result of another photo" in line
    assert "unmasked 2 of 3 photos" in capsys.readouterr().err


def test_results_that_are_taken_away_at_once_keep_no_photo_from_its_place(tmp_path, unmasker, monkeypatch):
    for name in ("a.jpg", "b.jpg"):
        picture().save(tmp_path / name)
    write = files.write_bytes
    monkeypatch.setattr(files, "write_bytes", lambda file, content: (write(file, content), file.unlink()))
    assert unmask_files(tmp_path, tmp_path / "out", unmasker) == []


def test_a_name_that_the_disk_cannot_take_is_named_and_the_others_are_done(tmp_path, unmasker, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    long = "x" * 245  # NAME.png fits into 255 bytes, NAME.attention.png does not
    for name in (f"{long}.jpg", "a.jpg", "b.jpg"):
        picture().save(source / name)
    (out / "b.png").mkdir(parents=True)
    left_out = unmask_files(source, out, unmasker, attention=True)
    assert len(left_out) == 2
    assert f"{long}.attention.png (File name too long); rename it" in "".join(left_out)
    assert "b.jpg cannot be written to" in "".join(left_out)
    assert {path.name for path in out.iterdir()} == {"a.png", "a.attention.png", f"{long}.png", "b.png"}
    assert "unmasked 1 of 3 photos" in capsys.readouterr().err


def test_a_full_disk_ends_it(tmp_path, unmasker):
    picture().save(tmp_path / "a.jpg")
    with full_disk(200), pytest.raises(OSError, match="File too large"):
        unmask_files(tmp_path, tmp_path / "out", unmasker)


def test_links_are_followed_and_what_is_no_file_is_named(tmp_path, unmasker):
    source, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for folder in (source, elsewhere):
        folder.mkdir()
    picture().save(elsewhere / "a.jpg")
    (source / "linked").symlink_to(elsewhere)
    (source / "nowhere.jpg").symlink_to(tmp_path / "nothing")
    os.mkfifo(source / "pipe.jpg")
    left_out = unmask_files(source, tmp_path / "out", unmasker)
    assert [line.partition(" ")[2] for line in left_out] == ["is no file, or a link that leads nowhere"] * 2
    assert (tmp_path / "out/linked/a.png").is_file()


def test_photos_are_never_overwritten_by_results(tmp_path, unmasker):
    picture().save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for source, target in ((tmp_path, tmp_path), (tmp_path / "a.png", tmp_path), (tmp_path / "a.png",) * 2):
        with pytest.raises(DataError, match="would be overwritten"):
            unmask_files(source, target, unmasker)
    assert (tmp_path / "a.png").read_bytes() == before


def test_results_inside_the_source_are_not_taken_for_photos_the_second_time(tmp_path, unmasker):
    picture().save(tmp_path / "a.jpg")
    for _ in range(2):
        assert unmask_files(tmp_path, tmp_path / "done", unmasker) == []
        assert [path.name for path in (tmp_path / "done").iterdir()] == ["a.png"]


def test_nothing_to_do_is_said(tmp_path, unmasker):
    with pytest.raises(DataError, match="holds no photos"):
        unmask_files(tmp_path, tmp_path / "out", unmasker)
    with pytest.raises(DataError, match="does not exist"):
        unmask_files(tmp_path / "nowhere", tmp_path / "out", unmasker)


def test_names_with_dots_keep_them(tmp_path):
    photo = tmp_path / "a.2020.jpg"
    assert plan([photo], photo, tmp_path / "out") == {photo: tmp_path / "out" / "a.2020.png"}


# resolve: which model a name means


def test_files_folders_and_trainings_are_found_by_name(tmp_path, generator):
    trained = tmp_path / "results" / "train"
    (trained / "tiny").mkdir(parents=True)
    shutil.copy(generator, trained / "tiny")
    model.save_model(generator, tmp_path / "packed")
    expected = trained / "tiny" / "generator.safetensors"
    for name in (expected, trained / "tiny", "tiny"):
        assert resolve(name, trained=trained) == expected
    assert resolve(tmp_path / "packed") == tmp_path / "packed" / ARTIFACT
