"""Amplitude: responses of its Export API, from the API itself or from a folder of saved responses.

A response is a zip of `PROJECT/PROJECT_yyyy-MM-dd_H#part.json.gz`, JSON lines of one hour each. The hour is the hour of
*receipt* (`server_upload_time`), so late events come in later hours.
"""

from __future__ import annotations

import logging
import lzma
import re
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests

from onetouch.connections import Connection
from onetouch.lake import Lake
from onetouch.policy import Events, SourceSettings
from onetouch.sources.download import TIMEOUT, Wait, back_off, download
from onetouch.sources.folder import keep_file, leaves
from onetouch.sources.lines import JsonLines
from onetouch.sources.packing import Refused
from onetouch.sources.protocol import Source
from onetouch.sources.raw import ExportError, Fetched, RawFolder
from onetouch.sources.shape import Shape, TimeFormat

log = logging.getLogger(__name__)

HOST = "https://amplitude.com"
PATH = "/api/2/export"

_HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=365)  # the API refuses longer ranges
_CHUNK = 1 << 20
_MEMBER = re.compile(r"\d+_(\d{4}-\d\d-\d\d)_(\d{1,2})#\d+\.json\.gz")


def fetch(
    lake: Lake,
    into: str,
    start: datetime,
    end: datetime,
    limits: Events,
    *,
    connection: Connection | None = None,
    folder: Path | None = None,
    settings: SourceSettings | None = None,
    wait: Wait = back_off,
    timeout: tuple[float, float] = TIMEOUT,
) -> Fetched:
    """Keeps the hourly files from `start` up to `end` (both rounded down to the hour) below `into`.

    They come from `folder` (its `*.zip`, or the `*.json.gz` of unzipped responses), or from the API of `connection`
    (login = API key, password = secret key; no host = amplitude.com). Raises ExportError when neither can be read; a
    single file that cannot be read is refused and recorded. A zip entry whose name has no hour is refused as well, if
    its zip has an hour in the window or no hours at all.
    """
    start, end = (at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for at in (start, end))
    kept = RawFolder(lake, into, limits)
    if folder is not None:
        _from_folder(kept, Path(folder), start, end)
    elif connection is not None:
        with tempfile.TemporaryDirectory(prefix="amplitude-") as place:
            for answer in _answers(connection, start, end, Path(place), wait, timeout):
                _keep_zip(kept, answer, start, end)
                answer.unlink()
    else:
        raise ExportError("amplitude: give a folder of answers, or the connection amplitude_default")
    return kept.fetched


SOURCE = Source(
    name="amplitude",
    fetch=fetch,
    format=JsonLines(),
    shape=Shape(
        event_id=("uuid",),
        event=("event_type",),
        occurred_at=("event_time", "client_event_time"),
        project=("app", "project"),
        received_at=("server_upload_time", "server_received_time"),
        user_id=("user_id",),
        groups=("groups",),
        properties=("event_properties",),
        user_properties=("user_properties",),
        times=(
            TimeFormat("%Y-%m-%d %H:%M:%S.%f"),
            TimeFormat("%Y-%m-%d %H:%M:%S"),
            # not documented, but unambiguous
            TimeFormat("%Y-%m-%dT%H:%M:%S.%fZ"),
            TimeFormat("%Y-%m-%dT%H:%M:%SZ"),
        ),
    ),
)


def _from_folder(kept: RawFolder, folder: Path, start: datetime, end: datetime) -> None:
    if not folder.is_dir():
        raise ExportError(f"amplitude: {folder} is not a folder; give the one that holds the answers (*.zip)")
    zips = sorted(folder.glob("*.zip"))
    loose = sorted(folder.rglob("*.json.gz"))
    if not zips and not loose:
        raise ExportError(f"amplitude: {folder} holds no *.zip; give the folder of the Export API's answers")
    for answer in zips:
        if leaves(folder, answer):
            kept.refuse(answer.name, "unsafe_path", "a link leads out of the folder")
        else:
            _keep_zip(kept, answer, start, end)
    for path in loose:
        name = path.relative_to(folder).as_posix()
        hour = _hour(name)
        if hour is None:
            kept.refuse(name, "unknown_file", "is not named PROJECT_yyyy-MM-dd_H#part.json.gz")
        elif start <= hour < end:
            keep_file(kept, folder, path)


def _keep_zip(kept: RawFolder, answer: Path, start: datetime, end: datetime) -> None:
    """Keeps the members of one response whose hour is in the window."""
    try:
        archive = zipfile.ZipFile(answer)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        kept.refuse(answer.name, "bad_zip", str(error))
        return
    with archive:
        members = [(info, _hour(info.orig_filename)) for info in archive.infolist() if not info.is_dir()]
        hours = [hour for _, hour in members if hour is not None]
        concerns = not hours or any(start <= hour < end for hour in hours)
        for info, hour in members:
            if (start <= hour < end) if hour is not None else concerns:
                _keep_member(kept, answer.stem, archive, info, hour)


def _keep_member(
    kept: RawFolder, answer: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, hour: datetime | None
) -> None:
    name = info.orig_filename
    if _unsafe(name):
        kept.refuse(f"{answer}/{name}", "unsafe_path", "would leave its folder")
    elif hour is None:
        kept.refuse(f"{answer}/{name}", "unknown_file", "is not named PROJECT_yyyy-MM-dd_H#part.json.gz")
    elif info.flag_bits & 0x1:
        kept.refuse(f"{answer}/{name}", "encrypted", "needs a password")
    else:
        kept.keep(answer, name, _member(archive, info, kept.limits))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Events) -> Iterator[bytes]:
    """The bytes of a zip member as they are read. Raises Refused."""
    size = 0
    try:
        with archive.open(info) as file:
            while chunk := file.read(_CHUNK):
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


def _hour(name: str) -> datetime | None:
    """The hour of receipt in a file's name; None if the name has none."""
    found = _MEMBER.fullmatch(re.split(r"[/\\]", name)[-1])
    if found is None:
        return None
    try:
        return datetime.strptime(f"{found[1]} {int(found[2]):02d}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    except ValueError:
        return None


def _answers(
    connection: Connection, start: datetime, end: datetime, place: Path, wait: Wait, timeout: tuple[float, float]
) -> Iterator[Path]:
    """The API's responses for the window, one zip at a time; a window that is too large is halved."""
    url = connection.base_url(HOST) + PATH
    windows: deque[tuple[datetime, datetime]] = deque()
    while start < end:
        windows.append((start, min(start + _LONGEST, end)))
        start = windows[-1][1]
    with requests.Session() as session:
        session.trust_env = url.startswith("https:")  # no proxy from the environment for plain HTTP, which is loopback
        session.auth = (connection.login or "", connection.password or "")
        while windows:
            start, end = windows.popleft()
            params = {"start": f"{start:%Y%m%dT%H}", "end": f"{end - _HOUR:%Y%m%dT%H}"}  # both inclusive
            shown = f"amplitude {params['start']}–{params['end']}"
            target = place / f"{params['start']}-{params['end']}.zip"
            one_hour = end - start == _HOUR
            status = download(
                session,
                url,
                params,
                target,
                whole=zipfile.is_zipfile,
                wait=wait,
                timeout=timeout,
                retry_also=frozenset({504}) if one_hour else frozenset(),
            )
            if status == 200:
                yield target
            elif status == 404:
                log.info("%s: no data", shown)
            elif status in (400, 504) and not one_hour:
                middle = start + (end - start) // _HOUR // 2 * _HOUR
                windows.extendleft([(middle, end), (start, middle)])
            elif status in (401, 403):
                raise ExportError(
                    f"{shown}: the key was refused ({status}); check login (API key) and password "
                    f"(secret key) of connection {connection.conn_id}"
                )
            else:
                raise ExportError(f"{shown}: answered {status}; nothing of this window was read")
