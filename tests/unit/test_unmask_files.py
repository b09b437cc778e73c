"""Files and folders of photos through an unmasker, and the names of models."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import get_sampling
from PIL.PngImagePlugin import PngInfo

from bmask.errors import DataError
from bmask.faces.template import TEMPLATE
from bmask.serving import files, model
from bmask.serving.engines import PyTorch
from bmask.serving.files import plan, unmask_files
from bmask.serving.unmasker import Unmasker
from bmask.synthetic import draw_face
from bmask.tracking.resolving import ARTIFACT, resolve
from tiny import full_disk, write_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


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
    """A generator of faces gets a wall, a person with a blue lower face, and one without."""
    from test_unmask_faces import Masked

    face = draw_face(3, 120, None).masked
    masked = face.copy()
    masked[72:, 30:90] = (90, 120, 230)
    for name, pixel in {"wall": np.full((90, 90, 3), 120, np.uint8), "bare": face, "masked": masked}.items():
        wide = np.full((200, 200, 3), 110, np.uint8)
        wide[40 : 40 + len(pixel), 40 : 40 + len(pixel)] = pixel
        Image.fromarray(wide).save(tmp_path / f"{name}.png")
    unmasker = Unmasker(PyTorch(Masked(), {"image_size": 32, "fit": "face", "template": TEMPLATE.tolist()}))
    unmask_files(tmp_path, tmp_path / "out", unmasker, report=tmp_path / "report.csv")
    unmask_files(tmp_path / "masked.png", tmp_path / "plain", unmasker, mark=False)
    marked = {
        str(path.relative_to(tmp_path)): Image.open(path).info.get("XML:com.adobe.xmp", "")
        for path in [*(tmp_path / "out").iterdir(), *(tmp_path / "plain").iterdir()]
    }
    assert {name for name, xmp in marked.items() if xmp} == {"out/masked.png"}
    (described,) = ElementTree.fromstring(marked["out/masked.png"]).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    source = described.get(SOURCE)
    assert source.endswith("/digitalsourcetype/compositeWithTrainedAlgorithmicMedia")
    said = capsys.readouterr().err
    assert "unmasked 3 of 3 photos" in said
    with open(tmp_path / "report.csv", newline="") as file:
        rows = {Path(row["photo"]).name: row for row in csv.DictReader(file)}
    outcomes = {name: (row["outcome"], row["faces"], row["masked"]) for name, row in rows.items()}
    expected = {
        "bare.png": ("no mask", "1", "0"),
        "masked.png": ("changed", "1", "1"),
        "wall.png": ("no face", "0", "0"),
    }
    assert outcomes == expected
    assert rows["masked.png"]["result"].endswith("out/masked.png")
    named = r"1 of 2 faces changed; no face was found in 1 \(\S+/wall\.png\); no mask was found in 1 \(\S+/bare\.png\)"
    assert re.search(named, said)


def test_what_was_stopped_goes_on_and_the_report_grows(tmp_path, unmasker, capsys):
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.csv"
    source.mkdir()
    for seed in range(3):
        picture(seed=seed).save(source / f"{seed}.png")
    (source / "notes.png").write_text("no photo")
    unmask_files(source / "1.png", out, unmasker, report=report)
    before = (out / "1.png").stat().st_mtime_ns
    assert len(unmask_files(source, out, unmasker, resume=True, report=report)) == 1
    assert (out / "1.png").stat().st_mtime_ns == before
    assert "unmasked 2 of 4 photos" in (said := capsys.readouterr().err)
    assert "1 were there already" in said
    with open(report, newline="") as file:
        rows = [(Path(row["photo"]).name, row["outcome"]) for row in csv.DictReader(file)]
    assert rows[0] == ("1.png", "translated")
    again = {"0.png": "translated", "1.png": "there already", "2.png": "translated", "notes.png": "left out"}
    assert dict(rows[1:]) == again
    unmask_files(source, out, unmasker, attention=True, resume=True)
    assert (out / "1.png.attention.png").is_file()  # a result without its attention counts as missing


def test_a_folder_is_mirrored_and_untouched_pixels_stay_bit_for_bit(tmp_path, unmasker):
    for name in ("a.png", "deep/Ümläut 口罩.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed=len(name)).save(tmp_path / "in" / name)
    left_out = unmask_files(tmp_path / "in", tmp_path / "out", unmasker, attention=True)
    assert left_out == []
    for name in ("a", "deep/Ümläut 口罩"):
        before, after = pixels(tmp_path / "in" / f"{name}.png"), pixels(tmp_path / "out" / f"{name}.png")
        kept = pixels(tmp_path / "out" / f"{name}.png.attention.png") == 0
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
    after, kept = pixels(tmp_path / "out" / "a.png"), pixels(tmp_path / "out" / "a.png.attention.png") == 0
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    np.testing.assert_array_equal(after[kept], before[kept])


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OWN = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="{}"/></rdf:RDF></x:xmpmeta>"""


def exif_of_a_phone() -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x0112], exif[0x010F] = 6, "a phone"
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_format_profile_and_metadata_are_kept_and_the_picture_is_upright(tmp_path, unmasker, suffix):
    xmp = OWN.format(suffix).encode()
    said = {"pnginfo": _text_chunk(xmp)} if suffix == "png" else {"xmp": xmp}
    picture().save(tmp_path / f"a.{suffix}", icc_profile=PROFILE, exif=exif_of_a_phone(), **said)
    unmask_files(tmp_path / f"a.{suffix}", tmp_path / "out", unmasker)
    before, after = Image.open(tmp_path / f"a.{suffix}"), Image.open(tmp_path / "out" / f"a.{suffix}")
    assert after.format == before.format
    assert after.size == (30, 40)
    assert after.info["icc_profile"] == PROFILE
    exif = after.getexif()
    assert 0x0112 not in exif
    assert (exif[0x010F], exif.get_ifd(0x8825)[1]) == ("a phone", "N")
    xmp = after.info["xmp"] if suffix != "png" else after.info["XML:com.adobe.xmp"]
    (own, mark) = ElementTree.fromstring(xmp).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert own.get("{http://purl.org/dc/elements/1.1/}format") == suffix
    assert SOURCE in mark.attrib


def _text_chunk(xmp: bytes) -> PngInfo:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return info


def test_a_jpeg_is_compressed_with_the_tables_of_its_source_so_untouched_pixels_hardly_move(tmp_path, unmasker):
    smooth = np.asarray(picture(12, 9).resize((200, 150), Image.Resampling.BICUBIC))
    for quality, sampling in ((60, 2), (90, 0)):
        Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=quality, subsampling=sampling)
        unmask_files(tmp_path / "a.jpg", tmp_path / "out", unmasker, attention=True)
        before, after = Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "out" / "a.jpg")
        assert after.quantization == before.quantization
        assert get_sampling(after) == sampling
        kept = pixels(tmp_path / "out" / "a.jpg.attention.png") == 0
        apart = np.abs(np.subtract(before, after, dtype=int))[kept]
        assert kept.any()
        assert apart.mean() < 1


@pytest.mark.parametrize(("target", "kind"), [("b.png", "PNG"), ("b.jpg", "JPEG"), ("b.webp", "WEBP")])
def test_a_name_with_another_ending_asks_for_another_format(tmp_path, unmasker, target, kind):
    half_clear = picture(mode="RGBA")
    half_clear.putalpha(Image.linear_gradient("L").resize(half_clear.size))
    half_clear.save(tmp_path / "a.png", icc_profile=PROFILE)
    unmask_files(tmp_path / "a.png", tmp_path / target, unmasker)
    made = Image.open(tmp_path / target)
    assert made.format == kind
    assert made.info["icc_profile"] == PROFILE
    assert made.has_transparency_data == (kind != "JPEG")


def test_a_webp_stays_lossless_or_lossy(tmp_path, unmasker):
    picture().save(tmp_path / "exact.webp", lossless=True)
    picture().save(tmp_path / "lossy.webp")
    unmask_files(tmp_path, tmp_path / "out", unmasker, attention=True)
    kept = pixels(tmp_path / "out/exact.webp.attention.png") == 0
    np.testing.assert_array_equal(pixels(tmp_path / "out/exact.webp")[kept], pixels(tmp_path / "exact.webp")[kept])
    assert b"VP8L" not in (tmp_path / "out/lossy.webp").read_bytes()


def test_a_photo_without_a_mask_is_copied_byte_for_byte(tmp_path):
    from test_unmask_faces import Masked

    unmasker = Unmasker(PyTorch(Masked(), {"image_size": 32, "fit": "face", "template": TEMPLATE.tolist()}))
    for suffix in ("jpg", "png", "webp"):
        picture(200, 200).save(tmp_path / f"a.{suffix}", exif=exif_of_a_phone())
    unmask_files(tmp_path, tmp_path / "out", unmasker)
    for suffix in ("jpg", "png", "webp"):
        assert (tmp_path / "out" / f"a.{suffix}").read_bytes() == (tmp_path / f"a.{suffix}").read_bytes()


def test_what_is_painted_into_a_black_and_white_photo_is_grey(tmp_path, unmasker):
    picture(mode="L").save(tmp_path / "a.png")
    picture(mode="L").convert("RGB").save(tmp_path / "b.jpg")
    unmask_files(tmp_path, tmp_path / "out", unmasker)
    assert Image.open(tmp_path / "out/a.png").mode == "L"
    assert (pixels(tmp_path / "out/a.png") != pixels(tmp_path / "a.png")).any()
    assert np.ptp(pixels(tmp_path / "out/b.jpg"), axis=2).max() <= 1


def test_damaged_and_overlong_metadata_cost_neither_the_photo_nor_the_mark(tmp_path, unmasker):
    picture(mode="RGBA").save(tmp_path / "a.png", exif=b"Exif\0\0SECRET! not a TIFF")
    picture().save(tmp_path / "b.png", pnginfo=_text_chunk(OWN.format("x" * 70_000).encode()))
    assert unmask_files(tmp_path, tmp_path / "out", unmasker) == []
    assert unmask_files(tmp_path / "b.png", tmp_path / "b.jpg", unmasker) == []
    assert not Image.open(tmp_path / "out" / "a.png").getexif()
    assert SOURCE.rpartition("}")[2] in Image.open(tmp_path / "b.jpg").info["xmp"].decode()


def test_a_mark_takes_the_place_of_what_was_said_before(tmp_path, unmasker):
    """In XMP's three forms, with any prefix for RDF; Adobe's readers refuse a property that occurs twice."""
    rdf, iptc = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    own = (
        '<rdf:Description rdf:about="" Iptc4xmpExt:DigitalSourceType="camera"/>',
        '<rdf:Description rdf:about=""><Iptc4xmpExt:DigitalSourceType>camera</Iptc4xmpExt:DigitalSourceType>'
        "</rdf:Description>",
        '<rdf:Description rdf:about=""><Iptc4xmpExt:DigitalSourceType rdf:resource="camera"/></rdf:Description>',
    )
    for number, description in enumerate(own):
        text = f'<rdf:RDF xmlns:rdf="{rdf}" xmlns:Iptc4xmpExt="{iptc}">{description}</rdf:RDF>'
        text = text.replace("rdf:", "r:").replace("xmlns:rdf", "xmlns:r") if number == 2 else text
        picture().save(tmp_path / "a.jpg", xmp=text.encode())
        for source, target in (("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")):
            unmask_files(tmp_path / source, tmp_path / target, unmasker)
            xmp = Image.open(tmp_path / target).info["xmp"].decode()
            ElementTree.fromstring(xmp)
            assert xmp.count("DigitalSourceType=") == 1
            assert "camera" not in xmp


@pytest.mark.parametrize("form", [' tiff:Orientation="6">', "><tiff:Orientation>6</tiff:Orientation>"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_what_is_upright_is_not_turned_again(tmp_path, unmasker, suffix, form):
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {rdf}><rdf:Description rdf:about=""{form}'
    xmp = f"{xmp}</rdf:Description></rdf:RDF></x:xmpmeta>".encode()
    said = {"pnginfo": _text_chunk(xmp)} if suffix == "png" else {"xmp": xmp}
    picture().save(tmp_path / f"a.{suffix}", exif=exif_of_a_phone(), **said)
    unmask_files(tmp_path / f"a.{suffix}", tmp_path / "out", unmasker)
    made = Image.open(tmp_path / "out" / f"a.{suffix}")
    assert ImageOps.exif_transpose(made).size == made.size == (30, 40)


def test_a_jpeg_that_pillow_cannot_write_alike_is_written_otherwise(tmp_path, unmasker):
    noise = picture(64, 48)
    noise.save(tmp_path / "scans.jpg", quality=100, subsampling=0, progressive=True)
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", quality=80)
    content = bytearray(buffer.getvalue())
    table = content.index(b"\xff\xdb", content.index(b"\xff\xdb") + 2)  # the second table, for colours
    content[table + 4] = 3
    frame = content.index(b"\xff\xc0")
    for component in (1, 2):
        content[frame + 10 + 3 * component + 2] = 3
    (tmp_path / "tables.jpg").write_bytes(content)
    assert sorted(Image.open(tmp_path / "tables.jpg").quantization) == [0, 3]
    assert unmask_files(tmp_path, tmp_path / "out", unmasker) == []


def test_of_exif_what_describes_the_file_or_holds_another_picture_is_dropped(tmp_path, unmasker):
    exif = Image.Exif()
    exif[0x010F], exif[0x8649] = "a camera", b"8BIM thumbnails and layers"
    picture().save(tmp_path / "a.tif", exif=exif)
    unmask_files(tmp_path / "a.tif", tmp_path / "out", unmasker)
    kept = Image.open(tmp_path / "out" / "a.tif.png").getexif()
    assert dict(kept) == {0x010F: "a camera"}


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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.jpg", "1.jpg", "2.jpg"}
    said = capsys.readouterr().err
    assert "unmasked 3 of 5 photos" in said
    assert "broken.jpg" in said
    assert "notes.txt is no picture" in said


def test_photos_of_one_stem_do_not_overwrite_each_other(tmp_path, unmasker):
    source = tmp_path / "in"
    source.mkdir()
    stems = {"face": ("jpg", "webp", "gif", "bmp"), "other": ("gif", "png"), "third": ("jpe",)}
    for seed, name in enumerate(f"{stem}.{ending}" for stem, endings in stems.items() for ending in endings):
        picture(seed=seed).save(source / name)
    for _ in range(2):  # resuming finds each result by its photo's name alone
        assert unmask_files(source, tmp_path / "out", unmasker, resume=True) == []
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"face.jpg", "face.webp", "face.gif.png", "face.bmp.png", "other.gif.png", "other.png", "third.jpe"}


def test_a_result_under_the_name_of_another_is_left_out_the_second_time_too(tmp_path, unmasker):
    source = tmp_path / "in"
    source.mkdir()
    for seed, name in enumerate(("a.jpg", "a.jpg.attention.png")):
        picture(seed=seed).save(source / name)
    for _ in range(2):
        (line,) = unmask_files(source, tmp_path / "out", unmasker, attention=True, resume=True)
        assert "a.jpg.attention.png " in line
    mask = pixels(tmp_path / "out" / "a.jpg.attention.png")
    assert mask.ndim == 2  # still that of a.jpg


@pytest.mark.parametrize("real", ["PNG", "WEBP"])
def test_a_misnamed_photo_keeps_the_format_that_it_has(tmp_path, unmasker, real):
    half_clear = picture(mode="RGBA")
    half_clear.putalpha(Image.linear_gradient("L").resize(half_clear.size))
    half_clear.save(tmp_path / "a.jpg", real, **({"lossless": True} if real == "WEBP" else {}))
    unmask_files(tmp_path / "a.jpg", tmp_path / "out", unmasker, attention=True)
    before, after = Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "out" / "a.jpg")
    assert after.format == real
    kept = pixels(tmp_path / "out" / "a.jpg.attention.png") == 0
    np.testing.assert_array_equal(np.asarray(after)[kept], np.asarray(before)[kept])


def test_a_report_takes_no_photos_place_and_is_none_the_next_time(tmp_path, unmasker):
    picture().save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"ends in \.csv"):
        unmask_files(tmp_path, tmp_path / "out", unmasker, report=tmp_path / "a.jpg")
    for _ in range(2):
        assert unmask_files(tmp_path, tmp_path / "out", unmasker, report=tmp_path / "done.csv") == []


def test_what_phones_leave_beside_photos_is_no_photo_that_failed(tmp_path, unmasker, capsys):
    source = tmp_path / "in"
    (source / "@eaDir").mkdir(parents=True)
    picture().save(source / "a.jpg")
    for name in ("a.mov", "a.AAE", "a.jpg.json", "@eaDir/a.jpg"):
        (source / name).write_text("no photo")
    assert unmask_files(source, tmp_path / "out", unmasker) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.jpg"]
    assert "videos left aside: 1 (a.mov)" in capsys.readouterr().err


def test_where_a_photo_has_the_name_of_anothers_attention_it_is_named_and_left_out(tmp_path, unmasker, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for seed, name in enumerate(("a.jpg", "a.jpg.attention.png")):
        picture(seed=seed).save(source / name)
    (line,) = unmask_files(source, tmp_path / "out", unmasker, attention=True)
    assert "a.jpg.attention.png would be written over the result of another photo" in line
    assert "unmasked 1 of 2 photos" in capsys.readouterr().err


def test_results_that_are_taken_away_at_once_keep_no_photo_from_its_place(tmp_path, unmasker, monkeypatch):
    for name in ("a.jpg", "b.jpg"):
        picture().save(tmp_path / name)
    write = files.write_bytes
    monkeypatch.setattr(files, "write_bytes", lambda file, content: (write(file, content), file.unlink()))
    assert unmask_files(tmp_path, tmp_path / "out", unmasker) == []


def test_a_name_that_the_disk_cannot_take_is_named_and_the_others_are_done(tmp_path, unmasker, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    long = "x" * 245  # NAME.jpg fits into 255 bytes, NAME.jpg.attention.png does not
    for name in (f"{long}.jpg", "a.jpg", "b.jpg"):
        picture().save(source / name)
    (out / "b.jpg").mkdir(parents=True)
    left_out = unmask_files(source, out, unmasker, attention=True)
    assert len(left_out) == 2
    assert f"{long}.jpg.attention.png (File name too long); rename it" in "".join(left_out)
    assert "b.jpg cannot be written to" in "".join(left_out)
    assert {path.name for path in out.iterdir()} == {"a.jpg", "a.jpg.attention.png", f"{long}.jpg", "b.jpg"}
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
    assert [line.partition(" ")[2] for line in left_out] == ["is not a regular file, or is a broken link"] * 2
    assert (tmp_path / "out/linked/a.jpg").is_file()


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
        assert [path.name for path in (tmp_path / "done").iterdir()] == ["a.jpg"]


def test_nothing_to_do_is_said(tmp_path, unmasker):
    with pytest.raises(DataError, match="holds no photos"):
        unmask_files(tmp_path, tmp_path / "out", unmasker)
    with pytest.raises(DataError, match="does not exist"):
        unmask_files(tmp_path / "nowhere", tmp_path / "out", unmasker)


def test_names_with_dots_keep_them(tmp_path):
    for name, result in (("a.2020.jpg", "a.2020.jpg"), ("a.2020.gif", "a.2020.gif.png")):
        photo = tmp_path / name
        assert plan([photo], photo, tmp_path / "out") == {photo: tmp_path / "out" / result}


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
