"""Answers of Amplitude's Export API: a zip of one file an hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tests.contracts.sent import BAD, Sent
from tests.sources import answers


def _row(sent: Sent) -> dict[str, object] | bytes:
    if sent is BAD:
        return b'{"event_type": '
    stamp, received = (f"{moment:%Y-%m-%d %H:%M:%S.%f}" for moment in (sent.at, sent.received))
    return answers.event(
        1,
        uuid=sent.id,
        **{"$insert_id": f"insert-{sent.id}"},
        event_type=sent.event,
        user_id=sent.user,
        event_time=stamp,
        client_event_time=stamp,
        server_upload_time=received,
        server_received_time=received,
        event_properties=sent.properties,
        groups={"company": [sent.company]} if sent.company else {},
    )


def write(folder: Path, hour: datetime, rows: Sequence[Sent]) -> Path:
    path = folder / f"{hour:%Y%m%d%H}.zip"
    answers.answer(path, [(answers.member(hour), answers.packed(map(_row, rows)))])
    return path


def spoil(folder: Path, hour: datetime) -> None:
    """A file of that hour that cannot be read."""
    answers.answer(folder / "spoilt.zip", [(answers.member(hour), b"not packed at all")])
