"""Raw files: a vendor's files, kept in the lake as received after a check that they can be decompressed."""

from __future__ import annotations

import hashlib
import json
import posixpath
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import IO, Any

from onetouch.lake import Lake, key
from onetouch.policy import Events
from onetouch.sources.packing import Cut, Packing, Refused, packing_by_content, packing_of, unpack
from onetouch.sources.vendors import vendor_of


class ExportError(RuntimeError):
    """An export cannot be fetched or read. The message names source, window and fix, never a secret."""


@dataclass(frozen=True)
class RawFile:
    """One kept file: the vendor's name for it, its path below the raw folder, its size and CRC-32 as received.

    `crc` is empty for a file that an earlier release kept. `hour`: when the receipt of its rows began, by its name
    (empty: unknown). `cut`: why its end is missing (empty: it is whole). `is_empty`: it has no row.
    """

    file: str
    path: str
    bytes: int
    crc: str = ""
    hour: str = ""
    cut: str = ""
    is_empty: bool = False

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
    """One file that was not kept, with the reason. `hours`: those whose rows it held, as far as names tell."""

    file: str
    reason: str
    detail: str = ""
    bytes: int = 0
    hours: list[str] = field(default_factory=list)

    @property
    def identity(self) -> str:
        """A digest of the file's name."""
        return hashlib.sha256(self.file.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Fetched:
    """The result of a fetch: the kept, the refused and the ignored files, in the order in which they were found.

    An ignored file is nobody's data, for example one that an operating system adds; it is listed with the reason.
    `known`: the number of files that were left out because an earlier run had read or refused them.
    """

    files: list[RawFile] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ignored: list[Refusal] = field(default_factory=list)
    known: int = 0

    def document(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        lists = {name: [asdict(one) for one in getattr(self, name)] for name in ("files", "refused", "ignored")}
        return {**lists, "known": self.known}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Fetched:
        """The reverse of `document`, also of one that an earlier release wrote."""
        return cls(
            files=[RawFile(**f) for f in document["files"]],
            refused=[Refusal(**r) for r in document["refused"]],
            ignored=[Refusal(**r) for r in document.get("ignored", [])],
            known=document.get("known", 0),
        )

    @property
    def coverage(self) -> Coverage:
        """The hours of the files, and what became of them."""
        whole = {posixpath.basename(file.file) for file in self.files if not file.cut}
        parts: dict[str, list[int]] = {}  # hour → number of its files, of those that are lost, of those without a row
        for file in self.files:
            if file.hour:
                damaged = bool(file.cut) and posixpath.basename(file.file) not in whole
                _add(parts, file.hour, 1, damaged, file.is_empty)
        for refusal in self.refused:
            if posixpath.basename(refusal.file) not in whole:  # another export of the same hour may have it
                for hour in refusal.hours:
                    _add(parts, hour, 1, 1, 0)
        damaged_hours = [hour for hour, (_, lost, _) in parts.items() if lost]
        return Coverage(
            expected=len(parts),
            seen=sum(files > lost for files, lost, _ in parts.values()),
            damaged=len(damaged_hours),
            empty=sum(empty == files for files, _, empty in parts.values()),
            lost=round(sum(lost / files for files, lost, _ in parts.values()), 3),
            first_damaged=min(damaged_hours, default=None),
        )


@dataclass(frozen=True)
class Coverage:
    """How completely the hours were read that the names of a fetch's files tell.

    `expected`: all of them; a vendor that has no file for an hour without events tells of no such hour. `seen`: those
    of which a file was read. `damaged`: those of which a file is lost, or its end. `empty`: those whose files have no
    row. `lost`: the sum of the damaged hours, each by its share of damaged files.
    """

    expected: int
    seen: int
    damaged: int
    empty: int
    lost: float
    first_damaged: str | None

    def document(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)


def _add(parts: dict[str, list[int]], hour: str, *counts: int) -> None:
    parts[hour] = [known + more for known, more in zip(parts.get(hour, [0, 0, 0]), counts, strict=True)]


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

        A file that ends early is kept: its complete lines are rows like any other; one without any content is one
        without rows. Its compression is that of its content, whatever its name says. `moment`: when the receipt of its
        rows began, if its name says so.
        """
        chunks = iter(chunks)
        written, crc, is_empty, cut = 0, 0, True, ""
        try:
            begin = next(chunks, b"")
        except Refused as refused:
            self.refuse(f"{answer}/{name}", refused.reason, refused.detail, moment)
            return
        chunks = chain([begin], chunks)
        packing = packing_by_content(begin, name)
        path = self._place(answer, name, packing)

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
                    for piece in unpack(stream, self.limits, packing) if begin else ():
                        is_empty = is_empty and not piece.strip()
                except Cut as early:
                    cut = early.reason
                    for _ in stream:
                        pass
        except Refused as refused:
            looks = vendor_of(begin) if refused.reason.startswith("not_") else None
            detail = f"{refused.detail}; looks like {looks}" if looks else refused.detail
            self.refuse(f"{answer}/{name}", refused.reason, detail, moment, size=written)
        else:
            is_empty = is_empty and not cut
            file = RawFile(f"{answer}/{name}", path, written, f"{crc:08x}", _hour(moment), cut, is_empty)
            self.fetched.files.append(file)
            self._identities.add(file.identity)

    def refuse(
        self,
        file: str,
        reason: str,
        detail: str = "",
        moment: datetime | None = None,
        *,
        size: int = 0,
        moments: Sequence[datetime] = (),
    ) -> None:
        """Records a file that is not kept, with the reason.

        `moment`: when the receipt of its rows began, if known; `moments`: of a file that held several. `size`: its
        number of bytes, if known.
        """
        received = [*([moment] if moment else []), *moments]
        refusal = Refusal(file[:500], reason, detail[:200], size, [_hour(one) for one in received])
        known = self.known
        if (
            known is not None
            and (refusal.identity, reason) in known.refused
            and all(one < known.since for one in received)
        ):
            self.fetched.known += 1
        else:
            self.fetched.refused.append(refusal)

    def ignore(self, file: str, why: str) -> None:
        """Records a file that is nobody's data."""
        self.fetched.ignored.append(Refusal(file[:500], why))

    def _place(self, answer: str, name: str, packing: Packing) -> str:
        """A safe path that no other file of this fetch has; every fetch of the same responses gives the same paths.

        Its suffix tells the compression, whatever the name does.
        """
        place = key(posixpath.basename(name))
        if packing_of(place) != packing:
            place += {"gzip": ".gz", "zstd": ".zst", "plain": ".json"}[packing]
        wanted = f"{key(answer)}/{place}"
        path, again = wanted, 1
        while path in self._taken:
            again += 1
            path = f"{wanted},{again}"
        self._taken.add(path)
        return path


def _hour(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


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
