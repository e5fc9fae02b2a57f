"""Raw files: what a vendor sent, kept as received in the lake, each checked to unpack before it is kept."""

from __future__ import annotations

import json
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from onetouch.lake import Lake
from onetouch.lake.lake import key
from onetouch.policy.schema import Events

_PIECE = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


class ExportError(RuntimeError):
    """An export that could not be fetched or read. The message names source, window and fix, never a secret."""


class Refused(Exception):
    """A file that is not kept; `reason` is what quarantine counts it under."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Cut(Exception):
    """A file that ends early: what unpacked so far was given, the rest is lost. `reason` as in `Refused`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class RawFile:
    """One kept file: the vendor's name for it, its path below the raw folder, its size as received."""

    file: str
    path: str
    bytes: int


@dataclass(frozen=True)
class Refusal:
    """One file that was not kept, and why."""

    file: str
    reason: str
    detail: str = ""


@dataclass
class Fetched:
    """What a fetch brought: files kept and files refused, in the order they were met."""

    files: list[RawFile] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"files": [asdict(f) for f in self.files], "refused": [asdict(r) for r in self.refused]}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Fetched:
        """The reverse of `document`."""
        return cls([RawFile(**f) for f in document["files"]], [Refusal(**r) for r in document["refused"]])


class RawFolder:
    """The raw files of one fetch, below one folder of a lake."""

    def __init__(self, lake: Lake, folder: str, limits: Events) -> None:
        self.lake = lake
        self.folder = folder
        self.limits = limits
        self.fetched = Fetched()
        self._taken: set[str] = set()

    def keep(self, answer: str, name: str, chunks: Iterable[bytes]) -> None:
        """Keeps one gzip file `name` of `answer`; refuses it (nothing is written) when it cannot be unpacked safely.

        A file that ends early is kept: its complete lines are rows like any other.
        """
        path = self._place(answer, name)
        written = 0

        def received(out: IO[bytes]) -> Iterator[bytes]:
            nonlocal written
            for chunk in chunks:
                out.write(chunk)
                written += len(chunk)
                yield chunk

        try:
            with self.lake.writing(self.folder, path) as draft, self.lake.fs.open(draft, "wb") as out:
                stream = received(out)
                try:
                    for _ in unpack(stream, self.limits):
                        pass
                except Cut:
                    for _ in stream:
                        pass
        except Refused as refused:
            self.refuse(f"{answer}/{name}", refused.reason, refused.detail)
        else:
            self.fetched.files.append(RawFile(f"{answer}/{name}", path, written))

    def refuse(self, file: str, reason: str, detail: str = "") -> None:
        """Accounts for a file that is not kept."""
        self.fetched.refused.append(Refusal(file[:500], reason, detail[:200]))

    def _place(self, answer: str, name: str) -> str:
        """A safe path no other file of this fetch has, the same at each fetch of the same answers."""
        wanted = f"{key(answer)}/{key(posixpath.basename(name))}"
        path, again = wanted, 1
        while path in self._taken:
            again += 1
            path = f"{wanted},{again}"
        self._taken.add(path)
        return path


def unpack(chunks: Iterable[bytes], limits: Events) -> Iterator[bytes]:
    """The unpacked bytes of a gzip file in pieces of up to 1 MiB; concatenated gzip streams are one file.

    Raises Refused (`not_gzip`, `compression_bomb`, `file_too_large`) and, once everything readable was given,
    Cut (`truncated_file`, `corrupt_file`).
    """
    received = unpacked = 0
    stream = zlib.decompressobj(wbits=31)
    started = False
    for chunk in chunks:
        if not received and not _GZIP_MAGIC.startswith(chunk[:2]):
            raise Refused("not_gzip", "does not begin as a gzip file")
        received += len(chunk)
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
            unpacked += len(piece)
            if unpacked > limits.max_file_bytes:
                raise Refused("file_too_large", f"unpacks to more than {limits.max_file_bytes} bytes")
            if unpacked > received * limits.max_compression_ratio:
                raise Refused("compression_bomb", f"unpacks to more than {limits.max_compression_ratio} times its size")
            if piece:
                yield piece
    if not (started and stream.eof):
        yield stream.flush()
        raise Cut("truncated_file")


def _salvage(stream: Any, chunk: bytes) -> Iterator[bytes]:
    """What can be unpacked of a chunk before the error in it: byte by byte, as a failing call gives nothing."""
    for octet in chunk:
        try:
            yield stream.decompress(bytes((octet,)))
        except zlib.error:
            return


def write_manifest(lake: Lake, folder: str, document: dict[str, Any]) -> None:
    """Says that the raw folder is complete, and what is in it."""
    with lake.writing(folder, "extract.json") as draft, lake.fs.open(draft, "wb") as out:
        out.write(json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def read_manifest(lake: Lake, folder: str) -> dict[str, Any] | None:
    """What `write_manifest` said of the folder; None when it is not complete."""
    if not lake.exists(folder, "extract.json"):
        return None
    with lake.fs.open(lake.path(folder, "extract.json"), "rb") as file:
        return json.loads(file.read())
