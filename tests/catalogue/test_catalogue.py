"""What exists is declared once, soundly, and whoever reads it pays nothing for it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from onetouch.catalogue import (
    CRM_COLUMNS,
    DETAIL_COLUMNS,
    EVENTS,
    RENAMED,
    SIGNALS,
    SIGNALS_BY_NAME,
    SNAPSHOT_COLUMNS,
    Format,
    Kind,
    Window,
)
from onetouch.lake import Lake
from onetouch.policy import PolicyError, read_policy
from onetouch.signals import account, compute

POLICY = read_policy()
COLUMNS = (*SNAPSHOT_COLUMNS, *CRM_COLUMNS, *DETAIL_COLUMNS)
AS_OF = datetime(2025, 3, 10, 12, tzinfo=UTC)


def signals_table(folder: Path) -> pa.Table:
    return compute(Lake(folder), POLICY, pd.DataFrame({"account_id": ["acme"]}), AS_OF)[0]


def test_it_imports_nothing_of_the_library_and_nothing_heavy() -> None:
    code = "import sys, onetouch.catalogue; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name.split(".")[1] for name in modules if name.startswith("onetouch.")}
    assert ours == {"catalogue", "faces"}
    assert not {"pandas", "numpy", "pyarrow", "ibis", "duckdb", "pydantic", "yaml"} & set(modules)


@pytest.mark.parametrize("things", [EVENTS, SIGNALS, COLUMNS], ids=["events", "signals", "columns"])
def test_each_is_declared_once(things: tuple[Any, ...]) -> None:
    names = [thing.name for thing in things]
    assert len(set(names)) == len(names)


def test_no_column_of_the_account_table_means_two_things() -> None:
    signals = {*SIGNALS_BY_NAME, *(signal.moment for signal in SIGNALS if signal.happened)}
    assert not signals & {column.name for column in COLUMNS}


def test_the_signals_table_holds_what_is_declared(tmp_path: Path) -> None:
    table = signals_table(tmp_path)
    moments = {signal.moment for signal in SIGNALS if signal.happened}
    assert set(table.column_names) == {*(c.name for c in COLUMNS), *SIGNALS_BY_NAME, *moments}
    assert {str(table.schema.field(signal.name).type) for signal in SIGNALS} == {"double"}
    assert all("list" in str(table.schema.field(c.name).type) for c in COLUMNS if c.kind is Kind.NAMES)


def test_every_event_can_be_said_by_the_default_policy_with_what_it_carries() -> None:
    meant = {meaning.as_: meaning for meaning in POLICY.vocabulary.values()}
    assert meant.keys() == {event.name for event in EVENTS}
    assert {e.name: (e.detail, e.value) for e in EVENTS} == {n: (m.detail, m.value) for n, m in meant.items()}


def test_the_crm_keeps_a_field_for_what_may_have_one() -> None:
    assert POLICY.crm.account_fields.keys() == {column.name for column in SNAPSHOT_COLUMNS if column.mapped}


def test_windows_are_as_long_as_the_policy_says() -> None:
    policy = POLICY.changed(signals__recent_days=30, signals__engagement_days=10, signals__lookback_days=60)
    assert [window.days(policy.signals) for window in Window] == [7, 30, 10, 60, None]
    assert SIGNALS_BY_NAME["active_days"].bound(policy) == 10
    assert SIGNALS_BY_NAME["milestones_done"].bound(policy) == len(policy.product.milestones)
    assert SIGNALS_BY_NAME["users"].bound(policy) is None


def test_a_former_name_leads_to_one_of_today_and_is_none_itself() -> None:
    assert set(RENAMED.values()) <= SIGNALS_BY_NAME.keys()
    assert not RENAMED.keys() & SIGNALS_BY_NAME.keys()
    assert len(set(RENAMED.values())) == len(RENAMED)


def test_a_name_holds_a_number_of_days_only_where_no_policy_changes_it() -> None:
    lengths = {signal.name: re.search(r"_(\d+)d$", signal.name) for signal in SIGNALS}
    assert {name: found[1] for name, found in lengths.items() if found} == {
        signal.name: "7" for signal in SIGNALS if signal.window is Window.WEEK
    }


# ── What does not fit together is refused ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"events": ("exported",)}, "exports: exported: no such event"),
        ({"events": ()}, "say which, in which window, and what happened"),
        ({"window": Window.EVER}, "say which, in which window, and what happened"),
        ({"happened": None}, "say which, in which window, and what happened"),
        ({"nouns": None}, "nouns go with Format.COUNT"),
        ({"format": Format.NUMBER}, "nouns go with Format.COUNT"),
        ({"names": "features_used_list"}, "names go with Format.NAMES"),
    ],
)
def test_a_signal_whose_parts_do_not_fit_is_none(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(SIGNALS_BY_NAME["exports"], **change)


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ({"table": "days"}, "table days makes nothing else and lacks minutes"),
        ({"table": "account"}, "table account makes nothing else and lacks minutes"),
        ({"table": "nights"}, "nights: no such table of signals/account.py"),
    ],
)
def test_a_table_makes_exactly_the_signals_that_name_it(
    signal: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = dataclasses.replace(SIGNALS_BY_NAME["events"], name="minutes", **signal)
    monkeypatch.setattr(account, "SIGNALS", (*SIGNALS, minutes))
    with pytest.raises(ValueError, match=said):
        signals_table(tmp_path)


def test_a_table_that_makes_a_signal_nobody_declared_for_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = dataclasses.replace(SIGNALS_BY_NAME["events"], table="users")
    monkeypatch.setattr(account, "SIGNALS", tuple(moved if s.name == moved.name else s for s in SIGNALS))
    with pytest.raises(ValueError, match="table users makes nothing else and lacks events"):
        signals_table(tmp_path)


def test_a_name_that_is_none_gets_the_nearest_and_all(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("gates: {intent: [{signal: tickets_28, at_least: 1}]}\nproduct: {milestones: [data_import]}")
    with pytest.raises(PolicyError) as caught:
        read_policy(file)
    assert "no signal is called that; did you mean tickets? allowed: events," in str(caught.value)
    assert "no event of ours is called that; did you mean data_imported? allowed: signed_up," in str(caught.value)
