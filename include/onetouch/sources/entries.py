"""What lies in a folder or a zip: every file is read, refused with a reason, or ignored by name; none goes unseen."""

from __future__ import annotations

import lzma
import posixpath
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from onetouch.policy import Events
from onetouch.sources.folder import CHUNK, chunks_of, keep_file, leaves
from onetouch.sources.packing import Cut, Refused, packing_by_content, unpack
from onetouch.sources.raw import RawFolder
from onetouch.sources.vendors import vendor_of

_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_DEEPEST = 3  # zips within zips; deeper ones are nobody's export
_HEADER_BYTES = 512  # the header of a file in a zip, which has its name
_SEEN_BYTES = 1 << 14  # of a file that is not known, this much is looked at


@dataclass(frozen=True)
class Named:
    """How the files of a source are named, and the window that is wanted of them.

    `moment`: the beginning of the receipt of a file's rows, by its name; None if the name does not say it. `wanted`:
    the names that have one, for messages. `other`: why a file of that name is the source's and holds no events.
    """

    moment: Callable[[str], datetime | None]
    start: datetime
    end: datetime
    wanted: str
    other: Callable[[str], str | None] = lambda _: None

    def within(self, name: str) -> bool:
        """Whether a file of that name is of the window."""
        moment = self.moment(name)
        return moment is not None and self.start <= moment < self.end

    def ignored(self, name: str) -> str | None:
        """Why a file of that name holds no events; None if it may hold some."""
        parts = re.split(r"[/\\]", name)
        if "__MACOSX" in parts or parts[-1].startswith("._"):
            return "a fork that macOS adds"
        if parts[-1].startswith(".") or parts[-1].lower() in ("thumbs.db", "desktop.ini"):
            return "a file of the operating system"
        return self.other(name)


@dataclass(frozen=True)
class Member:
    """A file within a zip: its name, its size and CRC-32 as the zip tells them, its content, and why it is not read
    (reason and detail; None: it is)."""

    name: str
    size: int
    crc: str
    chunks: Callable[[], Iterator[bytes]]
    problem: tuple[str, str] | None


def keep_folder(kept: RawFolder, folder: Path, named: Named) -> int:
    """Keeps every file of the window in a folder and its subfolders, also those in zips; returns the number of files
    and zips that looked like the source's.

    A file that cannot be read, or whose name does not say its hour, is refused.
    """
    known = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if (why := named.ignored(name)) is not None:
            kept.ignore(name, why)
            continue
        if leaves(folder, path):
            kept.refuse(name, "unsafe_path", "a link leads out of the folder", named.moment(name))
            continue
        moment = named.moment(name)
        if moment is None and _is_zip(path):
            known += 1
            with path.open("rb") as file:
                keep_zip(kept, name, file, named)
        elif moment is None:
            detail = _unknown(name, chunks_of(path), named, kept.limits)
            kept.refuse(name, "unknown_file", detail, size=path.stat().st_size)
        else:
            known += 1
            if named.within(name):
                keep_file(kept, folder, path, moment)
    return known


def keep_zip(kept: RawFolder, name: str, file: IO[bytes], named: Named, depth: int = 1) -> None:
    """Keeps the files of the window in a zip, in zips within it and in zips that were joined to it.

    A file whose name does not say its hour is refused if its zip has an hour of the window or no hours at all.
    """
    answer = re.sub(r"(?i)\.zip$", "", name)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        lost = sorted({moment for one in _names(file) if named.within(one) and (moment := named.moment(one))})
        kept.refuse(name, "bad_zip", str(error), moments=lost, size=file.seek(0, 2))
        return
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        before = min([info.header_offset for info in infos], default=archive.start_dir)
        if before > 0 and _begins(file, _ZIP):
            with tempfile.TemporaryFile() as other:
                file.seek(0)
                _copy(file, other, before)
                keep_zip(kept, name, other, named, depth)
        moments = [named.moment(info.orig_filename) for info in infos]
        hours = [moment for moment in moments if moment is not None]
        concerns = not hours or any(named.start <= hour < named.end for hour in hours)
        for info, moment in zip(infos, moments, strict=True):
            if moment is None and not concerns:
                continue
            if moment is not None and not named.start <= moment < named.end:
                continue
            member = _member(archive, info, kept.limits)
            shown = f"{answer}/{member.name}"
            if (why := named.ignored(member.name)) is not None:
                kept.ignore(shown, why)
            elif member.problem is not None:
                kept.refuse(shown, *member.problem, moment, size=member.size)
            elif moment is None and _may_be_zip(member):
                _keep_inner(kept, shown, member, named, depth)
            elif moment is None:
                detail = _unknown(member.name, member.chunks(), named, kept.limits)
                kept.refuse(shown, "unknown_file", detail, size=member.size)
            elif not kept.has_read(member.name, member.size, member.crc):
                kept.keep(answer, member.name, member.chunks(), moment)


def _keep_inner(kept: RawFolder, shown: str, member: Member, named: Named, depth: int) -> None:
    """Keeps the files of a zip within a zip."""
    if depth >= _DEEPEST:
        kept.refuse(shown, "unsupported_zip_entry", "is a zip within zips; unzip it", size=member.size)
        return
    with tempfile.TemporaryFile() as inner:
        try:
            for chunk in member.chunks():
                inner.write(chunk)
        except Refused as refused:
            kept.refuse(shown, refused.reason, refused.detail, size=member.size)
            return
        keep_zip(kept, shown, inner, named, depth + 1)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Events) -> Member:
    name = info.orig_filename
    problem = None
    if _unsafe(name):
        problem = ("unsafe_path", "would leave its folder")
    elif info.flag_bits & 0x1:
        problem = ("encrypted", "needs a password")
    return Member(
        name, info.file_size, f"{info.CRC:08x}", lambda: _content(archive, info, limits), problem,
    )  # fmt: skip


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Events) -> Iterator[bytes]:
    """The bytes of a zip member as they are read. Raises Refused."""
    size = 0
    try:
        with archive.open(info) as file:
            while chunk := file.read(CHUNK):
                size += len(chunk)
                if size > limits.max_file_bytes:
                    raise Refused("file_too_large", f"is more than {limits.max_file_bytes} bytes")
                if size > info.compress_size * limits.max_compression_ratio:
                    raise Refused("compression_bomb", f"is {limits.max_compression_ratio} times its packed size")
                yield chunk
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise Refused("bad_zip_entry", str(error)) from error
    except (NotImplementedError, RuntimeError) as error:
        raise Refused("unsupported_zip_entry", str(error)) from error


def _unsafe(name: str) -> bool:
    """Whether a member's name could leave the folder it is unpacked to, on any system."""
    return (
        name.startswith("/")
        or "\\" in name
        or ".." in name.split("/")
        or re.match(r"[A-Za-z]:", name) is not None
        or any(ord(c) < 32 or ord(c) == 127 for c in name)
    )


def _is_zip(path: Path) -> bool:
    """Whether a file is a zip by its content, or claims to be one."""
    with path.open("rb") as file:
        return path.suffix.lower() == ".zip" or file.read(4) in (_ZIP, _EMPTY_ZIP)


def _may_be_zip(member: Member) -> bool:
    suffix = posixpath.splitext(member.name)[1].lower()
    if suffix:
        return suffix == ".zip"
    try:
        return next(member.chunks(), b"").startswith((_ZIP, _EMPTY_ZIP))
    except Refused:
        return False


def _begins(file: IO[bytes], magic: bytes) -> bool:
    file.seek(0)
    return file.read(len(magic)) == magic


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size > 0 and (chunk := source.read(min(CHUNK, size))):
        target.write(chunk)
        size -= len(chunk)


def _names(file: IO[bytes]) -> Iterator[str]:
    """The names of the files in a zip that lacks its end, as far as it goes."""
    file.seek(0)
    rest = b""
    while chunk := file.read(CHUNK):
        content = rest + chunk
        for found in re.finditer(re.escape(_ZIP), content):
            header = content[found.start() + 26 : found.start() + 30]
            if len(header) == 4:
                length = struct.unpack("<H", header[:2])[0]
                yield content[found.start() + 30 : found.start() + 30 + length].decode("utf-8", "replace")
        rest = content[-_HEADER_BYTES:]


def _unknown(name: str, chunks: Iterator[bytes], named: Named, limits: Events) -> str:
    """Why a file is not known, and whose it looks like."""
    detail = f"is not named {named.wanted}"
    try:
        begin = next(chunks, b"")[:_SEEN_BYTES]
        packing = packing_by_content(begin, name)
        begin = next(unpack([begin], limits, packing), b"")
    except (Refused, Cut):
        begin = b""
    vendor = vendor_of(begin)
    return f"{detail}; looks like {vendor}" if vendor else detail
