"""A corpus of some 300 difficult files, each with the pixels that it must be read as or the reason to refuse it.

Every picture has its own seed, so that no two are near-duplicates. Tests compare pixels with those that were drawn.
`sound` adds ordinary photos.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from scipy.ndimage import gaussian_filter

HEIGHT, WIDTH = 40, 48
EXACT = 0.0
LOSSY = 6.0  # mean absolute difference in grey levels: JPEG of these pictures at quality 90 stays below 4


@dataclass(frozen=True)
class Case:
    """A file below a domain folder. It must be read as `pixels` or refused with a reason that contains `reason`; if
    both are given, either is right."""

    name: bytes
    content: bytes = b""
    pixels: np.ndarray | None = None  # uint8 (H, W, 3)
    reason: str = ""
    tolerance: float = EXACT  # mean absolute difference, grey levels
    make: Callable[[bytes], None] | None = None  # makes the file where `content` cannot; gets the path


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 (H, W, 3): noise with a photo's spectrum; as in photos, brightness varies more than colour."""
    noise = np.random.default_rng([77, seed]).normal(size=(3, height, width, 4))
    noise = noise[..., :1] + 0.3 * noise[..., 1:]
    total = sum(gaussian_filter(layer, (s, s, 0)) * s for layer, s in zip(noise, (8, 4, 1), strict=True))
    return np.uint8(np.clip(128 + 50 * total / total.std(), 0, 255))


def encode(image: np.ndarray | Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))).save(
        buffer, form, **options
    )
    return buffer.getvalue()


FORMS = {  # ending: format, options, tolerance
    "jpg": ("JPEG", {"quality": 90}, LOSSY),
    "progressive.jpg": ("JPEG", {"quality": 90, "progressive": True}, LOSSY),
    "png": ("PNG", {}, EXACT),
    "webp": ("WEBP", {"lossless": True}, EXACT),
    "lossy.webp": ("WEBP", {"quality": 90}, 8.0),
    "gif": ("GIF", {}, 12.0),  # 256 colours, dithered
    "bmp": ("BMP", {}, EXACT),
    "tif": ("TIFF", {}, EXACT),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}, EXACT),
    "jpeg.tif": ("TIFF", {"compression": "jpeg", "quality": 90}, LOSSY),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}, EXACT),
    "avif": ("AVIF", {"quality": 90}, 8.0),
}


def corpus() -> list[Case]:
    """All cases, numbered through their names; the same every time."""
    seeds = iter(range(100_000))
    makers = (whole, truncated, unwritten, modes, orientations, extras, bombs, impostors, names, nodes)
    return [case for maker in makers for case in maker(seeds)]


def sound(folder: Path, count: int = 60) -> None:
    """Writes ordinary photos to both domains, enough for a dataset."""
    for domain, start in (("masked", 200_000), ("unmasked", 300_000)):
        (folder / domain).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(picture(start + number)).save(folder / domain / f"sound {number:03}.png")


def write(cases: list[Case], folder: Path) -> list[Case]:
    """Writes the files; returns those that this system and user can make."""
    written = []
    for case in cases:
        path = os.path.join(os.fsencode(folder), case.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if case.make:
            with contextlib.suppress(PermissionError):
                case.make(path)
                written.append(case)
            continue
        with open(path, "wb") as file:
            file.write(case.content)
        written.append(case)
    return written


def whole(seeds: Iterator[int]) -> Iterator[Case]:
    for ending, (form, options, tolerance) in FORMS.items():
        pixels = picture(next(seeds))
        yield Case(f"whole.{ending}".encode(), encode(pixels, form, **options), pixels, tolerance=tolerance)
        pixels = picture(next(seeds))
        wrong = "png" if form == "JPEG" else "jpg"
        content = encode(pixels, form, **options)
        yield Case(f"misnamed {ending}.{wrong}".encode(), content, pixels, tolerance=tolerance)
        pixels = picture(next(seeds))
        content = encode(pixels, form, **options) + b"trailing garbage \xff\xda" * 50
        yield Case(f"trailing {ending}".encode(), content, pixels, tolerance=tolerance)


def truncated(seeds: Iterator[int]) -> Iterator[Case]:
    for ending, (form, options, tolerance) in FORMS.items():
        pixels = picture(next(seeds))
        content = encode(pixels, form, **options)
        for share in (0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99):
            cut = int(len(content) * share)
            yield Case(f"cut to {share:.0%}.{ending}".encode(), content[:cut], reason=" ")
        for less in (1, 2, 12):  # the missing bytes may hold no pixels
            yield Case(f"short of {less}.{ending}".encode(), content[:-less], pixels, " ", tolerance)


def unwritten(seeds: Iterator[int]) -> Iterator[Case]:
    """Files of full length that are zeros from some byte on."""
    for ending in ("jpg", "progressive.jpg", "png", "webp", "lossy.webp", "gif", "lzw.tif", "deflate.tif", "avif"):
        form, options, _ = FORMS[ending]
        content = encode(picture(next(seeds)), form, **options)
        for share in (0.0, 0.3, 0.8):
            kept = int(len(content) * share)
            yield Case(
                f"zeros from {share:.0%}.{ending}".encode(), content[:kept] + bytes(len(content) - kept), reason=" "
            )


def modes(seeds: Iterator[int]) -> Iterator[Case]:
    pixels = picture(next(seeds))
    yield Case(
        b"cmyk.jpg", encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95), pixels, tolerance=LOSSY
    )
    pixels = picture(next(seeds))
    yield Case(b"cmyk.tif", encode(Image.fromarray(pixels).convert("CMYK"), "TIFF"), pixels, tolerance=1)
    for mode, forms in (
        ("L", ("png", "jpg", "tif", "bmp", "webp")),
        ("1", ("png", "tif", "bmp")),
        ("P", ("png", "gif", "bmp", "tif")),
    ):
        for ending in forms:
            form, options, tolerance = FORMS[ending]
            image = Image.fromarray(picture(next(seeds))).convert(mode)
            if form == "GIF":
                tolerance = EXACT
            yield Case(
                f"mode {mode}.{ending}".encode(),
                encode(image, form, **options),
                np.asarray(image.convert("RGB")),
                tolerance=tolerance,
            )
    for ending in ("png", "tif"):
        tones = picture(next(seeds))[..., 0].astype(np.uint16) * 257
        pixels = np.repeat(np.uint8(tones // 257)[..., None], 3, 2)
        yield Case(f"16 bit grey.{ending}".encode(), encode(Image.fromarray(tones), FORMS[ending][0]), pixels)
    pixels = picture(next(seeds))
    yield Case(b"16 bit colour.png", png(pixels.astype(">u2") * 257, 16, 2), pixels, tolerance=1)
    for bits in (1, 2, 4):
        tones = picture(next(seeds))[..., 0] >> (8 - bits)
        expected = np.repeat((tones.astype(int) * 255 // (2**bits - 1))[..., None], 3, 2).astype(np.uint8)
        yield Case(
            f"{bits} bit grey.png".encode(), png(packed(tones, bits), bits, 0, (HEIGHT, WIDTH)), expected, tolerance=1
        )
    pixels = picture(next(seeds))
    alpha = picture(next(seeds))[..., 0]
    laid = np.uint8(np.round(pixels * (alpha / 255.0)[..., None] + 128 * (1 - alpha / 255.0)[..., None]))
    for ending in ("png", "webp", "tif"):
        form, options, _ = FORMS[ending]
        more = {"exact": True} if form == "WEBP" else {}
        yield Case(
            f"alpha.{ending}".encode(), encode(np.dstack([pixels, alpha]), form, **options, **more), laid, tolerance=1
        )
    image = Image.fromarray(picture(next(seeds))).quantize(16)
    for ending, transparency in (("png", 3), ("gif", 3), ("bytes.png", bytes([0, 128, 255] * 5))):
        form = FORMS[ending.rpartition(".")[2]][0]
        palette = np.array(image.getpalette(), float).reshape(-1, 3)
        opacity = np.full(len(palette), 255.0)
        if isinstance(transparency, int):
            opacity[transparency] = 0
        else:
            opacity[: len(transparency)] = list(transparency)[: len(palette)]
        colours = palette * opacity[:, None] / 255 + 128 * (1 - opacity[:, None] / 255)
        expected = np.uint8(np.round(colours[np.asarray(image)]))
        yield Case(
            f"palette with holes.{ending}".encode(),
            encode(image, form, transparency=transparency),
            expected,
            tolerance=1,
        )
    yield Case(
        b"floating.tif", encode(Image.fromarray(np.float32(picture(next(seeds))[..., 0])), "TIFF"), reason="8 bits"
    )


def orientations(seeds: Iterator[int]) -> Iterator[Case]:
    """Pictures as cameras store them in each orientation (EXIF 2.3, 4.6.4)."""
    for ending in ("jpg", "png", "webp", "tif", "avif"):
        form, options, tolerance = FORMS[ending]
        for orientation in (*range(1, 9), 0, 9, 4242):
            upright = picture(next(seeds))
            stored = {
                2: upright[:, ::-1],
                3: upright[::-1, ::-1],
                4: upright[::-1],
                5: upright.transpose(1, 0, 2),
                6: np.rot90(upright, 1),
                7: upright[::-1, ::-1].transpose(1, 0, 2),
                8: np.rot90(upright, -1),
            }.get(orientation, upright)
            exif = Image.Exif()
            exif[0x0112] = orientation
            content = encode(stored, form, exif=exif, **options)
            yield Case(f"orientation {orientation}.{ending}".encode(), content, upright, tolerance=tolerance)


def extras(seeds: Iterator[int]) -> Iterator[Case]:
    """Further frames, colour profiles, thumbnails, EXIF and comments."""
    for ending in ("gif", "webp", "png", "avif"):
        form, options, tolerance = FORMS[ending]
        frames = [picture(next(seeds)) for _ in range(3)]
        images = [Image.fromarray(frame) for frame in frames]
        content = encode(images[0], form, save_all=True, append_images=images[1:], duration=100, **options)
        yield Case(f"animated.{ending}".encode(), content, frames[0], tolerance=tolerance)
    frames = [picture(next(seeds)) for _ in range(3)]
    images = [Image.fromarray(frame) for frame in frames]
    yield Case(b"pages.tif", encode(images[0], "TIFF", save_all=True, append_images=images[1:]), frames[0])
    yield Case(
        b"two.mpo.jpg",
        encode(images[0], "MPO", save_all=True, append_images=images[1:], quality=90),
        frames[0],
        tolerance=LOSSY,
    )
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for ending in ("jpg", "png", "webp", "tif", "avif"):
        form, options, tolerance = FORMS[ending]
        for name, icc in (
            ("profile", profile),
            ("broken profile", b"\0" * 64),
            ("absurd profile", np.random.default_rng(1).bytes(100_000)),
        ):
            pixels = picture(next(seeds))
            try:
                content = encode(pixels, form, icc_profile=icc, **options)
            except (ValueError, RuntimeError):  # some writers refuse what readers must accept
                continue
            yield Case(f"{name}.{ending}".encode(), content, pixels, tolerance=tolerance)
    pixels, other = picture(next(seeds)), picture(next(seeds), 32, 32)
    exif = b"Exif\0\0" + thumbnail(encode(other, "JPEG"))
    content = encode(pixels, "JPEG", quality=90, exif=exif)
    yield Case(b"thumbnail.jpg", content, pixels, tolerance=LOSSY)
    for share in (0.3, 0.6, 0.95):  # the thumbnail is whole, the photo is not
        cut = len(content) - int((1 - share) * (len(content) - len(exif)))
        yield Case(f"thumbnail cut {share:.0%}.jpg".encode(), content[:cut], reason=" ")
        yield Case(
            f"thumbnail zeros {share:.0%}.jpg".encode(), content[:cut] + bytes(len(content) - cut), reason="incomplete"
        )
    for number, exif in enumerate(
        (b"Exif\0\0MM\0*\0\0\0\xff rubbish", b"Exif\0\0", b"Exif\0\0" + np.random.default_rng(2).bytes(2000))
    ):
        pixels = picture(next(seeds))
        yield Case(
            f"broken exif {number}.jpg".encode(), encode(pixels, "JPEG", quality=90, exif=exif), pixels, tolerance=LOSSY
        )
    pixels = picture(next(seeds))
    yield Case(b"comment.jpg", encode(pixels, "JPEG", quality=90, comment=b"\xff\xd9" * 9000), pixels, tolerance=LOSSY)
    pixels = picture(next(seeds))
    ending = png(pixels, 8, 2, extra=chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(4 << 20), 9)))
    yield Case(b"text bomb.png", ending, pixels, reason="Decompressed data too large")
    pixels = picture(next(seeds))
    ending = png(pixels, 8, 2, extra=chunk(b"iCCP", b"bomb\0\0" + zlib.compress(bytes(4 << 20), 9)))
    yield Case(b"profile bomb.png", ending, pixels, reason="Decompressed data too large")
    damaged = bytearray(png(picture(next(seeds)), 8, 2))
    damaged[len(damaged) // 2] ^= 255
    yield Case(b"flipped byte.png", bytes(damaged), reason=" ")


def bombs(seeds: Iterator[int]) -> Iterator[Case]:
    """Headers of pictures too large for memory, and shapes that cannot show a face."""
    for side in (8_001, 9_500, 20_000, 60_000, 2**31 - 1):
        yield Case(f"{side}.png".encode(), png(b"", 8, 2, (side, side)), reason=" ")
    for width, height in ((65_535, 65_535), (8_001, 8_001)):
        gif = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
        gif += b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2\x44\1\0;"
        yield Case(f"{width}.gif".encode(), gif, reason="pixels; shrink it")
        bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 1000, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        yield Case(f"{width}.bmp".encode(), bmp + bytes(100), reason="pixels; shrink it")
        jpeg = bytearray(encode(picture(next(seeds)), "JPEG"))
        place = jpeg.index(b"\xff\xc0") + 5
        jpeg[place : place + 4] = struct.pack(">HH", height, width)
        yield Case(f"{width}.jpg".encode(), bytes(jpeg), reason="pixels; shrink it")
        tags = (
            (256, width),
            (257, height),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, height),
            (279, 100),
        )
        tiff = b"II*\0" + struct.pack("<IH", 8, len(tags))
        tiff += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(104)
        yield Case(f"{width}.tif".encode(), tiff, reason="pixels; shrink it")
    webp = b"VP8X" + struct.pack("<IB3x", 10, 0) + struct.pack("<I", 16_382)[:3] * 2
    body = (
        b"WEBP" + webp + b"VP8L" + struct.pack("<I", 8) + b"\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + bytes(3)
    )
    yield Case(b"16383.webp", b"RIFF" + struct.pack("<I", len(body)) + body, reason=" ")
    yield Case(b"tiny.png", encode(picture(next(seeds), 8, 8), "PNG"), reason="8x8 px")
    yield Case(b"strip.png", encode(picture(next(seeds), 16, 200), "PNG"), reason="beyond 8:1")
    yield Case(b"nothing wide.png", png(b"", 8, 2, (10, 0)), reason=" ")
    yield Case(
        b"frame beyond.gif",
        encode(picture(next(seeds)), "GIF")[:6] + struct.pack("<HH", 20, 20) + encode(picture(next(seeds)), "GIF")[10:],
        picture(0),
        reason=" ",
        tolerance=255,
    )


def impostors(seeds: Iterator[int]) -> Iterator[Case]:
    """Files that are no photos by their content, but have the names of photos."""
    texts = {
        "empty": b"",
        "zeros": bytes(5000),
        "noise": np.random.default_rng(5).bytes(5000),
        "text": b"not a photo\n" * 50,
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><rect/></svg>',
        "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(nothing) run\n%%EOF\n",
        "heic": struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(500),
        "zip": b"PK\3\4" + bytes(200),
        "elf": b"\x7fELF" + bytes(200),
        "ppm": b"P6 48 40 255\n" + picture(next(seeds)).tobytes(),
        "ico": encode(picture(next(seeds), 32, 32), "ICO"),
        "tga": encode(picture(next(seeds)), "TGA"),
        "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    }
    told = {"empty": "is empty", "heic": "convert it to JPEG", "lfs": "run `git lfs pull`"}
    for name, content in texts.items():
        for ending in ("jpg", "png"):
            reason = told.get(name, "is no picture that can be read")
            yield Case(f"{name}.{ending}".encode(), content, reason=reason)


def names(seeds: Iterator[int]) -> Iterator[Case]:
    """Sound photos under names that break scripts."""
    for name in (
        b"CASE.png", b"case.png", b"Case.PNG", b"new\nline.png", b"tab\there.png", b"escape\x1b[31m.png",
        b"caf\xe9.png", b"\xff\xfe\xfd.png", "caf\u00e9 nfc.png".encode(), "cafe\u0301 nfc.png".encode(),
        "\u202egnp.exe".encode(), "line\u2028end.png".encode(), "\U0001f637.png".encode(), b"-rf.png", b"--help",
        b"a,b.png", b'q"uote.png', b"per%cent%s.png", b"back\\slash.png", b" space .png", b"no ending", b"dots...png",
        b"$(touch x).png", b"`id`.png", b"*.png", b"~", b"=1+1.png", b"x" * 251 + b".png", b"deep/" * 40 + b"deep.png",
        b"folder.png/inside.png",
    ):  # fmt: skip
        pixels = picture(next(seeds))
        yield Case(b"names/" + name, encode(pixels, "PNG"), pixels)


def nodes(seeds: Iterator[int]) -> Iterator[Case]:
    """Pipes, sockets, devices, links, and a sparse file of 1 TiB."""

    def bound(path: bytes) -> None:
        place = os.getcwd()
        os.chdir(os.path.dirname(path))  # a socket's path has at most 107 bytes
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(os.path.basename(path))
        finally:
            os.chdir(place)

    makers: dict[str, Callable[[bytes], None]] = {
        "pipe": os.mkfifo,
        "socket": bound,
        "null device": lambda path: os.mknod(path, 0o666 | 0o020000, os.makedev(1, 3)),
        "zero device": lambda path: os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5)),
        "disk": lambda path: os.mknod(path, 0o666 | 0o060000, os.makedev(7, 255)),
        "dangling": lambda path: os.symlink(b"nowhere.png", path),
        "itself": lambda path: os.symlink(os.path.basename(path), path),
        "to zero": lambda path: os.symlink(b"/dev/zero", path),
        "to a pipe": lambda path: os.symlink(b"pipe.png", path),
    }
    for name, maker in makers.items():
        yield Case(f"{name}.png".encode(), reason="is not a regular file", make=maker)

    def sparse(path: bytes) -> None:
        with open(path, "wb") as file:
            file.truncate(1 << 40)

    yield Case(b"terabyte.png", reason="bytes; a photo has at most", make=sparse)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    pixels: np.ndarray | bytes, bits: int, colour: int, shape: tuple[int, int] | None = None, extra: bytes = b""
) -> bytes:
    """Builds a PNG. `pixels`: rows as they are stored, or b"" for a header alone; `shape`: height, width."""
    height, width = shape or pixels.shape[:2]
    body = b"".join(b"\0" + row.tobytes() for row in pixels) if len(pixels) else bytes(1000)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def packed(tones: np.ndarray, bits: int) -> np.ndarray:
    """uint8 (H, W), values of `bits` bits -> uint8 (H, W * bits / 8); the first pixel is in the high bits."""
    each = tones.reshape(len(tones), -1, 8 // bits)
    return sum(each[..., i] << (8 - bits * (i + 1)) for i in range(8 // bits)).astype(np.uint8)


def thumbnail(jpeg: bytes) -> bytes:
    """A TIFF header whose second directory holds a JPEG."""
    first = struct.pack("<HI", 0, 14)
    second = (
        struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, 44) + struct.pack("<HHII", 0x0202, 4, 1, len(jpeg))
    )
    return b"II*\0" + struct.pack("<I", 8) + first + second + bytes(4) + jpeg
