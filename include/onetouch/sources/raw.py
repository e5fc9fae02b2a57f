"""Raw files: a vendor's files, kept in the lake as received after a check that they can be decompressed."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from onetouch.lake import Lake, key
from onetouch.policy import Events
from onetouch.sources.packing import Cut, Refused, packing_of, unpack


class ExportError(RuntimeError):
    """An export cannot be fetched or read. The message names source, window and fix, never a secret."""


@dataclass(frozen=True)
class RawFile:
    """One kept file: the vendor's name for it, its path below the raw folder, its size as received."""

    file: str
    path: str
    bytes: int


@dataclass(frozen=True)
class Refusal:
    """One file that was not kept, with the reason."""

    file: str
    reason: str
    detail: str = ""


@dataclass
class Fetched:
    """The result of a fetch: the kept and the refused files, in the order in which they were found."""

    files: list[RawFile] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The result as plain JSON values."""
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
        """Keeps the file `name` of the response `answer`; refuses it (nothing is written) if it cannot be decompressed
        safely.

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
                    for _ in unpack(stream, self.limits, packing_of(name)):
                        pass
                except Cut:
                    for _ in stream:
                        pass
        except Refused as refused:
            self.refuse(f"{answer}/{name}", refused.reason, refused.detail)
        else:
            self.fetched.files.append(RawFile(f"{answer}/{name}", path, written))

    def refuse(self, file: str, reason: str, detail: str = "") -> None:
        """Records a file that is not kept, with the reason."""
        self.fetched.refused.append(Refusal(file[:500], reason, detail[:200]))

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
