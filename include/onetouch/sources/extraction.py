"""The extraction of one source's window for a run: the files are kept in the lake as received."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from onetouch.connections import Connection
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.sources.raw import ExportError, Fetched, read_manifest, write_manifest
from onetouch.sources.registry import source_of


def extract(
    source: str,
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    *,
    connection: Connection | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Keeps the run's window of a source under `raw/{source}/{run_id}/`; returns window, files, bytes and refusals.

    The window comes from the ledger: it begins at the watermark less the policy's overlap, or on the day the product
    began. Once the folder is complete (its `extract.json` is written last) a re-run fetches nothing, so the received
    files stay unchanged. Raises ExportError.
    """
    vendor = source_of(source)
    window = ledger.window(run, source, timedelta(hours=policy.events.overlap_hours), policy.events.product_since_at)
    at = raw_folder(source, run)
    manifest = read_manifest(lake, at)
    if manifest is None:
        lake.remove(at)  # files that a killed fetch left behind
        fetched = vendor.fetch(
            lake, at, window.start, window.end, policy.events,
            connection=connection, folder=folder, settings=policy.source_settings(source),
        )  # fmt: skip
        manifest = {
            "source": source,
            "window": [window.start.isoformat(), window.end.isoformat()],
            **fetched.document(),
        }
        write_manifest(lake, at, manifest)
    return {
        "source": source,
        "window": manifest["window"],
        "files": len(manifest["files"]),
        "bytes": sum(f["bytes"] for f in manifest["files"]),
        "refused": dict(sorted(Counter(r["reason"] for r in manifest["refused"]).items())),
    }


def extracted(source: str, lake: Lake, run: Run) -> dict[str, Any] | None:
    """The manifest of a complete extraction {source, window, files, refused}; None if there is none."""
    return read_manifest(lake, raw_folder(source, run))


def read_rows(source: str, lake: Lake, policy: Policy, run: Run) -> Iterator[pa.RecordBatch]:
    """The rows of the files that `extract` kept, as batches of `sources.ROWS`. Raises ExportError when the extraction
    is not complete."""
    at = raw_folder(source, run)
    manifest = read_manifest(lake, at)
    if manifest is None:
        raise ExportError(f"{source}: run {run.run_id} holds no complete extraction; extract_events comes first")
    return source_of(source).read(lake, at, Fetched.of(manifest), policy.events)


def fetch_rows(
    source: str,
    policy: Policy,
    start: datetime,
    end: datetime,
    *,
    connection: Connection | None = None,
    folder: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of a source's window as batches of `sources.ROWS`, fetched to a temporary folder that is then removed.

    `end` is rounded up to the full hour, because callers want the newest events. Raises ExportError.
    """
    vendor = source_of(source)
    whole = end.replace(minute=0, second=0, microsecond=0)
    end = whole if whole == end else whole + timedelta(hours=1)
    with tempfile.TemporaryDirectory(prefix="onetouch-") as place:
        lake = Lake(place)
        fetched = vendor.fetch(
            lake, "window", start, end, policy.events,
            connection=connection, folder=folder, settings=policy.source_settings(source),
        )  # fmt: skip
        yield from vendor.read(lake, "window", fetched, policy.events)


def raw_folder(source: str, run: Run) -> str:
    """The folder of a run's raw files of a source."""
    return f"raw/{source}/{run.run_id}"
