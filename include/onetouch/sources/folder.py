"""Reads a folder of files that are named after the time of receipt; most sources can be read from such a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from onetouch.connections import Connection
from onetouch.lake import Lake
from onetouch.policy import Events, SourceSettings
from onetouch.sources.raw import ExportError, Fetched, Known, RawFolder, crc_of

CHUNK = 1 << 20


@dataclass(frozen=True)
class DatedFiles:
    """Fetches the files of a folder and its subfolders that, by their names, were received in the window.

    `pattern`: a strptime pattern of a file's name (`events_%Y-%m-%dT%H.csv`): the UTC moment, in the precision of the
    pattern, at which the receipt of the file's rows began. `source`: the name of the source, for messages.
    """

    source: str
    pattern: str

    def __call__(
        self,
        lake: Lake,
        into: str,
        start: datetime,
        end: datetime,
        limits: Events,
        *,
        connection: Connection | None = None,
        folder: Path | None = None,
        settings: SourceSettings | None = None,
        known: Known | None = None,
    ) -> Fetched:
        """See `protocol.Fetch`."""
        if folder is None:
            raise ExportError(f"{self.source}: is read from files; give the folder that holds them (--exports)")
        kept = RawFolder(lake, into, limits, known)
        for name, path in files_of(self.source, Path(folder), self.pattern):
            moment = self._moment(path.name)
            if moment is None:
                kept.refuse(name, "unknown_file", f"is not named {self.pattern}")
            elif start <= moment < end:
                keep_file(kept, Path(folder), path, moment)
        return kept.fetched

    def _moment(self, name: str) -> datetime | None:
        try:
            return datetime.strptime(name, self.pattern).replace(tzinfo=UTC)
        except ValueError:
            return None


def files_of(source: str, folder: Path, wanted: str) -> Iterator[tuple[str, Path]]:
    """Name (below the folder) and path of every file in a folder and its subfolders, sorted, without hidden files.

    Raises ExportError when the folder does not exist or has no files; its message gives `wanted`, the expected files.
    """
    if not folder.is_dir():
        raise ExportError(f"{source}: {folder} is not a folder; give the one that holds the files ({wanted})")
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not found:
        raise ExportError(f"{source}: {folder} holds no file; give the folder of the files ({wanted})")
    for path in found:
        yield path.relative_to(folder).as_posix(), path


def keep_file(kept: RawFolder, folder: Path, path: Path, moment: datetime) -> None:
    """Keeps a file of a folder unless it was read before; a link to a file outside the folder is refused.

    `moment`: when the receipt of its rows began.
    """
    name = path.relative_to(folder).as_posix()
    if leaves(folder, path):
        kept.refuse(name, "unsafe_path", "a link leads out of the folder", moment)
        return
    if kept.known is not None and kept.has_read(name, path.stat().st_size, crc_of(chunks_of(path))):
        return
    kept.keep(path.relative_to(folder).parent.name or folder.name, name, chunks_of(path), moment)


def chunks_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file."""
    with path.open("rb") as file:
        yield from iter(partial(file.read, CHUNK), b"")


def leaves(folder: Path, path: Path) -> bool:
    """Whether a path in the folder is a link to something outside it."""
    return not path.resolve().is_relative_to(folder.resolve())
