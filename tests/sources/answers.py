"""Answers as Amplitude's Export API gives them, made by hand."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

PROJECT = 424242


def event(number: int, **changes: Any) -> dict[str, Any]:
    """A plausible row; `changes` replace its fields, None removes one."""
    row = {
        "$insert_id": f"i{number}",
        "amplitude_id": number,
        "app": PROJECT,
        "client_event_time": "2025-03-01 09:59:00.000000",
        "device_id": "d",
        "event_id": number,
        "event_properties": {"n": number},
        "event_time": "2025-03-01 10:00:00.000000",
        "event_type": "report_created",
        "groups": {},
        "server_received_time": "2025-03-01 10:05:00.000000",
        "server_upload_time": "2025-03-01 10:05:00.000000",
        "session_id": -1,
        "user_id": f"u{number}",
        "user_properties": {},
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
    } | changes
    return {name: value for name, value in row.items() if value is not None}


def nobody(number: int, **changes: Any) -> dict[str, Any]:
    """A row that says nothing of whose it is, not even by a device."""
    return event(number, **({"user_id": None, "device_id": None, "amplitude_id": None} | changes))


def text(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode()


def lines(rows: Iterable[dict[str, Any] | bytes]) -> bytes:
    return b"".join((row if isinstance(row, bytes) else text(row)) + b"\n" for row in rows)


def packed(rows: Iterable[dict[str, Any] | bytes]) -> bytes:
    return gzip.compress(lines(rows), mtime=0)


def member(hour: datetime, part: int = 0) -> str:
    return f"{PROJECT}/{PROJECT}_{hour:%Y-%m-%d}_{hour.hour}#{part}.json.gz"


def answer(path: Path | None, members: Iterable[tuple[str, bytes]]) -> bytes:
    """A zip of these members, written to `path` when there is one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    if path is not None:
        path.write_bytes(buffer.getvalue())
    return buffer.getvalue()
