"""The extraction of one source's window for a run: the files are kept in the lake as received."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from onetouch.connections import Connection
from onetouch.lake import Lake
from onetouch.ledger import ANY_READING, FileRead, Ledger, Run
from onetouch.policy import Policy
from onetouch.sources.raw import ExportError, Fetched, Known, read_manifest, write_manifest
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
    """Keeps the run's new files of a source under `raw/{source}/{run_id}/`.

    Returns {source, window, files, bytes, refused, already_read, waiting}. An API is asked for a window of receipt
    times, which begins at the watermark less the policy's overlap, or on the day the product began; a folder is read
    whole. Of both, files that an earlier run has read (`already_read` counts them) are left out. Once the raw folder is
    complete (its `extract.json` is written last) a re-run fetches nothing, so the received files stay unchanged;
    `waiting` is the number of files that have been added to `folder` since and are left to a later run.
    Runs at the same source wait for one another. Raises ExportError.
    """
    vendor, at = source_of(source), raw_folder(source, run)
    overlap = timedelta(hours=policy.events.overlap_hours)
    waiting = 0
    with ledger.alone_at(source, "extract"):
        window = ledger.window(run, source, overlap, policy.events.product_since_at, from_first=folder is not None)
        known = known_files(source, lake, ledger, policy, run)
        manifest = read_manifest(lake, at)
        if manifest is None:
            lake.remove(at)  # files that a killed fetch left behind
            fetched = vendor.fetch(
                lake, at, window.start, window.end, policy.events,
                connection=connection, folder=folder, settings=policy.source_settings(source), known=known,
            )  # fmt: skip
            manifest = {
                "source": source,
                "window": [window.start.isoformat(), window.end.isoformat()],
                **fetched.document(),
            }
            write_manifest(lake, at, manifest)
        elif folder is not None:
            own = frozenset(file.identity for file in Fetched.of(manifest).files)
            with suppress(ExportError), tempfile.TemporaryDirectory(prefix="onetouch-") as place:
                added = vendor.fetch(
                    Lake(place), "added", window.start, window.end, policy.events,
                    folder=folder, settings=policy.source_settings(source),
                    known=replace(known, files=known.files | own),
                )  # fmt: skip
                waiting = len(added.files)
    return {
        "source": source,
        "window": manifest["window"],
        "files": len(manifest["files"]),
        "bytes": sum(f["bytes"] for f in manifest["files"]),
        "refused": dict(sorted(Counter(r["reason"] for r in manifest["refused"]).items())),
        "already_read": manifest.get("known", 0),
        "waiting": waiting,
    }


def known_files(source: str, lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> Known:
    """What earlier runs have read of a source, by the same keys of the policy.

    A file is read again when a key changes by which its rows are judged: a row that was rejected may then be an event.
    """
    remember_files(source, lake, ledger)
    reading = reading_of(source, policy)
    files = ledger.files_read(source, dry=run.dry_run)
    return Known(
        files=frozenset(file.identity for file in files if not file.reason and file.reading in (reading, ANY_READING)),
        refused=frozenset((file.identity, file.reason) for file in files if file.reason and file.reading == reading),
        since=run.as_of - timedelta(hours=policy.events.overlap_hours),
    )


def remember_files(source: str, lake: Lake, ledger: Ledger) -> None:
    """Records the files that runs of earlier releases have read, which only their manifests name; once."""
    if ledger.files_read(source, dry=True):
        return
    for run in ledger.runs_of(source):
        manifest = extracted(source, lake, run)
        if manifest is not None and "known" not in manifest:
            kept = (FileRead(file.identity, ANY_READING) for file in Fetched.of(manifest).files)
            ledger.record_files(run.run_id, source, kept)


def reading_of(source: str, policy: Policy) -> str:
    """A digest of the keys of the policy by which the files and rows of a source are judged."""
    judged = policy.events.model_dump(mode="json", exclude={"overlap_hours"})
    text = json.dumps([judged, policy.source_settings(source).timezone], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
