"""Zip and tar archives, unpacked without trusting a byte of them.

Members are written to numbered files in one folder, whatever they are called: no name of an archive becomes a path, so
none leads anywhere, and names that a file system cannot hold or tell apart need not be held by one. What is no plain
file, or cannot be read, is refused with its reason. An archive that is cut off, or unpacks to absurd sizes, is refused
as a whole, since nobody can say what of it is missing.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from bmask.data.records import MAX_BYTES, lfs_hint
from bmask.data.sources.listing import Listing, is_video, printable, unusual
from bmask.errors import DataError
from bmask.progress import bar

MAX_MEMBERS = 1_000_000
MAX_RATIO = 100  # of what is unpacked to the archive itself; photos hardly shrink, drawings do
SMALL = 1 << 30  # bytes that may come out of any archive, whatever the ratio
MAX_HEADER = 1 << 20  # bytes; tarfile takes a long name into memory whole
CHUNK = 1 << 20
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x5d\0\0": lzma.open,
    b"\x28\xb5\x2f\xfd": zstd.open,  # refuses windows above 128 MB (zstd --long=28 and more)
    **{bytes([0x50 + number]) + b"\x2a\x4d\x18": zstd.open for number in range(16)},  # to be skipped; pzstd begins so
}
LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its files. `name` is as it stands there."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    refused: str = ""
    same_as: str = ""  # a hard link to a member before it
    chunk: int = CHUNK  # bytes to read at a time


def unpack(archive: Path, folder: Path, called: str) -> Listing:
    """Writes the files of a .zip or .tar (plain or by gzip, bzip2, xz, zstd; by content, not by name) to a new folder.

    Memory grows with the number of members and not with their sizes. `called` is the archive's name in errors.

    Raises:
        DataError: no archive, a damaged one, one with more than MAX_MEMBERS members, or one that unpacks to more than
            SMALL and MAX_RATIO times its own size; or this disk is full.
    """
    folder.mkdir(parents=True)
    listing = Listing()
    allowed = max(SMALL, MAX_RATIO * archive.stat().st_size)
    with _members(archive, called, allowed) as members:
        for number, member in enumerate(bar(members, what=f"unpacking {called}")):
            if number >= MAX_MEMBERS:
                raise DataError(f"ingest.source: {called} has more than {MAX_MEMBERS} members; split it")
            path, name = folder / f"{number:07}", _plain(member.name)
            if is_video(name):
                listing.videos.append(name)
                continue
            try:
                _check(member, name, listing)
                if member.same_as:
                    path = listing.files[_plain(member.same_as)]
                else:
                    _write(member, path, called)
                listing.files[name] = path
            except _Refused as reason:
                listing.refused.append((name, str(reason)))
    return listing


class _Refused(Exception):
    """A member that is left out; the message is the reason."""


def _check(member: Member, name: str, listing: Listing) -> None:
    if reason := member.refused or unusual(name):
        raise _Refused(reason)
    if name in listing.files:
        raise _Refused("is in the archive twice; the first one is taken")
    if member.size > MAX_BYTES:
        raise _Refused(f"has {member.size} bytes; a photo has at most {MAX_BYTES}")
    if member.same_as and _plain(member.same_as) not in listing.files:
        raise _Refused(f"is a link to {printable(member.same_as)}, which the archive does not hold before it")


def _write(member: Member, path: Path, called: str) -> None:
    try:
        with open(path, "xb") as file:
            file.writelines(_content(member))
    except OSError as error:
        raise DataError(
            f"ingest.source: {called} cannot be unpacked to {path.parent} ({error.strerror}); make room or set TMPDIR"
        ) from None


def _content(member: Member) -> Iterator[bytes]:
    try:
        with member.open() as content:
            while data := content.read(member.chunk):
                yield data
    except DAMAGE as error:
        raise _Refused(f"cannot be unpacked ({type(error).__name__}: {error})") from None


def _plain(name: str) -> str:
    """./a//b as a/b, which is what tar makes of a folder called `.`; a path from the root stays one."""
    steps = [step for step in name.split("/") if step not in ("", ".")]
    return "/" * name.startswith("/") + "/".join(steps)


@contextmanager
def _members(archive: Path, called: str, allowed: int) -> Iterator[Iterator[Member]]:
    """The members of either kind of archive, in its order, folders left out."""
    what = f"ingest.source: {called}"
    too_large = DataError(
        f"{what} unpacks to more than {allowed} bytes, {MAX_RATIO} times its size; unpack it yourself if you trust it"
    )
    try:
        archive.open("rb").close()
    except OSError as error:
        raise DataError(f"{what} cannot be read ({error.strerror}); see to its rights") from None
    try:
        if _is_tar(archive):
            with _decompressed(archive) as raw:
                stream = _Stream(raw, allowed, too_large)
                with tarfile.open(  # type: ignore[call-overload]  # of a stream to read from, only `read` is called
                    fileobj=stream, mode="r|", tarinfo=_Header, encoding="utf-8"
                ) as tar:
                    yield _of_tar(tar, stream)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                if sum(info.file_size for info in opened.infolist()) > allowed:
                    raise too_large
                yield _of_zip(opened)
        else:
            with open(archive, "rb") as file:
                pointer = lfs_hint(file.read(100))
            kinds = "is no folder, .zip or .tar (plain or by gzip, bzip2, xz, zstd); name one of these"
            raise DataError(f"{what} {pointer or kinds}")
    except (*DAMAGE, _CutOff) as error:
        raise DataError(f"{what} is damaged or cut off ({type(error).__name__}: {error}); fetch it again") from None


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        name, mode = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        if not info.flag_bits & 0x800:  # bytes of no stated encoding, which the module takes for code page 437
            name = os.fsdecode(name.encode("cp437"))
        refused = ""
        if mode not in (0, stat.S_IFREG):  # 0 where the maker knows no modes
            refused = "is a link, a device or a pipe"
        elif info.flag_bits & 0x1:
            refused = "is encrypted; unpack the archive with its password and name the folder"
        # Of these two zipfile inflates what it has read without a bound: 64 bytes can make 90 MB, its usual 4096 6 GB.
        chunk = 64 if info.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA) else CHUNK
        yield Member(name, info.file_size, partial(_open_zipped, archive, info, chunk), refused, chunk=chunk)


def _open_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, chunk: int) -> IO[bytes]:
    content = archive.open(info)
    assert isinstance(content, zipfile.ZipExtFile)
    content.MIN_READ_SIZE = min(chunk, content.MIN_READ_SIZE)
    return content


def _of_tar(archive: tarfile.TarFile, stream: _Stream) -> Iterator[Member]:
    while (info := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # not in the stubs; else it keeps all of them
        refused = same_as = ""
        if info.isdir():
            continue
        if info.islnk():
            same_as = info.linkname
        elif info.issym():
            refused = f"is a link to {printable(info.linkname)}; pack what it leads to (tar --dereference)"
        elif not info.isreg():
            refused = "is a device or a pipe"
        yield Member(info.name, info.size, partial(_open_tarred, archive, info), refused, same_as)
    while stream.read(CHUNK):  # the check sums of the compression stand at the end
        pass


def _open_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    assert content is not None  # which only folders and devices have
    return content


def _is_tar(archive: Path) -> bool:
    """Whether it begins like one. Raises one of DAMAGE when it is compressed and cannot be unpacked that far."""
    with _decompressed(archive) as stream:
        start = stream.read(tarfile.BLOCKSIZE)
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except DAMAGE:
        return False
    return True


def _decompressed(archive: Path) -> IO[bytes]:
    with open(archive, "rb") as file:
        start = file.read(8)
    opened = (opener for magic, opener in COMPRESSED.items() if start.startswith(magic))
    return next(opened, open)(archive, "rb")


class _CutOff(Exception):
    """None of tarfile's own errors, which it may take for the end of the archive."""


class _Stream:
    """A tar's bytes, no more than are allowed."""

    def __init__(self, raw: IO[bytes], allowed: int, too_large: DataError):
        self.raw, self.left, self.too_large = raw, allowed, too_large

    def read(self, size: int) -> bytes:
        try:
            data = self.raw.read(size)
        except DAMAGE as error:
            raise _CutOff(f"{type(error).__name__}: {error}") from None
        self.left -= len(data)
        if self.left < 0:
            raise self.too_large
        return data


class _Header(tarfile.TarInfo):
    """tarfile's reader ends quietly at a header that is missing or damaged, and takes memory as headers tell it to."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            raise
        except tarfile.HeaderError as error:
            raise _CutOff(str(error)) from None

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # tarfile's place for subclasses to step in
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _CutOff("a sparse file, which is not read; pack it without --sparse")
        if self.size < 0 or (self.type in LONG and self.size > MAX_HEADER):
            raise _CutOff(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]  # not in the stubs

    def _proc_gnusparse_10(self, *_: Any) -> None:
        raise _CutOff("a sparse file, which is not read; pack it without --sparse")
