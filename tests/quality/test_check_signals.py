"""Planted faults of the account table."""

from __future__ import annotations

import pandas as pd
import pytest
from onetouch.quality import ChecksFailed, check_signals


def check(place, accounts):
    place.lake.write(accounts, "signals", f"{place.run.run_id}.parquet")
    return check_signals(place.lake, place.ledger, place.policy, place.run)


def test_a_sound_account_table_passes(place, accounts):
    summary = check(place, accounts)
    assert (summary["passed"], summary["warnings"]) == (True, [])


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("account_id", "a1.example", "rows whose account has another row: 2 of 20 (none allowed)"),
        ("account_id", None, "accounts without an id: 1 of 20 (none allowed)"),
        ("invites", -1.0, "smallest invites: -1 (at least 0)"),
        ("limit_share", -0.1, "smallest limit_share: -0.1 (at least 0)"),
        ("active_days", 15.0, "largest active_days: 15 (at most 14)"),
        ("milestones_done", 6.0, "largest milestones_done: 6 (at most 5)"),
        ("activated", 0.5, "accounts neither activated nor not: 1 of 20 (none allowed)"),
        ("users", 0.0, "accounts with more active_users than users: 1 of 20 (none allowed)"),
        ("last_seen_at", pd.Timestamp("2025-01-01T01:00Z"), "hours of events from after as_of: 1 (at most 0)"),
        ("invites_at", pd.Timestamp("2025-01-01T01:00Z"), "hours of events from after as_of: 1 (at most 0)"),
        ("invites", 0.0, "accounts with a count without its moment, or the reverse: 1 of 20 (none allowed)"),
        ("tickets_at", None, "accounts with a count without its moment, or the reverse: 1 of 20 (none allowed)"),
        ("enterprise_domain", 2.0, "largest enterprise_domain: 2 (at most 1)"),
    ],
)
def test_a_planted_fault_trips_its_check_alone(place, accounts, column, value, says):
    accounts.loc[0, column] = value
    with pytest.raises(ChecksFailed) as caught:
        check(place, accounts)
    assert caught.value.summary["critical"] == [f"accounts: {says}"]
    assert caught.value.summary["warnings"] == []


def test_an_unknown_time_zone_only_warns(place, accounts):
    accounts.loc[0, "timezone"] = "Moon/Tranquillity"
    assert check(place, accounts)["warnings"] == ["accounts: accounts whose time zone is none: 1 of 20 (none allowed)"]


def test_what_is_unknown_everywhere_is_no_fault(place, accounts):
    accounts["timezone"] = pd.Series([None] * len(accounts), dtype="str")
    accounts["last_seen_at"] = pd.NaT
    accounts["limit_share"] = float("nan")
    assert check(place, accounts)["passed"]


def test_no_account_at_all_fails(place, accounts):
    with pytest.raises(ChecksFailed, match="accounts: accounts: 0"):
        check(place, accounts.head(0))


def test_docs_hold_no_values_of_rows_and_nothing_foreign(place, accounts):
    accounts.loc[:1, "account_id"] = "jane.doe@home.example"
    with pytest.raises(ChecksFailed) as caught:
        check(place, accounts)
    pages = place.lake.list("quality", ".html")
    assert len(pages) >= 3
    for page in pages:
        text = place.lake.fs.cat_file(page).decode()
        assert "jane.doe" not in text
        assert "<script" not in text and "amazonaws" not in text
        assert "default-src 'none'" in text
    assert "jane.doe" not in str(caught.value)
