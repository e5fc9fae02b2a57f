"""Files of the toy with a reader of its own; its project's clock is Berlin's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from tests.contracts.sent import BAD, Sent

TIMEZONE = "Europe/Berlin"


def _line(sent: Sent) -> str:
    if sent is BAD:
        return "id=1;no sign"
    at, received = (f"{m.astimezone(ZoneInfo(TIMEZONE)):%d.%m.%Y %H:%M:%S}" for m in (sent.at, sent.received))
    values = {"id": sent.id, "what": sent.event, "who": sent.user, "company": sent.company, "at": at}
    values |= {"received": received, **sent.properties}
    return ";".join(f"{key}={value}" for key, value in values.items() if value is not None)


def write(folder: Path, hour: datetime, rows: Sequence[Sent]) -> Path:
    path = folder / f"pairs_{hour:%Y%m%d%H}.zst"
    path.write_bytes(pa.compress("".join(_line(row) + "\n" for row in rows).encode(), "zstd", asbytes=True))
    return path


def spoil(folder: Path, hour: datetime) -> None:
    (folder / f"pairs_{hour:%Y%m%d}{hour.hour:02d}.zst").write_bytes(b"not packed at all")
