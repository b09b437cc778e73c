"""Any file a camera or a web page produces becomes the right pixels, or is refused with a reason."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from bmask.data.reading.decoding import GREY, MIN_SIDE, decode, decode_with_size
from bmask.data.reading.framing import frame, recompress, resample
from bmask.errors import DataError
from bmask.serving import pictures

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # the tests damage metadata on purpose
SIDES = st.integers(MIN_SIDE, 40)
COLOUR = st.tuples(SIDES, SIDES, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))


def encode(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def circle(width: int, height: int) -> np.ndarray:
    """A white disc in the middle of a black picture, its diameter half of the shorter side."""
    pixels = np.zeros((height, width, 3), np.uint8)
    return cv2.circle(pixels, (width // 2, height // 2), min(width, height) // 4, (255, 255, 255), -1)


@given(COLOUR, st.sampled_from([("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]))
def test_a_lossless_colour_file_gives_its_own_pixels(pixels, form):
    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels), form[0], **form[1])), pixels)


@given(COLOUR, st.sampled_from(["L", "1", "P", "LA", "RGBA"]), st.sampled_from(["PNG", "TIFF"]))
def test_every_mode_becomes_the_rgb_that_it_shows(pixels, mode, form):
    image = Image.fromarray(pixels).convert(mode)
    if mode == "LA" and form == "TIFF":
        form = "PNG"
    np.testing.assert_array_equal(decode(encode(image, form)), np.asarray(image.convert("RGB")))


@given(arrays(np.uint16, (20, 24)))
def test_16_bit_grey_keeps_its_tones(values):
    expected = np.round(values / 65535 * 255)
    for form in ("PNG", "TIFF"):
        photo = decode(encode(Image.fromarray(values), form))
        for channel in range(3):
            np.testing.assert_array_equal(photo[..., channel], expected)


@given(COLOUR, st.integers(0, 255))
def test_transparent_pixels_lie_on_mid_grey(pixels, alpha):
    pixels = np.dstack([pixels, np.full(pixels.shape[:2], alpha, np.uint8)])
    expected = pixels[..., :3] * (alpha / 255) + np.array(GREY) * (1 - alpha / 255)
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        photo = decode(encode(Image.fromarray(pixels), form, **options))
        assert np.abs(photo - expected).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("clear", [1234, 100, 0])
def test_the_transparent_colour_of_16_bits_lies_on_mid_grey_and_the_others_are_kept(channels, clear):
    """PNG's tRNS chunk states it; the test writes the file, since Pillow saves none like it."""
    values = np.full((20, 20, channels), 0x6464, ">u2")
    values[:8] = clear
    kind = {1: 0, 3: 2}[channels]
    pieces = {
        b"IHDR": struct.pack(">IIBBBBB", 20, 20, 16, kind, 0, 0, 0),
        b"tRNS": struct.pack(">H", clear) * channels,
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in values)),
        b"IEND": b"",
    }
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in pieces.items()
    )
    photo = decode(content)
    assert (photo[:8] == 128).all()
    assert (abs(photo[8:].astype(int) - 100) < 1).all()
    picture = pictures.read(content)
    assert picture.pixels is not None
    assert (picture.pixels[..., 3] == np.repeat([0, 255], [8, 12])[:, None]).all()
    assert (picture.pixels[8:, :, :3] == photo[8:]).all()


def test_the_transparent_colour_of_a_palette_lies_on_mid_grey():
    image = Image.new("P", (20, 20), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 10, 20))
    for form in ("PNG", "GIF"):
        photo = decode(encode(image, form, transparency=0))
        assert tuple(photo[5, 5]) == GREY
        assert tuple(photo[5, 15]) == (0, 255, 0)


def test_cmyk_shows_the_colour_that_was_printed():
    photo = decode(encode(Image.new("RGB", (32, 32), (200, 60, 30)).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(photo.astype(int) - (200, 60, 30)).max() <= 4


def test_the_first_picture_of_an_animation_is_taken():
    first, second = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    content = encode(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(content), np.asarray(first))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(orientation, form):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:], upright[16:, :24] = (240, 0, 0), (0, 240, 0), (0, 0, 240)
    stored = {  # what a camera held that way stores; EXIF 2.3, 4.6.4
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo, size = decode_with_size(encode(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif), enough=16)
    assert size == (48, 32)
    assert np.abs(photo[::4, ::4].astype(int) - cv2.resize(upright, photo.shape[1::-1])[::4, ::4]).mean() < 4


def test_damaged_exif_does_not_cost_the_photo():
    content = encode(Image.new("RGB", (32, 32), "red"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\xff rubbish")
    assert decode(content).shape == (32, 32, 3)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_picture_are_refused(content):
    with pytest.raises(DataError):
        decode(content)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
FILES = {form: encode(NOISE, form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")}


@given(st.sampled_from(sorted(FILES)), st.floats(0, 0.9))
def test_a_truncated_file_is_refused(form, share):
    with pytest.raises(DataError):
        decode(FILES[form][: int(len(FILES[form]) * share)])


@given(st.sampled_from(sorted(FILES)), st.data())
def test_flipped_bytes_give_a_photo_or_a_refusal_and_nothing_else(form, data):
    content = bytearray(FILES[form])
    for _ in range(5):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    try:
        photo = decode(bytes(content))
    except DataError:
        return
    assert photo.dtype == np.uint8
    assert photo.ndim == 3
    assert photo.shape[2] == 3


def test_a_decompression_bomb_is_refused_by_its_header():
    for side in (9_000, 60_000):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        body = b"IDAT" + zlib.compress(b"\0" * 1000)
        chunks = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, body))
        with pytest.raises(DataError, match="pixels; shrink it"):
            decode(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize(("size", "reason"), [((15, 40), "15x40 px"), ((40, 15), "40x15 px"), ((200, 20), "8:1")])
def test_a_photo_that_can_show_no_face_is_refused(size, reason):
    with pytest.raises(DataError, match=reason):
        decode(encode(Image.new("RGB", size), "PNG"))


def test_floating_point_pixels_are_refused():
    with pytest.raises(DataError, match="8 bits"):
        decode(encode(Image.new("F", (20, 20), 0.5), "TIFF"))


@given(st.integers(40, 400), st.integers(40, 400), st.integers(16, 80))
def test_a_jpeg_is_decoded_no_larger_than_enough_needs_and_no_smaller(width, height, enough):
    width, height = max(width, height // 7), max(height, width // 7)
    photo, size = decode_with_size(encode(Image.new("RGB", (width, height)), "JPEG"), enough)
    assert size == (width, height)
    assert min(photo.shape[:2]) >= min(enough, width, height)
    assert abs(photo.shape[1] / photo.shape[0] - width / height) < 0.12 * width / height  # sides are whole pixels


@given(st.integers(40, 200), st.integers(40, 200), st.sampled_from(["crop", "pad"]), st.integers(32, 96))
def test_a_circle_stays_a_circle(width, height, fit, side):
    width, height = min(width, 4 * height), min(height, 4 * width)
    white = resample(frame(circle(width, height), fit), side)[..., 0] > 127
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    across, down = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert abs(int(across) - int(down)) <= 2  # a pixel at each side
    framed = min(width, height) if fit == "crop" else max(width, height)
    assert abs(across - side * min(width, height) / 2 / framed) <= 3


@given(COLOUR)
def test_crop_is_the_middle_square_and_pad_keeps_every_pixel(pixels):
    height, width = pixels.shape[:2]
    crop, padded = frame(pixels, "crop"), frame(pixels, "pad")
    side, whole = min(height, width), max(height, width)
    assert crop.shape == (side, side, 3)
    assert padded.shape == (whole, whole, 3)
    top, left = (height - side) // 2, (width - side) // 2
    np.testing.assert_array_equal(crop, pixels[top : top + side, left : left + side])
    top, left = (whole - height) // 2, (whole - width) // 2
    np.testing.assert_array_equal(padded[top : top + height, left : left + width], pixels)


def test_padding_continues_the_photo_and_is_not_black():
    padded = frame(np.full((40, 100, 3), 200, np.uint8), "pad")
    np.testing.assert_array_equal(padded, 200)


def test_shrinking_does_not_alias():
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resample(stripes, 24).astype(int)
    assert np.abs(small[:, 3:-3] - 127.5).max() < 4


def test_recompression_changes_detail_and_keeps_light():
    photo = resample(np.asarray(NOISE), 48)
    again = recompress(photo, 40)
    assert again.shape == photo.shape
    assert (again != photo).any()
    assert abs(again.mean() - photo.mean()) < 2
