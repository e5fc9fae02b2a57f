"""Raw files: a vendor's files, kept in the lake as received after a check that they can be decompressed."""

from __future__ import annotations

import hashlib
import json
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import IO, Any

from onetouch.lake import Lake, key
from onetouch.policy import Events
from onetouch.sources.packing import Cut, Refused, packing_of, unpack


class ExportError(RuntimeError):
    """An export cannot be fetched or read. The message names source, window and fix, never a secret."""


@dataclass(frozen=True)
class RawFile:
    """One kept file: the vendor's name for it, its path below the raw folder, its size and CRC-32 as received.

    `crc` is empty for a file that an earlier release kept.
    """

    file: str
    path: str
    bytes: int
    crc: str = ""

    @property
    def identity(self) -> str:
        """See `identity_of`."""
        return identity_of(self.file, self.bytes, self.crc)


def identity_of(file: str, size: int, crc: str) -> str:
    """A digest of a file's name, without the folder or the response that holds it, and of its content.

    The content is known by its size and its CRC-32, which a zip states of its entries, so that an entry need not be
    read to be recognised. Two files of one name and size have the same CRC-32 by chance once in 4 billion times.
    """
    return hashlib.sha256(f"{posixpath.basename(file)}\0{size}\0{crc}".encode("utf-8", "surrogatepass")).hexdigest()


def crc_of(chunks: Iterable[bytes]) -> str:
    """The CRC-32 of some bytes."""
    found = 0
    for chunk in chunks:
        found = zlib.crc32(chunk, found)
    return f"{found:08x}"


@dataclass(frozen=True)
class Refusal:
    """One file that was not kept, with the reason."""

    file: str
    reason: str
    detail: str = ""

    @property
    def identity(self) -> str:
        """A digest of the file's name."""
        return hashlib.sha256(self.file.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Fetched:
    """The result of a fetch: the kept and the refused files, in the order in which they were found.

    `known`: the number of files that were left out because an earlier run had read or refused them.
    """

    files: list[RawFile] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    known: int = 0

    def document(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "files": [asdict(f) for f in self.files],
            "refused": [asdict(r) for r in self.refused],
            "known": self.known,
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> Fetched:
        """The reverse of `document`."""
        files = [RawFile(**f) for f in document["files"]]
        return cls(files, [Refusal(**r) for r in document["refused"]], document.get("known", 0))


@dataclass(frozen=True)
class Known:
    """What earlier runs have read of a source, which is not read again.

    `files`: the identities of files read (`RawFile.identity`). `refused`: identity and reason of files refused, which
    are not counted again if their rows were received before `since`.
    """

    files: frozenset[str]
    refused: frozenset[tuple[str, str]]
    since: datetime

    def has_file(self, file: str, size: int, crc: str) -> bool:
        """Whether a file of that name and content was read. Earlier releases did not note the content."""
        return identity_of(file, size, crc) in self.files or identity_of(file, size, "") in self.files


class RawFolder:
    """The raw files of one fetch, below one folder of a lake."""

    def __init__(self, lake: Lake, folder: str, limits: Events, known: Known | None = None) -> None:
        self.lake = lake
        self.folder = folder
        self.limits = limits
        self.known = known
        self.fetched = Fetched()
        self._taken: set[str] = set()
        self._identities: set[str] = set()

    def has_read(self, name: str, size: int, crc: str) -> bool:
        """Whether an earlier run, or this fetch, has read the same file, which is then counted and left out."""
        if self.known is None:
            return False
        again = identity_of(name, size, crc) in self._identities or self.known.has_file(name, size, crc)
        self.fetched.known += again
        return again

    def keep(self, answer: str, name: str, chunks: Iterable[bytes], moment: datetime | None = None) -> None:
        """Keeps the file `name` of the response `answer`; refuses it (nothing is written) if it cannot be decompressed
        safely.

        A file that ends early is kept: its complete lines are rows like any other. `moment`: when the receipt of the
        file's rows began.
        """
        path = self._place(answer, name)
        written, crc = 0, 0

        def received(out: IO[bytes]) -> Iterator[bytes]:
            nonlocal written, crc
            for chunk in chunks:
                out.write(chunk)
                written += len(chunk)
                crc = zlib.crc32(chunk, crc)
                yield chunk

        try:
            with self.lake.writing(self.folder, path) as draft, self.lake.fs.open(draft, "wb") as out:
                stream = received(out)
                try:
                    for _ in unpack(stream, self.limits, packing_of(name)):
                        pass
                except Cut:
                    for _ in stream:
                        pass
        except Refused as refused:
            self.refuse(f"{answer}/{name}", refused.reason, refused.detail, moment)
        else:
            self.fetched.files.append(RawFile(f"{answer}/{name}", path, written, f"{crc:08x}"))
            self._identities.add(self.fetched.files[-1].identity)

    def refuse(self, file: str, reason: str, detail: str = "", moment: datetime | None = None) -> None:
        """Records a file that is not kept, with the reason. `moment`: when the receipt of its rows began, if known."""
        refusal = Refusal(file[:500], reason, detail[:200])
        known = self.known
        if (
            known is not None
            and (refusal.identity, reason) in known.refused
            and (moment is None or moment < known.since)
        ):
            self.fetched.known += 1
        else:
            self.fetched.refused.append(refusal)

    def _place(self, answer: str, name: str) -> str:
        """A safe path that no other file of this fetch has; every fetch of the same responses gives the same paths."""
        place = key(posixpath.basename(name))
        if packing_of(place) != packing_of(name):  # `key` replaces a name that is too long, so its suffix was lost
            place += {"gzip": ".gz", "zstd": ".zst", "plain": ""}[packing_of(name)]
        wanted = f"{key(answer)}/{place}"
        path, again = wanted, 1
        while path in self._taken:
            again += 1
            path = f"{wanted},{again}"
        self._taken.add(path)
        return path


def write_manifest(lake: Lake, folder: str, document: dict[str, Any]) -> None:
    """Writes the manifest of a raw folder, which marks the folder as complete and lists its files."""
    with lake.writing(folder, "extract.json") as draft, lake.fs.open(draft, "wb") as out:
        out.write(json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def read_manifest(lake: Lake, folder: str) -> dict[str, Any] | None:
    """The manifest that `write_manifest` wrote; None if the folder is not complete."""
    if not lake.exists(folder, "extract.json"):
        return None
    with lake.fs.open(lake.path(folder, "extract.json"), "rb") as file:
        document: dict[str, Any] = json.loads(file.read())
    return document
