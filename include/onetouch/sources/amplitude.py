"""Amplitude: responses of its Export API, from the API itself or from a folder of saved responses.

A response is a zip of `PROJECT/PROJECT_yyyy-MM-dd_H#part.json.gz`, JSON lines of one hour each. The hour is the hour of
*receipt* (`server_upload_time`), so late events come in later hours.
"""

from __future__ import annotations

import logging
import re
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests

from onetouch.connections import Connection
from onetouch.lake import Lake
from onetouch.policy import Events, SourceSettings
from onetouch.sources.download import TIMEOUT, Wait, back_off, download
from onetouch.sources.entries import Named, keep_folder, keep_zip
from onetouch.sources.json_rows import Json
from onetouch.sources.protocol import Source
from onetouch.sources.raw import ExportError, Fetched, Known, RawFolder
from onetouch.sources.shape import ISO, Shape, TimeFormat

log = logging.getLogger(__name__)

HOST = "https://amplitude.com"
PATH = "/api/2/export"

_HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=365)  # the API refuses longer ranges
_NAMED = "PROJECT_yyyy-MM-dd_H#part.json.gz"
_MEMBER = re.compile(  # `%23` where a tool wrote the address of the file; ` (1)` where a browser had one of that name
    r"""\d+_(\d{4}-\d\d-\d\d)_(\d{1,2})((\#|%23)\d+)?([ ]?\(\d+\))?
    (\.jsonl?)?([ ]?\(\d+\))?(\.(gz|gzip|zst|zstd))?([ ]?\(\d+\))?""",
    re.IGNORECASE | re.VERBOSE,
)
_MERGED = re.compile(r"-\d+_\d{4}-\d\d-\d\d.*\.json(?:\.gz)?", re.IGNORECASE)


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
    known: Known | None = None,
    wait: Wait = back_off,
    timeout: tuple[float, float] = TIMEOUT,
) -> Fetched:
    """Keeps the hourly files from `start` up to `end` (both rounded down to the hour) below `into`.

    They come from `folder` (zips by content or name, also within zips and subfolders, and unzipped hourly files,
    compressed or not), or from the API of `connection` (login = API key, password = secret key; no host =
    amplitude.com). Raises ExportError when neither can be read; a single file that cannot be read, or whose name has no
    hour, is refused and recorded.
    """
    start, end = (at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for at in (start, end))
    kept = RawFolder(lake, into, limits, known)
    named = Named(_hour, start, end, _NAMED, _no_events)
    if folder is not None:
        _from_folder(kept, Path(folder), named)
    elif connection is not None:
        with tempfile.TemporaryDirectory(prefix="amplitude-") as place:
            for answer in _answers(connection, start, end, Path(place), wait, timeout):
                with answer.open("rb") as file:
                    keep_zip(kept, answer.name, file, named)
                answer.unlink()
    else:
        raise ExportError("amplitude: give a folder of answers, or the connection amplitude_default")
    return kept.fetched


SOURCE = Source(
    name="amplitude",
    fetch=fetch,
    format=Json(),
    shape=Shape(
        event_id=("uuid",),
        event=("event_type",),
        occurred_at=("event_time", "client_event_time"),
        project=("app", "project"),
        received_at=("server_upload_time", "server_received_time"),
        user_id=("user_id",),
        anonymous_id=("device_id", "amplitude_id"),
        groups=("groups",),
        properties=("event_properties",),
        user_properties=("user_properties",),
        # `processed_time` and others are written anew at every export
        told_apart=("$insert_id", "device_id", "event_id", "session_id", "client_event_time"),
        # Amplitude itself counts an event once that is sent again within seven days (its HTTP API's `insert_id`)
        sent_id=("$insert_id", "device_id"),
        sent_days=7,
        times=(
            TimeFormat("%Y-%m-%d %H:%M:%S.%f"),
            TimeFormat("%Y-%m-%d %H:%M:%S"),
            TimeFormat(ISO),  # not documented, but unambiguous
        ),
    ),
)


def _from_folder(kept: RawFolder, folder: Path, named: Named) -> None:
    if not folder.is_dir():
        raise ExportError(f"amplitude: {folder} is not a folder; give the one that holds the answers (*.zip)")
    if keep_folder(kept, folder, named) == 0:
        what = "; ".join(f"{one.file} {one.detail}" for one in kept.fetched.refused[:3])
        raise ExportError(
            f"amplitude: {folder} holds no *.zip and no {_NAMED}; give the folder of the Export API's answers"
            + (f" ({what})" if what else "")
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


def _no_events(name: str) -> str | None:
    is_merged = _MERGED.fullmatch(re.split(r"[/\\]", name)[-1])
    return "ids of people that Amplitude merged, no events" if is_merged else None


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
