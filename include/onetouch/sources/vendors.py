"""Whose export a file looks like, by its beginning: for the message about a file that is not this source's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_KEYS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Amplitude", frozenset({"event_type", "server_upload_time"})),
    ("KISSmetrics", frozenset({"_p", "_t"})),
    ("GA4 (BigQuery)", frozenset({"event_name", "event_timestamp", "event_params"})),
    ("GA4 (BigQuery)", frozenset({"event_name", "event_timestamp", "user_pseudo_id"})),
    ("Snowplow", frozenset({"collector_tstamp", "event_id"})),
    ("RudderStack", frozenset({"rudderId"})),
    ("Segment or RudderStack", frozenset({"messageId", "type"})),
    ("Segment or RudderStack", frozenset({"anonymousId", "receivedAt"})),
    ("PostHog", frozenset({"event", "distinct_id"})),
    ("PostHog", frozenset({"elements_chain"})),
    ("Storylane", frozenset({"buyer_reveal"})),
    ("Heap", frozenset({"heap_user_id"})),
    ("Heap", frozenset({"dump_id", "tables"})),
)
"""Keys that together are in the rows of one vendor only; the first entry that fits counts."""

_BEGINNINGS = (
    (b"PAR1", "Parquet, as PostHog's batch exports are"),
    (b"Obj\x01", "Avro, as Heap's exports are"),
    (b"SQLite format 3", "a database"),
    (b"\x37\x7a\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
)

_SNOWPLOW_TABS = 120  # enriched events are lines of 131 columns


def vendor_of(begin: bytes) -> str | None:
    """The vendor, or kind of file, that content which begins so looks like; None if it looks like nothing known."""
    for magic, kind in _BEGINNINGS:
        if begin.startswith(magic):
            return kind
    text = begin.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    line = text.partition("\n")[0]
    if text.startswith(("{", "[")):
        return _of_row(text)
    if re.match(r"(?i)<(!doctype html|html|head|body)", text):
        return "a web page, perhaps an error that was saved as a file"
    if text.startswith(("<?xml", "<Error")):
        return "an XML message, perhaps an error that was saved as a file"
    if line.count("\t") >= _SNOWPLOW_TABS:
        return "Snowplow"
    if "\t" in line:
        return "TSV (tab-separated values)"
    return "CSV" if re.match(r"[\w\s\"'.$-]+([,;][\w\s\"'.$-]+)+$", line) else None


def _of_row(text: str) -> str | None:
    text = text.lstrip("[ \t\r\n")
    try:
        row, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        row = dict.fromkeys(re.findall(r'"([^"\\]{1,60})"\s*:', text))
    return _of_keys(row) if isinstance(row, dict) else None


def _of_keys(row: Mapping[str, Any]) -> str | None:
    properties = row.get("properties")
    within = properties if isinstance(properties, dict) else row  # of a row that is cut off, keys of all depths
    if {"event", "properties"} <= row.keys() and {"distinct_id", "time"} <= within.keys():
        return "Mixpanel"
    return next((vendor for vendor, keys in _KEYS if keys <= row.keys()), None)
