"""Unpacks zip and tar archives from sources that nobody has to trust.

Members are written to numbered files in one folder. A member's name is never used as a path, so none can leave the
folder, and names that a file system cannot hold or tell apart do no harm. A member that is no plain file, or cannot be
read, is refused with the reason. An archive that is cut off, or unpacks to absurd sizes, is refused as a whole, because
nobody can say what is missing from it.
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
from pathlib import Path
from typing import IO, Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from bmask.data.records import MAX_BYTES, lfs_hint
from bmask.data.sources.listing import Listing, is_video, printable, unusual
from bmask.errors import DataError
from bmask.progress import bar

MAX_MEMBERS = 1_000_000
MAX_RATIO = 100  # unpacked bytes per byte of the archive; photos hardly shrink, drawings do
SMALL = 1 << 30  # bytes that any archive may unpack to, whatever the ratio
MAX_HEADER = 1 << 20  # bytes of a long name or a pax header in a tar, which is read into memory whole
CHUNK = 1 << 20
BLOCK = 512  # bytes; headers and contents of a tar are padded to whole blocks
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x5d\0\0": lzma.open,
    b"\x28\xb5\x2f\xfd": zstd.open,  # refuses windows above 128 MB (zstd --long=28 and more)
    **{bytes([0x50 + number]) + b"\x2a\x4d\x18": zstd.open for number in range(16)},  # skippable frames, as of pzstd
}
LONG = {b"L": "path", b"K": "linkpath"}  # GNU tar's headers for a name or link too long for the member's own header
PAX = (b"x", b"X", b"g")  # headers with fields of the next member; `g`: of all members after it
DAMAGE = (
    *(tarfile.HeaderError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstd.ZstdError),
    *(EOFError, OSError, ValueError, RuntimeError),
)


@dataclass(frozen=True)
class Member:
    """One file of an archive. `name` is not yet checked; `content` may be read once, or not at all."""

    name: str
    size: int
    content: Iterator[bytes]
    refused: str = ""
    same_as: str | None = None  # the earlier member that this hard link leads to


def unpack(archive: Path, folder: Path, called: str) -> Listing:
    """Writes the files of a .zip or .tar (plain or by gzip, bzip2, xz, zstd) to a new folder.

    The kind is recognised by the content, not by the name. Memory grows with the number of members and not with their
    sizes. `called` is the archive's name in errors.

    Raises:
        DataError: the file is no archive, is damaged, has more than MAX_MEMBERS members, or unpacks to more than SMALL
            bytes and more than MAX_RATIO times its own size; or this disk is full.
    """
    folder.mkdir(parents=True)
    listing = Listing()
    for number, member in enumerate(bar(_members(archive, called), what=f"unpacking {called}")):
        if number >= MAX_MEMBERS:
            raise DataError(f"ingest.source: {called} has more than {MAX_MEMBERS} members; split it")
        path, name = folder / f"{number:07}", _plain(member.name)
        if is_video(name):
            listing.videos.append(name)
            continue
        try:
            _check(member, name, listing)
            if member.same_as is not None:
                path = listing.files[_plain(member.same_as)]
            else:
                _write(member, path, called)
            listing.files[name] = path
        except _Refused as reason:
            listing.refused.append((name, str(reason)))
    return listing


class _Refused(Exception):
    """Leaves out one member; the message is the reason."""


def _check(member: Member, name: str, listing: Listing) -> None:
    if reason := member.refused or unusual(name):
        raise _Refused(reason)
    if name in listing.files:
        raise _Refused("is in the archive twice; the first one is taken")
    if member.size > MAX_BYTES:
        raise _Refused(f"has {member.size} bytes; a photo has at most {MAX_BYTES}")
    if member.same_as is not None and _plain(member.same_as) not in listing.files:
        raise _Refused(f"is a link to {printable(member.same_as)}, which the archive does not hold before it")


def _write(member: Member, path: Path, called: str) -> None:
    try:
        with open(path, "xb") as file:
            file.writelines(member.content)
    except OSError as error:
        raise DataError(
            f"ingest.source: {called} cannot be unpacked to {path.parent} ({error.strerror}); make room or set TMPDIR"
        ) from None


def _plain(name: str) -> str:
    """Turns ./a//b, which tar writes for a folder given as `.`, into a/b; an absolute path stays absolute."""
    steps = [step for step in name.split("/") if step not in ("", ".")]
    return "/" * name.startswith("/") + "/".join(steps)


def _members(archive: Path, called: str) -> Iterator[Member]:
    """Yields the members of a zip or tar, in its order, without folders."""
    what = f"ingest.source: {called}"
    try:
        with open(archive, "rb") as file:
            start = file.read(100)
    except OSError as error:
        raise DataError(f"{what} cannot be read ({error.strerror}); check its permissions") from None
    allowed = max(SMALL, MAX_RATIO * archive.stat().st_size)
    too_large = DataError(
        f"{what} unpacks to more than {allowed} bytes, {MAX_RATIO} times its size; unpack it yourself if you trust it"
    )
    opener = next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), open)
    with _reported(what):
        with opener(archive, "rb") as raw:
            if _is_header(raw.read(BLOCK)):
                raw.seek(0)
                yield from _of_tar(_Stream(raw, what, allowed, too_large))
                return
        if not zipfile.is_zipfile(archive):
            kinds = "is no folder, .zip or .tar (plain or by gzip, bzip2, xz, zstd); name one of these"
            raise DataError(f"{what} {lfs_hint(start) or kinds}")
        with zipfile.ZipFile(archive, metadata_encoding="cp437") as opened:
            if sum(info.file_size for info in opened.infolist()) > allowed:
                raise too_large
            yield from _of_zip(opened)


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turns the exceptions that Python raises for damaged files into a message with the remedy."""
    try:
        yield
    except DAMAGE as error:
        raise DataError(f"{what} is damaged or cut off ({type(error).__name__}: {error}); fetch it again") from None


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.filename.endswith("/"):  # a folder; is_dir() fails on empty names
            continue
        name, mode, refused = info.filename, stat.S_IFMT(info.external_attr >> 16), ""
        # A name is UTF-8 if a flag says so, or if Python (3.12 and later) took it from the field 0x7075 of `extra`.
        # The encoding of any other is unknown: its bytes, which zipfile decoded as cp437, are kept.
        if not (info.flag_bits & 0x800 or name.encode() in info.extra):
            name = os.fsdecode(name.encode("cp437"))
        if mode not in (0, stat.S_IFREG):  # 0: written by a system without modes
            refused = "is a link, a device or a pipe"
        elif info.flag_bits & 0x1:
            refused = "is encrypted; unpack the archive with its password and name the folder"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile unpacks all that it has read of these at once: 4096 bytes of bzip2 can become 6 GB in memory.
            how = f"is packed by method {info.compress_type}, only deflate is read"
            refused = f"{how}; unpack the archive and name the folder"
        yield Member(name, info.file_size, _unzipped(archive, info), refused)


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as content:
            while data := content.read(CHUNK):
                yield data
    except DAMAGE as error:
        raise _Refused(f"cannot be unpacked ({type(error).__name__}: {error})") from None


@dataclass
class _Stream:
    """Reads a tar's bytes, after decompression, up to the number that is allowed."""

    raw: IO[bytes]
    what: str
    left: int
    too_large: DataError

    def read(self, size: int, whole: bool = True) -> bytes:
        with _reported(self.what):
            data = self.raw.read(size)
            if whole and len(data) < size:
                raise EOFError("the end marker is missing")
        self.left -= len(data)
        if self.left < 0:
            raise self.too_large
        return data

    def take(self, size: int) -> Iterator[bytes]:
        """Yields the next `size` bytes, and reads past the padding of their last block."""
        end = size + -size % BLOCK
        for start in range(0, end, CHUNK):
            yield self.read(min(CHUNK, end - start))[: size - start]


def _of_tar(stream: _Stream) -> Iterator[Member]:
    """Yields the members, parsing one header after the other.

    tarfile.TarFile does not serve: it keeps all members in memory, and ends without an error at a damaged header.
    """
    general: dict[str, str] = {}
    special: dict[str, str] = {}
    while (header := stream.read(BLOCK)) != bytes(BLOCK) or special:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if info.type in LONG or info.type in PAX:
            if not 0 <= info.size <= MAX_HEADER:
                raise ValueError(f"a header of {info.size} bytes")
            fields = _fields(info.type, b"".join(stream.take(info.size)))
            (general if info.type == b"g" else special).update(fields)
            continue
        fields = {"path": info.name, "linkpath": info.linkname, "size": str(info.size)} | general | special
        name, target, size, special = fields["path"], fields["linkpath"], int(fields["size"]), {}
        if size < 0:
            raise ValueError(f"a member of {size} bytes")
        if "GNU.sparse" in fields or info.type == tarfile.GNUTYPE_SPARSE:
            sparse = f"{printable(name)}, a sparse file, which is not read; pack it without --sparse"
            raise DataError(f"{stream.what} holds {sparse}")
        refused, same_as = "", target if info.islnk() else None
        if info.issym():
            refused = f"is a link to {printable(target)}; pack what it leads to (tar --dereference)"
        elif not (info.isreg() or info.isdir() or info.islnk()):
            refused = "is a device or a pipe"
        empty = info.isdir() or info.islnk() or info.issym() or info.isdev()  # without content, whatever `size` says
        content = stream.take(0 if empty else size)
        if not info.isdir():
            yield Member(name, size, content, refused, same_as)
        for _ in content:  # what the caller did not read
            pass
    while stream.read(CHUNK, whole=False):  # checks the compression's checksums, which are at the end
        pass


def _fields(kind: bytes, text: bytes) -> dict[str, str]:
    """Parses a long name, or a pax header: lines of `LENGTH KEYWORD=VALUE`, where LENGTH counts the whole line."""
    if kind in LONG:
        return {LONG[kind]: text.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    fields, start = {}, 0
    while start < len(text):
        length = int(text[start : text.index(b" ", start, start + 8)])
        keyword, _, value = text[start : start + length - 1].partition(b" ")[2].partition(b"=")
        if length < 1 or text[start + length - 1 : start + length] != b"\n":
            raise ValueError("a pax header whose lines have other lengths than they say")
        keyword = keyword[: len("GNU.sparse")]  # all keywords of sparse files begin so
        if keyword in (b"path", b"linkpath", b"size", b"GNU.sparse"):  # no others, which could fill the memory
            fields[keyword.decode()] = value.decode("utf-8", "surrogateescape")
        start += length
    return fields


def _is_header(block: bytes) -> bool:
    try:
        return bool(tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"))
    except tarfile.HeaderError:
        return False
