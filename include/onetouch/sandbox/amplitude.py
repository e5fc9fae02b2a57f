"""The Amplitude Export API on a folder of zip files in the vendor's form."""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

API_KEY: Final = "sandbox-amplitude"
SECRET_KEY: Final = "sandbox-amplitude-secret"  # noqa: S105 - the stand-in's own, loopback only

_HOUR: Final = re.compile(r"\d{8}T\d{2}")
_MEMBER: Final = re.compile(r"(?:^|/)[^/]*_(\d{4}-\d\d-\d\d)_(\d{1,2})#\d+\.json\.gz$")
_MAX_RANGE: Final = timedelta(days=365)
_MAX_BYTES: Final = 4 * 1024**3
_DELAY: Final = timedelta(hours=2)  # an hour can be exported two hours after its end


@dataclass(frozen=True)
class _Member:
    """One hourly file inside one zip of the folder."""

    archive: Path
    name: str
    size: int


@dataclass
class Exports:
    """The folder, indexed by hour of upload; read again when a zip changes."""

    folder: Path | None
    _read: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _hours: dict[datetime, list[_Member]] = field(default_factory=dict)

    def between(self, start: datetime, end: datetime) -> list[_Member]:
        """The files of the hours from `start` to `end`, both included."""
        self._refresh()
        return [m for hour in sorted(self._hours) if start <= hour <= end for m in self._hours[hour]]

    def _refresh(self) -> None:
        if not self.folder or not self.folder.is_dir():
            self._hours = {}
            return
        found = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(self.folder.glob("*.zip"))}
        if found == self._read:
            return
        hours: dict[datetime, list[_Member]] = {}
        for path in found:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if match := _MEMBER.search(info.filename):
                        hour = datetime.strptime(f"{match[1]} {match[2]} +0000", "%Y-%m-%d %H %z")
                        hours.setdefault(hour, []).append(_Member(path, info.filename, info.compress_size))
        self._hours, self._read = hours, found


def export(
    exports: Exports, query: Mapping[str, str], authorization: str, now: datetime, most_hours: int
) -> tuple[int, str, IO[bytes] | None]:
    """GET /api/2/export: status, a message for errors, or the zip as an open temporary file."""
    if not _authorised(authorization):
        return 403, "Incorrect API key or secret key", None
    try:
        start, end = (_hour(query.get(name, "")) for name in ("start", "end"))
    except ValueError as error:
        return 400, f"Invalid start or end: {error}; both are YYYYMMDDTHH", None
    if end < start:
        return 400, "The end of the range is before its start", None
    if end - start >= _MAX_RANGE:
        return 400, "The range is longer than 365 days", None
    newest = now - _DELAY - timedelta(hours=1)
    members = exports.between(start, min(end, newest))
    if not members:
        return 404, "Raw data files were not found.", None
    if sum(member.size for member in members) > _MAX_BYTES:
        return 400, "The file size of the exported data is too large: the maximum is 4 GB", None
    if (end - start) / timedelta(hours=1) + 1 > most_hours:
        return 504, "The amount of data is large causing a timeout", None
    answer = tempfile.TemporaryFile()  # noqa: SIM115 - the caller streams it and closes it
    with zipfile.ZipFile(answer, "w", zipfile.ZIP_STORED) as archive:
        opened: dict[Path, zipfile.ZipFile] = {}
        try:
            for member in members:
                if member.archive not in opened:
                    opened[member.archive] = zipfile.ZipFile(member.archive)
                archive.writestr(zipfile.ZipInfo(member.name), opened[member.archive].read(member.name))
        finally:
            for source in opened.values():
                source.close()
    answer.seek(0)
    return 200, "", answer


def _hour(text: str) -> datetime:
    if not _HOUR.fullmatch(text):
        raise ValueError(repr(text))
    return datetime.strptime(text, "%Y%m%dT%H").replace(tzinfo=UTC)


def _authorised(authorization: str) -> bool:
    kind, _, value = authorization.partition(" ")
    try:
        given = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return kind.lower() == "basic" and given == f"{API_KEY}:{SECRET_KEY}"
