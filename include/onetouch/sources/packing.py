"""Compressed files: reads and writes gzip, zstd and plain files as streams of bytes, within the policy's limits."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import IO, Any, Literal, cast

import pyarrow as pa

from onetouch.policy import Events

Packing = Literal["gzip", "zstd", "plain"]

_PIECE = 1 << 20
_ZSTD_PIECE = 1 << 12  # at most this many bytes are lost of a zstd file that ends early
_MAGIC: dict[Packing, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_TEXT = (b"{", b"[", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # JSON, or the mark of a text's encoding


class Refused(Exception):
    """A file is not kept; `reason` is the reason under which quarantine counts it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Cut(Exception):
    """A file ends early: the data decompressed so far was returned, the rest is lost. `reason` as in `Refused`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def packing_of(name: str) -> Packing:
    """The compression of a file, by its name. A Parquet file is compressed internally, so it counts as plain whatever
    else is in its name."""
    name = re.sub(r",\d+$", "", name)  # the number that a further file of the same name gets in a raw folder
    if ".parquet" in name:
        return "plain"
    if name.endswith((".gz", ".gzip")):
        return "gzip"
    return "zstd" if name.endswith((".zst", ".zstd")) else "plain"


def packing_by_content(begin: bytes, name: str) -> Packing:
    """The compression of a file that begins so: the content counts, since browsers and tools unpack files without
    renaming them; where it says nothing, the name does."""
    for packing, magic in _MAGIC.items():
        if begin.startswith(magic):
            return packing
    by_name = packing_of(name)
    return "plain" if by_name != "plain" and begin.startswith(_TEXT) else by_name


def unpack(chunks: Iterable[bytes], limits: Events, packing: Packing = "gzip") -> Iterator[bytes]:
    """The decompressed bytes of a file in pieces of up to 1 MiB; concatenated gzip or zstd streams are one file.

    Raises Refused (`not_gzip`, `not_zstd`, `compression_bomb`, `file_too_large`) and, after everything readable was
    returned, Cut (`truncated_file`, `corrupt_file`).
    """
    received = _Received(chunks, packing)
    unpacked = 0
    for piece in _PLAIN_OF[packing](received):
        unpacked += len(piece)
        if unpacked > limits.max_file_bytes:
            raise Refused("file_too_large", f"unpacks to more than {limits.max_file_bytes} bytes")
        if unpacked > received.bytes * limits.max_compression_ratio:
            raise Refused("compression_bomb", f"unpacks to more than {limits.max_compression_ratio} times its size")
        if piece:
            yield piece


def unpacked(content: bytes) -> bytes | None:
    """All that can be decompressed of a gzip or zstd file, whole or damaged, by its content; None for any other."""
    found = [packing for packing, magic in _MAGIC.items() if content.startswith(magic)]
    if not found:
        return None
    whole = _Received((content[place : place + _PIECE] for place in range(0, len(content), _PIECE)), found[0])
    readable = bytearray()
    with suppress(Cut):  # a damaged file is read up to the damage
        for piece in _PLAIN_OF[found[0]](whole):
            readable += piece
    return bytes(readable)


def packed(out: IO[bytes], packing: Packing) -> AbstractContextManager[IO[bytes]]:
    """A file that compresses what is written to it into `out`; the same bytes give the same file."""
    if packing == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0))
    if packing == "zstd":
        return cast("IO[bytes]", pa.CompressedOutputStream(pa.PythonFile(out, mode="w"), "zstd"))
    return _Open(out)


class _Open(AbstractContextManager[IO[bytes]]):
    """A file that stays open on exit; its owner closes it."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out = out

    def __enter__(self) -> IO[bytes]:
        return self.out

    def __exit__(self, *error: object) -> None:
        return None


class _Received:
    """Counts the bytes of received chunks, and requires that the first begins like a file of its compression."""

    def __init__(self, chunks: Iterable[bytes], packing: Packing) -> None:
        self.chunks = iter(chunks)
        self.packing = packing
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if not self.bytes and self.packing in _MAGIC:
                magic = _MAGIC[self.packing]
                if not magic.startswith(chunk[: len(magic)]):
                    raise Refused(f"not_{self.packing}", f"does not begin as a {self.packing} file")
            self.bytes += len(chunk)
            yield chunk


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=31)
    started = False
    for chunk in chunks:
        while chunk:
            if stream.eof:
                chunk = chunk.lstrip(b"\0")  # padding after the last stream is allowed
                if not chunk:
                    break
                stream = zlib.decompressobj(wbits=31)
            started = True
            before = stream.copy()
            try:
                piece = stream.decompress(chunk, _PIECE)
            except zlib.error as error:
                yield from _salvage(before, chunk)
                raise Cut("corrupt_file") from error
            chunk = stream.unused_data if stream.eof else stream.unconsumed_tail
            yield piece
    if not (started and stream.eof):
        yield stream.flush()
        raise Cut("truncated_file")


def _salvage(stream: Any, chunk: bytes) -> Iterator[bytes]:
    """The decompressed bytes of a chunk up to the error in it, byte by byte, because a failing call returns nothing."""
    for octet in chunk:
        try:
            yield stream.decompress(bytes((octet,)))
        except zlib.error:
            return


def _unzstd(chunks: _Received) -> Iterator[bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(Readable(chunks), mode="r"), "zstd")
    gathered = bytearray()
    while True:
        try:
            piece = stream.read(_ZSTD_PIECE)
        except OSError as error:
            yield bytes(gathered)
            raise Cut("truncated_file" if "Truncated" in str(error) else "corrupt_file") from error
        gathered += piece
        if not piece or len(gathered) >= _PIECE:
            yield bytes(gathered)
            gathered.clear()
        if not piece:
            break
    if not chunks.bytes:
        raise Cut("truncated_file")


class Readable(io.RawIOBase):
    """Chunks as a file to read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self.chunks = iter(chunks)
        self.rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, without waiting for more than one chunk; negative: the rest of one."""
        while not self.rest:
            chunk = next(self.chunks, None)
            if chunk is None:
                return b""
            self.rest = chunk
        taken, self.rest = (self.rest, b"") if size < 0 else (self.rest[:size], self.rest[size:])
        return taken


_PLAIN_OF: dict[Packing, Callable[[_Received], Iterator[bytes]]] = {"gzip": _gunzip, "zstd": _unzstd, "plain": iter}
