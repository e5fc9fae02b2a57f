"""Parts of an event are found wherever a source's shape says they stand, and times are read as it writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from onetouch import sources
from onetouch.events.identity import Who, who
from onetouch.policy import Events, Policy, read_policy
from onetouch.sources import EPOCH_MILLISECONDS, EPOCH_SECONDS, ISO, Shape, Source, TimeFormat
from onetouch.sources.folder import DatedFiles
from onetouch.sources.lines import JsonLines
from onetouch.sources.shape import steps

from tests.contracts.home import Home
from tests.contracts.sent import HOUR

USUAL: dict[str, Any] = {
    "event_id": ("meta.ids.0",),
    "event": ("event",),
    "occurred_at": ("properties.time",),
    "received_at": ("properties.mp_processing_time_ms", "properties.time"),
    "user_id": ("properties.$user_id", "properties.distinct_id"),
    "groups": ("properties",),
    "group": ("context.groupId",),
    "properties": ("properties",),
    "user_properties": ("context.traits",),
    "email": ("lead.email",),
    "times": (TimeFormat(EPOCH_MILLISECONDS),),
}


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The events, or with `bad` the reasons, of these rows under a shape; `zone` is the project's."""

    def staged(rows: list[dict[str, Any] | str], zone: str = "UTC", bad: bool = False, **parts: Any) -> Any:
        source = Source("shaped", DatedFiles("shaped", "%Y%m%d%H.json"), JsonLines(), Shape(**USUAL | parts))
        module = ModuleType("shaped_source")
        module.SOURCE = source  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "shaped_source", module)
        monkeypatch.setitem(sources.SOURCES, "shaped", "shaped_source")
        home = Home(tmp_path / str(len(list(tmp_path.iterdir()))), source, group_types=["company_id", "company"])
        home.policy = Policy.model_validate(home.policy.document() | {"sources": {"shaped": {"timezone": zone}}})
        lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        (home.folder / f"{HOUR:%Y%m%d%H}.json").write_text(lines)
        counts = home.stage()
        return counts["quarantined"] if bad else home.events()

    return staged


def row(**changes: Any) -> dict[str, Any]:
    moment = int(HOUR.timestamp() * 1000)
    properties = {"time": moment, "mp_processing_time_ms": moment + 5, "distinct_id": "ana", "company_id": "acme"}
    usual = {"meta": {"ids": ["e1", "x"]}, "event": "pricing_viewed", "properties": properties}
    for place, value in changes.items():
        *path, last = place.split("__")
        inner = usual
        for step in path:
            inner = inner.setdefault(step, {})
        inner[last] = value
    return usual


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"event_id": "e1", "user_id": "ana", "account_id": "acme", "account_basis": "group"}),
        ({"properties__company_id": ["first", "second"]}, {"account_id": "first"}),
        ({"properties__company_id": 42}, {"account_id": "42"}),
        ({"properties__company_id": None, "properties__company": "other"}, {"account_id": "other"}),
        ({"context__groupId": "by context"}, {"account_id": "by context"}),
        ({"properties__$user_id": "known"}, {"user_id": "known"}),
        ({"properties__distinct_id": 7}, {"user_id": "7"}),
        ({"properties__company_id": None, "lead": {"email": "jo@mail.acme.com"}}, {"account_id": "acme.com"}),
        ({"properties__company_id": None, "context": {"traits": {"email": "jo@acme.de"}}}, {"account_id": "acme.de"}),
        ({"properties__company_id": None, "lead": None}, {"account_id": "user:ana", "account_basis": "personal"}),
    ],
)
def test_a_part_is_found_where_the_shape_says(
    staged: Callable[..., Any], changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    [event] = staged([row(**changes)]).to_dict("records")
    assert {name: event[name] for name in expected} == expected
    assert event["occurred_at"] == HOUR and event["received_at"] == HOUR + pd.Timedelta(milliseconds=5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"meta": {"ids": [{"no": "id"}]}}, "unknown_shape"),
        ({"properties__distinct_id": {"an": "object"}}, "unknown_shape"),
        ({"context__groupId": ["a list"]}, "unknown_shape"),
        ({"properties": "a text"}, "unknown_shape"),
        ({"properties__distinct_id": None, "properties__company_id": None}, "no_user_and_no_account"),
        ({"properties__time": "yesterday", "properties__mp_processing_time_ms": 5}, "unparsable_time"),
        ({"properties__time": 10**30, "properties__mp_processing_time_ms": 10**30}, "unparsable_time"),
        ({"properties__time": "NaN"}, "unparsable_time"),
    ],
)
def test_what_is_not_of_the_shape_is_put_aside(
    staged: Callable[..., Any], changes: dict[str, Any], reason: str
) -> None:
    assert staged([row(**changes)], bad=True) == {reason: 1}


def test_an_id_that_is_not_there_is_derived(staged: Callable[..., Any]) -> None:
    rows = [row(meta=None), row(meta={"ids": []}), row(meta=None)]
    assert staged(rows)["event_id"].is_unique


TIMES = [
    (TimeFormat(EPOCH_SECONDS), 1740819600, "UTC", HOUR),
    (TimeFormat(EPOCH_SECONDS), "1740819600.25", "UTC", HOUR + pd.Timedelta(milliseconds=250)),
    (TimeFormat(EPOCH_MILLISECONDS), 1740819600250, "Europe/Berlin", HOUR + pd.Timedelta(milliseconds=250)),
    (TimeFormat(EPOCH_SECONDS, project_zone=True), 1740819600 + 3600, "Europe/Berlin", HOUR),
    (TimeFormat("%Y-%m-%d %H:%M:%S"), "2025-03-01 09:00:00", "Europe/Berlin", HOUR),
    (TimeFormat("%Y-%m-%d %H:%M:%S", project_zone=True), "2025-03-01 10:00:00", "Europe/Berlin", HOUR),
    (TimeFormat("%Y-%m-%d %H:%M:%S", project_zone=True), "2025-03-01 04:00:00", "America/New_York", HOUR),
    (TimeFormat(ISO), "2025-03-01T09:00:00Z", "UTC", HOUR),
    (TimeFormat(ISO), "2025-03-01T14:30:00.000+05:30", "UTC", HOUR),
    (TimeFormat(ISO), "2025-03-01 09:00:00", "Europe/Berlin", HOUR),
    (TimeFormat(ISO, project_zone=True), "2025-03-01T10:00:00", "Europe/Berlin", HOUR),
    (TimeFormat(ISO, project_zone=True), "2025-03-01T09:00:00Z", "Europe/Berlin", HOUR),
]


@pytest.mark.parametrize("number", range(len(TIMES)))
def test_a_moment_is_read_as_the_source_writes_it(staged: Callable[..., Any], number: int) -> None:
    form, written, zone, expected = TIMES[number]
    changes = {"properties__time": written, "properties__mp_processing_time_ms": written}
    events = staged([row(**changes)], zone, times=(form,))
    assert events["occurred_at"].tolist() == [expected]


def test_of_several_ways_of_writing_the_first_that_fits_counts(staged: Callable[..., Any]) -> None:
    times = (TimeFormat(EPOCH_SECONDS), TimeFormat(ISO))
    rows = [row(meta=None, properties__time=at, properties__mp_processing_time_ms=at)
            for at in (1740819600, "2025-03-01T09:00:00Z")]  # fmt: skip
    assert staged(rows, times=times)["occurred_at"].tolist() == [HOUR, HOUR]


def test_paths_name_keys_whatever_they_hold() -> None:
    assert steps("properties.$insert_id") == ("properties", "$insert_id")
    assert steps(r"a\.b.c\\d.0") == ("a.b", r"c\d", "0")


def limits(group_types: list[str], email_properties: list[str]) -> Events:
    return read_policy().events.model_copy(update={"group_types": group_types, "email_properties": email_properties})


def test_whom_a_row_is_about_is_read_the_same_way_outside_the_engine() -> None:
    shape = Shape(**USUAL)
    about = who(row(lead={"email": "Jo@Acme.com"}), shape, limits(["company_id"], ["email"]))
    assert about == Who("ana", "acme", "jo@acme.com")
    assert who(row(context__groupId="g", properties__distinct_id="a@b.co"), shape, limits([], [])) == Who(
        "a@b.co", "g", "a@b.co"
    )
    assert who({}, shape, limits(["company_id"], ["email"])) == Who(None, None, None)
    assert datetime.fromtimestamp(1740819600, UTC) == HOUR
