"""An archive gives what its folder would give; hostile members are refused, and nothing is written elsewhere."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from bmask.data.sources import archives
from bmask.data.sources.archives import unpack
from bmask.data.sources.listing import Listing, is_video
from bmask.errors import DataError
from tiny import full_disk

MODES = ["w", "w:gz", "w:bz2", "w:xz", "w:zst"]
PHOTO = b"\x89 not really a photo" * 20


def tar(members: list[tarfile.TarInfo | tuple[str, bytes]], path: Path, mode: str = "w") -> Path:
    with writing(path, mode) as archive:
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@contextlib.contextmanager
def writing(path: Path, mode: str) -> Iterator[tarfile.TarFile]:
    checked = {zstd.CompressionParameter.checksum_flag: 1}
    packed = zstd.open(path, "wb", options=checked) if mode == "w:zst" else contextlib.nullcontext()
    with packed as file:
        plain = mode if file is None else "w"
        with tarfile.open(path, plain, fileobj=file, errors="surrogateescape") as archive:
            yield archive


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(members: list[tuple[str | zipfile.ZipInfo, bytes]], path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def moded(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def contents(listing: Listing) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in listing.files.items()}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Path], Listing]:
    """Unpacks, and asserts that nothing outside the target folder has changed."""

    def unpack_alone(archive: Path) -> Listing:
        before = sorted(tmp_path.rglob("*"))
        listing = unpack(archive, tmp_path / "into", "photos.archive")
        assert [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "into" not in (path, path.parent)] == before
        return listing

    return unpack_alone


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_any_compression_is_known_by_its_content(opened, tmp_path, monkeypatch, mode, form):
    monkeypatch.setattr(tarfile.TarFile, "format", form)
    long = "masked/" + "/".join(["long" * 20] * (1 if form == tarfile.USTAR_FORMAT else 3)) + "/b.png"
    members = [special("./masked", tarfile.DIRTYPE), ("./masked/ä.png", PHOTO), (long, b"2" * 5000), ("c.png", b"")]
    listing = opened(tar(members, tmp_path / "photos.zip", mode))
    assert contents(listing) == {"masked/ä.png": PHOTO, long: b"2" * 5000, "c.png": b""}
    assert listing.refused == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_known_by_its_content(opened, tmp_path, method):
    members = [("masked/", b""), ("masked/ä.png", PHOTO), ("masked/b/c.png", os.urandom(300_000)), ("d.png", b"")]
    listing = opened(zipped(members, tmp_path / "photos.tar.gz", method))
    assert contents(listing) == dict(members[1:])
    assert listing.refused == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_a_zip_packs_without_a_bound_is_refused_by_name(opened, tmp_path, method):
    path = zipped([("masked/a.png", PHOTO)], tmp_path / "photos.zip")
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("masked/b.png", PHOTO)
    listing = opened(path)
    assert contents(listing) == {"masked/a.png": PHOTO}
    reason = f"is packed by method {method}, only deflate is read; unpack the archive and name the folder"
    assert refusals(listing) == {"masked/b.png": reason}


def test_an_archive_that_the_systems_own_tools_wrote_is_read(opened, tmp_path):
    folder = tmp_path / "photos"
    (folder / "masked").mkdir(parents=True)
    (folder / "masked" / "one.png").write_bytes(PHOTO)
    os.link(folder / "masked" / "one.png", folder / "masked" / "same.png")
    with open(os.fsencode(folder) + b"/masked/caf\xe9.png", "wb") as file:
        file.write(b"latin")
    subprocess.run(["tar", "-czf", tmp_path / "photos.tgz", "-C", folder, "."], check=True)
    listing = opened(tmp_path / "photos.tgz")
    expected = {"masked/one.png": PHOTO, "masked/same.png": PHOTO, "masked/caf\udce9.png": b"latin"}
    assert contents(listing) == expected


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and name[1:3] != ":\\" and not is_video(name)
)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=8), st.sampled_from(["tar", "zip"]))
def test_any_names_and_contents_come_back_as_they_went_in(tmp_path_factory, files, form):
    folder = tmp_path_factory.mktemp("any")
    members = [(f"masked/{name}", content) for name, content in files.items()]
    archive = (tar if form == "tar" else zipped)(members, folder / "archive")
    listing = unpack(archive, folder / "into", "archive")
    assert contents(listing) == dict(members)
    assert listing.refused == []


def refusals(listing: Listing) -> dict[str, str]:
    assert len(dict(listing.refused)) == len(listing.refused)
    return dict(listing.refused)


def test_members_of_a_tar_that_climb_out_or_are_no_files_are_refused(opened, tmp_path):
    bad = {
        "../out.png": ("../out.png", b"x"),
        "masked/../../out.png": ("masked/../../out.png", b"x"),
        "/etc/out.png": ("/etc/out.png", b"x"),
        "masked/link.png": special("masked/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        "masked/linked": special("masked/linked", tarfile.SYMTYPE, "/tmp"),
        "masked/hard.png": special("masked/hard.png", tarfile.LNKTYPE, "/etc/passwd"),
        "masked/pipe.png": special("masked/pipe.png", tarfile.FIFOTYPE),
        "masked/null.png": special("masked/null.png", tarfile.CHRTYPE),
        "masked/disk.png": special("masked/disk.png", tarfile.BLKTYPE),
    }
    good = {"masked/linked/a.png": b"1", "masked/good.png": b"2", "masked/GOOD.png": b"3", "masked/new\nline.png": b"4"}
    listing = opened(tar([*bad.values(), *good.items()], tmp_path / "photos.tar"))
    assert contents(listing) == good
    reasons = refusals(listing)
    assert set(reasons) == set(bad)
    assert "leads out of its folder" in reasons["../out.png"]
    assert "leads out of its folder" in reasons["masked/../../out.png"]
    assert "absolute" in reasons["/etc/out.png"]
    assert "link to /etc/passwd" in reasons["masked/link.png"]
    assert "link to /etc/passwd, which the archive does not hold" in reasons["masked/hard.png"]
    for name in ("pipe", "null", "disk"):
        assert "device or a pipe" in reasons[f"masked/{name}.png"]


def test_members_of_a_zip_that_climb_out_or_are_no_files_are_refused(opened, tmp_path):
    names = ["../out.png", "masked/../../out.png", "/etc/out.png", "C:\\out.png"]
    links = [moded("masked/link.png", 0o120777), moded("masked/pipe.png", 0o010644), moded("masked/null.png", 0o020666)]
    good = {"masked/..\\..\\out.png": b"1", "masked/a.png": b"2", "masked/A.png": b"3", "masked/\x1b[31m\n.png": b"4"}
    members = [(name, b"x") for name in [*names, *links]]
    listing = opened(zipped([*members, *good.items()], tmp_path / "photos.zip"))
    assert contents(listing) == good
    reasons = refusals(listing)
    assert set(reasons) == {*names, *(info.filename for info in links)}
    assert all("link, a device or a pipe" in reasons[info.filename] for info in links)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("write", [tar, zipped])
def test_of_two_members_with_one_name_the_first_is_taken(opened, tmp_path, write):
    listing = opened(write([("masked/a.png", b"first"), ("masked/a.png", b"second")], tmp_path / "archive"))
    assert contents(listing) == {"masked/a.png": b"first"}
    assert "twice; the first one is taken" in refusals(listing)["masked/a.png"]


def test_encrypted_unknown_and_damaged_members_of_a_zip_are_refused_alone(opened, tmp_path):
    path = zipped([(f"masked/{name}.png", PHOTO) for name in "abcde"], tmp_path / "photos.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())

    def each(signature: bytes, number: int) -> int:  # where the header of member `number` begins
        place = -1
        for _ in range(number + 1):
            place = content.index(signature, place + 1)
        return place

    content[each(b"PK\1\2", 1) + 8] |= 1  # encrypted
    content[each(b"PK\1\2", 2) + 10] = 99  # an unknown compression
    content[each(b"PK\3\4", 3) + 60] ^= 255  # a changed byte in the photo
    content[each(b"PK\3\4", 4) + 30] ^= 1  # the local header has another name
    path.write_bytes(content)
    listing = opened(path)
    assert contents(listing) == {"masked/a.png": PHOTO}
    reasons = refusals(listing)
    assert "encrypted; unpack the archive with its password" in reasons["masked/b.png"]
    assert "packed by method" in reasons["masked/c.png"]
    assert "Bad CRC-32" in reasons["masked/d.png"]
    assert "differ" in reasons["masked/e.png"]


def test_names_of_no_stated_encoding_are_the_bytes_that_a_folder_would_show(opened, tmp_path):
    path = zipped([("masked/xxcafx.png", b"1")], tmp_path / "photos.zip", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"xxcafx.png", b"\xc3\xa4caf\xe9.png"))
    assert contents(opened(path)) == {"masked/äcaf\udce9.png": b"1"}


def test_a_name_in_utf_8_beside_one_of_no_stated_encoding_changes_nothing(opened, tmp_path):
    """Info-ZIP writes it in field 0x7075; Python 3.12 and later take the name from there."""
    name = "masked/ä中.png".encode()
    field = struct.pack("<HHBL", 0x7075, 5 + len(name), 1, zlib.crc32(name)) + name
    info = zipfile.ZipInfo("x" * len(name))
    info.extra = field
    path = zipped([(info, b"1")], tmp_path / "photos.zip")
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    assert contents(opened(path)) == {"masked/ä中.png": b"1"}


def test_a_name_in_a_zip_ends_at_its_nul(opened, tmp_path):
    path = zipped([("masked/a.pngx.exe", b"1"), ("xempty", b"2")], tmp_path / "photos.zip")
    path.write_bytes(path.read_bytes().replace(b"a.pngx.exe", b"a.png\0.exe").replace(b"xempty", b"\0empty"))
    listing = opened(path)
    assert contents(listing) == {"masked/a.png": b"1"}
    assert refusals(listing) == {"": "has a path with empty steps"}


def header(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", size: int | None = None) -> bytes:
    """A member's blocks, as they stand in a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


END = bytes(1024)


def fields(*lines: str) -> bytes:
    """The lines of a pax header: each begins with its own length, here of two digits."""
    return b"".join(b"%d %s\n" % (len(line.encode()) + 4, line.encode()) for line in lines)


def test_what_headers_say_of_the_next_one_counts_for_it_alone(opened, tmp_path):
    wide = "masked/" + "ä" * 200 + ".png"
    blocks = [
        header("g", b"g", fields("comment=of all", "size=3")),
        header("x", b"x", fields("path=masked/ä.png", "size=5", "mtime=0.5")),
        header("short", content=b"12345", size=0),
        header("masked/b.png", content=b"123", size=99),
        header("L", b"L", wide.encode() + b"\0and more"),
        header("short", content=b"abc", size=0),
        header("K", b"K", wide.encode() + b"\0"),
        header("masked/hard.png", tarfile.LNKTYPE, size=77),  # a hard link has no blocks, whatever its size
        header("masked/unknown.png", b"Q", content=b"456"),
        header("masked/folder/", tarfile.DIRTYPE, size=77),
        header("masked/last.png", content=b"789"),
    ]
    (tmp_path / "photos.tar").write_bytes(b"".join(blocks) + END)
    listing = opened(tmp_path / "photos.tar")
    expected = {"masked/ä.png": b"12345", "masked/b.png": b"123", wide: b"abc", "masked/hard.png": b"abc"}
    assert contents(listing) == expected | {"masked/last.png": b"789"}
    assert refusals(listing) == {"masked/unknown.png": "is a device or a pipe"}


@pytest.mark.parametrize(
    "blocks",
    [
        header("x", b"x", b"99 path=a.png\n"),
        header("x", b"x", b"12 path=a.png\n"),
        header("x", b"x", fields("path=a.png") + b"0 path=a.png\n"),  # a length of 0 must not loop for ever
        header("x", b"x", b"-2 path=a.png\n"),
        header("x", b"x", b"0000000000000024 path=a\n"),
        header("x", b"x", b"path=a.png\n"),
        header("x", b"x", fields("size=-512")),
        header("x", b"x", fields("size=many")),
        header("x", b"x", size=-512),
        header("a.png", size=-512),
        header("a.png", size=1 << 62),
        header("L", b"L", b"a.png\0") + END,  # no member follows the name
        header("a.png") + b"\1" + END[1:],
    ],
)
def test_headers_that_lie_are_damage(tmp_path, blocks):
    (tmp_path / "photos.tar").write_bytes(header("masked/a.png", content=PHOTO) + blocks + header("b.png") + END)
    with pytest.raises(DataError, match=r"ingest\.source: photos is damaged or cut off"):
        unpack(tmp_path / "photos.tar", tmp_path / "into", "photos")


def test_a_hard_link_to_no_name_is_refused(opened, tmp_path):
    (tmp_path / "photos.tar").write_bytes(header("masked/a.png", tarfile.LNKTYPE) + END)
    assert "which the archive does not hold" in refusals(opened(tmp_path / "photos.tar"))["masked/a.png"]


@pytest.mark.parametrize("mode", MODES)
def test_a_tar_that_is_cut_off_anywhere_is_refused_as_a_whole(tmp_path, mode):
    whole = tar([(f"masked/{n}.png", os.urandom(700)) for n in range(4)], tmp_path / "whole", mode).read_bytes()
    end = len(whole) - (2 * tarfile.BLOCKSIZE if mode == "w" else 1)
    if mode == "w":
        end = 4 * 3 * tarfile.BLOCKSIZE  # headers and photos; blocks of zeros follow
    for number, cut in enumerate([*range(1, end, max(1, end // 60)), end]):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(whole[:cut])
        with pytest.raises(
            DataError, match=r"ingest\.source: photos is (damaged or cut off|no folder, \.zip or \.tar)"
        ):
            unpack(path, tmp_path / f"into{number}", "photos")


@pytest.mark.parametrize("mode", MODES)
def test_a_tar_with_a_flipped_byte_gives_its_photos_or_a_refusal(tmp_path, mode):
    photos = {f"masked/{n}.png": os.urandom(700) for n in range(4)}
    whole = tar(list(photos.items()), tmp_path / "whole", mode).read_bytes()
    for number, place in enumerate(range(0, len(whole), max(1, len(whole) // 40))):
        content = bytearray(whole)
        content[place] ^= 0x10
        (tmp_path / f"{number}.tar").write_bytes(content)
        try:
            listing = unpack(tmp_path / f"{number}.tar", tmp_path / f"into{number}", "photos")
        except DataError:
            continue
        if mode != "w":  # a plain tar has no check sum over the photos
            assert contents(listing) == photos or listing.refused


@pytest.mark.parametrize("kind", [0, 15])
def test_a_zstd_archive_may_begin_with_a_frame_to_be_skipped(tmp_path, kind):
    """`pzstd` writes such frames (RFC 8878, 3.1.2)."""
    path = tar([("masked/a.png", PHOTO)], tmp_path / "photos.tar.zst", "w:zst")
    skipped = (0x184D2A50 + kind).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"size"
    path.write_bytes(skipped + path.read_bytes())
    assert contents(unpack(path, tmp_path / "into", "photos")) == {"masked/a.png": PHOTO}


def test_an_archive_whose_compression_cannot_be_undone_is_damaged_and_not_unknown(tmp_path):
    path = tmp_path / "photos.tar.zst"
    path.write_bytes(zstd.compress(os.urandom(5000))[:100])
    with pytest.raises(DataError, match=r"ingest\.source: photos is damaged or cut off"):
        unpack(path, tmp_path / "into", "photos")
    far = {zstd.CompressionParameter.window_log: 28}
    with zstd.open(path, "wb", options=far) as file:
        file.write(bytes(20_000))
    with pytest.raises(DataError, match=r"damaged or cut off \(ZstdError: .*memory"):
        unpack(path, tmp_path / "other", "photos")


def test_what_is_no_archive_and_what_cannot_be_read_is_told(tmp_path):
    for number, content in enumerate([b"", b"text", b"\0" * 4096, gzip.compress(b"text"), b"PK\3\4 and no more"]):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DataError, match=r"ingest\.source: file is no folder, \.zip or \.tar"):
            unpack(tmp_path / "file", tmp_path / str(number), "file")


# Bombs


def test_a_zip_that_states_more_than_the_ratio_allows_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 100_000)
    path = zipped([(f"masked/{n}.png", bytes(60_000)) for n in range(3)], tmp_path / "photos.zip")
    with pytest.raises(DataError, match=r"photos unpacks to more than 100000 bytes, 100 times its size; unpack it you"):
        unpack(path, tmp_path / "into", "photos")
    assert not list((tmp_path / "into").iterdir())


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_tar_is_left_when_it_has_given_more_than_the_ratio_allows(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(archives, "SMALL", 3 << 20)
    path = tar([(f"masked/{n}.png", bytes(2 << 20)) for n in range(9)], tmp_path / "photos.tar", mode)
    with pytest.raises(DataError, match="unpacks to more than 3145728 bytes"):
        unpack(path, tmp_path / "into", "photos")
    assert sum(file.stat().st_size for file in (tmp_path / "into").iterdir()) <= 3 << 20


@pytest.mark.parametrize("write", [tar, zipped])
def test_a_member_that_no_photo_can_be_is_refused_alone(opened, tmp_path, monkeypatch, write):
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    listing = opened(write([("masked/a.png", PHOTO), ("masked/b.png", bytes(1001))], tmp_path / "archive"))
    assert contents(listing) == {"masked/a.png": PHOTO}
    assert refusals(listing)["masked/b.png"] == "has 1001 bytes; a photo has at most 1000"


def test_a_zip_member_that_lies_about_its_size_gives_no_more_than_it_states(opened, tmp_path):
    path = zipped([("masked/a.png", bytes(50 << 20))], tmp_path / "photos.zip")
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 50 << 20), struct.pack("<I", 1000)))
    listing = opened(path)
    assert listing.files == {}
    assert "Bad CRC-32" in refusals(listing)["masked/a.png"]
    assert sum(file.stat().st_size for file in (tmp_path / "into").iterdir()) <= 1000


def test_a_crowd_of_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    for number, write in enumerate((tar, zipped)):
        path = write([(f"masked/{n}.png", b"") for n in range(11)], tmp_path / f"{number}")
        with pytest.raises(DataError, match="more than 10 members; split it"):
            unpack(path, tmp_path / f"into{number}", "photos")


def huge_header(kind: bytes, path: Path) -> Path:
    """A name of 300 MB, which packs well."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 300 << 20
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(300):
            file.write(bytes(1 << 20))
    return path


def crowd_of_headers(kind: bytes, path: Path) -> Path:
    """200 headers of 1 MB each, all for one photo or for all photos."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number in range(200):
            line = b"1048576 path=%03d" % number if kind == b"x" else b"1048576 %03d=" % number
            file.write(header("x", kind, line.ljust((1 << 20) - 1, b"0") + b"\n"))
        file.write(header("masked/a.png") + END)
    return path


MEASURED = """
import sys
from pathlib import Path
from bmask.data.sources.archives import unpack
from bmask.errors import DataError
from bmask.training.health import peak_memory
before = peak_memory()
try:
    print(unpack(Path(sys.argv[1]), Path(sys.argv[2]), "photos").refused)
except DataError as error:
    print(error)
print(round((peak_memory() - before) * 2**20), "KB more")
"""


def measured(path: Path, into: Path) -> tuple[str, int]:
    command = [sys.executable, "-c", MEASURED, str(path), str(into)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.splitlines()
    return said[0], int(said[-1].split()[0])


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_of_hundreds_of_megabytes_takes_no_memory(tmp_path, kind):
    said, more = measured(huge_header(kind, tmp_path / "photos.tar.gz"), tmp_path / "into")
    assert "a header of 314572800 bytes" in said
    assert more < 50_000


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_crowd_of_long_headers_takes_the_memory_of_one(tmp_path, kind):
    _, more = measured(crowd_of_headers(kind, tmp_path / "photos.tar.gz"), tmp_path / "into")
    assert more < 50_000


def test_a_small_zip_that_makes_much_takes_little_memory(tmp_path):
    said, more = measured(zipped([("masked/a.png", bytes(200 << 20))], tmp_path / "photos.zip"), tmp_path / "into")
    assert said == "[]"
    assert more < 50_000


@pytest.mark.slow
@pytest.mark.parametrize("write", [tar, zipped])
def test_memory_does_not_grow_with_the_photos_sizes(tmp_path, write):
    chunk = os.urandom(1 << 20)
    members = [(f"masked/{n}.png", chunk * 100) for n in range(4)]
    path = tar(members, tmp_path / "archive") if write is tar else zipped(members, tmp_path / "archive", 0)
    said, more = measured(path, tmp_path / "into")
    assert said == "[]"
    assert more < 40_000


@pytest.mark.parametrize("form", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"])
def test_a_sparse_file_is_told(tmp_path, form):
    with open(tmp_path / "a.png", "wb") as file:
        for number in range(9):  # more pieces than a header of GNU tar holds
            file.seek(number << 20)
            file.write(PHOTO)
    options = f"--sparse --format={form}".split()
    subprocess.run(["tar", *options, "-cf", tmp_path / "photos.tar", "-C", tmp_path, "a.png"], check=True)
    said = r"photos holds .*a\.png, a sparse file, which is not read; pack it without --sparse"
    with pytest.raises(DataError, match=said):
        unpack(tmp_path / "photos.tar", tmp_path / "into", "photos")


def test_headers_that_wait_for_headers_end_in_a_message(tmp_path):
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    (tmp_path / "photos.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(DataError, match="damaged or cut off"):
        unpack(tmp_path / "photos.tar", tmp_path / "into", "photos")


def test_a_full_disk_is_told(tmp_path):
    path = tar([("masked/a.png", bytes(50_000))], tmp_path / "photos.tar")
    with (
        full_disk(10_000),
        pytest.raises(DataError, match=r"cannot be unpacked to .*into \(File too large\); make room"),
    ):
        unpack(path, tmp_path / "into", "photos")
