"""The simulated company: the same for the same seed, only growing with time, and true to what it says of itself."""

import contextlib
import gzip
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest
from onetouch.catalogue import EVENT_NAMES
from onetouch.simulation import simulate
from publicsuffixlist import PublicSuffixList

SEED, START = 11, datetime(2025, 6, 2, tzinfo=UTC)
REAL = Path(__file__).parents[3] / "shared" / "data" / "oss" / "amplitude"


def objects(lines):
    """The lines that are JSON objects."""
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


def digest(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix in (".zip", ".json")
    }


def test_same_seed_same_bytes_other_seed_other_rows(tmp_path):
    end = START + timedelta(days=4)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(tmp_path / name, seed=seed, start=START, until=end, accounts=20)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b
    assert a["exports/2025-06.zip"] != c["exports/2025-06.zip"]
    pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path / n / "truth/accounts.parquet") for n in "ab"))


def test_a_longer_simulation_only_adds_rows_received_later(tmp_path, members):
    start = START.replace(hour=15, tzinfo=timezone(timedelta(hours=5)))
    short, long = start + timedelta(days=24, hours=3, minutes=20), start + timedelta(days=33)  # across a month's end
    simulate(tmp_path / "short", seed=SEED, start=start, until=short, accounts=25)
    simulate(tmp_path / "long", seed=SEED, start=start, until=long, accounts=25)
    few, many = members(tmp_path / "short"), members(tmp_path / "long")
    assert set(few) < set(many)
    assert all(many[name] == few[name] for name in few)
    last_hour = f"{short.astimezone(START.tzinfo):%Y-%m-%d}_{short.astimezone(START.tzinfo).hour}#0"
    assert not any(last_hour in name for name in few)
    old, new = (json.loads((tmp_path / n / "crm.json").read_text()) for n in ("short", "long"))
    for name, records in old.items():
        known = {r["Id"]: r for r in new[name]}
        assert all(known[r["Id"]] == r for r in records)


def test_every_line_is_accounted_for_by_the_truth(lines, truth):
    rows = truth["rows"].set_index("kind")
    everything = [line for member in lines.values() for line in member]
    whole = rows[rows["part"] == "whole"]["n"]
    assert len(everything) == whole.sum()

    found = Counter()
    uuids = set()
    for line in everything:
        try:
            row = json.loads(line)
        except ValueError:
            found["broken_json"] += 1
            continue
        if not isinstance(row, dict):
            found["unknown_shape"] += 1
        elif row["user_id"] is None and not row["groups"]:
            found["no_user"] += 1
        elif row["event_time"].startswith("1970"):
            found["absurd_time_past"] += 1
        elif row["event_time"].startswith("2099"):
            found["absurd_time_future"] += 1
        elif len(line) > 65_536:
            found["over_long"] += 1
        else:
            found["duplicate" if row["uuid"] in uuids else "good"] += 1
            uuids.add(row["uuid"])
    assert dict(found) == {kind: n for kind, n in whole.items() if n}
    assert all(whole[kind] > 0 for kind in ("duplicate", "broken_json", "no_user", "absurd_time_past", "unknown_shape"))
    broken = whole.drop(["good", "duplicate"]).sum()
    assert 0.001 < broken / whole.sum() < 0.01


def test_late_rows_are_as_many_as_the_truth_says(seen, truth):
    rows = truth["rows"].set_index("kind")["n"]
    lag = pd.to_datetime(seen["server_upload_time"], utc=True) - seen["at"]
    imported = seen["at"] < START
    assert abs((lag[~imported] > pd.Timedelta(minutes=10)).sum() - rows["late"]) <= rows["late"] * 0.1
    assert lag[~imported].max() > pd.Timedelta(days=1)
    assert lag.min() > pd.Timedelta(0)
    assert imported.sum() == rows["history"]


def test_hours_are_hours_of_receipt(lines):
    for name, member in lines.items():
        stamp = name.rpartition("/")[2].removeprefix("424242_").removesuffix("#0.json.gz")
        day, _, hour = stamp.rpartition("_")
        assert str(int(hour)) == hour and name.startswith(day[:7])
        for row in objects(member):
            assert row["server_upload_time"].startswith(f"{day} {int(hour):02d}:")


def test_rows_look_like_amplitudes(lines):
    def shape(row):
        return {key: type(value).__name__ for key, value in row.items()}

    expected = {
        "$insert_id": "str", "amplitude_id": "int", "app": "int", "client_event_time": "str",
        "client_upload_time": "str", "data": "dict", "device_id": "str", "event_id": "int", "event_properties": "dict",
        "event_time": "str", "event_type": "str", "group_properties": "dict", "groups": "dict", "library": "str",
        "platform": "str", "server_received_time": "str", "server_upload_time": "str", "session_id": "int",
        "user_id": "str", "user_properties": "dict", "uuid": "str",
    }  # fmt: skip
    if REAL.exists():
        with zipfile.ZipFile(next(iter(sorted(REAL.glob("*.zip"))))) as archive:
            real = json.loads(gzip.decompress(archive.read(archive.namelist()[0])).splitlines()[0])
        assert shape(real) == expected
        assert list(real) == list(expected)
    sample = [row for member in list(lines.values())[::40] for row in objects(member) if row["user_id"]]
    assert len(sample) > 100
    assert all(shape(row) == expected and list(row) == list(expected) for row in sample)
    assert all(set(row["groups"]) <= {"organisation"} for row in sample)


def test_every_event_of_the_default_vocabulary_happens(seen):
    names = set(seen["event_type"])
    assert names - set(EVENT_NAMES) == {"theme_changed"}
    assert set(EVENT_NAMES) <= names


def test_accounts_are_known_by_group_domain_or_person(seen, truth):
    accounts = truth["accounts"]
    assert set(accounts["account_basis"]) == {"group", "domain", "personal"}
    assert set(seen["account"]) <= set(accounts["account_id"])
    assert len(set(seen["account"])) >= len(accounts) - 3  # the last hours' sign-ups may still be on their way
    suffixes = PublicSuffixList()
    domains = accounts.loc[accounts["domain"].notna(), "domain"]
    assert all(suffixes.privatesuffix(domain) == domain and domain.endswith(".example") for domain in domains)
    assert accounts["name"].str.startswith("Simulated ").all()
    assert truth["users"]["email"].str.startswith("simulated.").all()


def test_activation_in_the_rows_is_the_truths(seen, truth):
    steps = {"workspace_created", "data_imported", "report_created"}
    done = seen[seen["event_type"].isin(steps)].groupby("account")["event_type"].agg(set)
    active = set(done.index[done.map(lambda names: names == steps)])
    expected = set(truth["accounts"].loc[truth["accounts"]["activated"], "account_id"])
    assert active <= expected
    assert len(expected - active) <= 2  # a step may still be on its way


def test_checkouts_in_the_rows_are_the_truths(seen, truth):
    checkouts = truth["checkouts"]
    assert {"completed", "abandoned"} <= set(checkouts["state"])
    counted = seen["event_type"].value_counts()
    assert abs(counted["checkout_started"] - len(checkouts)) <= 1
    assert abs(counted["checkout_completed"] - (checkouts["state"] == "completed").sum()) <= 1
    said = (checkouts["outcome"] == "abandoned") & (checkouts["state"] == "abandoned")
    assert abs(counted["checkout_abandoned"] - said.sum()) <= 1
    assert counted["plan_upgraded"] == counted["checkout_completed"]
    bought = seen.loc[seen["event_type"] == "plan_upgraded", "event_properties"]
    assert all(set(p) == {"plan", "arr", "seats"} and p["arr"] > 0 for p in bought)


def test_every_week_has_accounts_newly_ready_for_sales(seen, truth, ready):
    known: set[str] = set()
    for week in range(2, 5):
        fresh: set[str] = set()
        for day in range(week * 7, week * 7 + 7, 3):
            table = ready(seen, truth["accounts"], START + timedelta(days=day + 1))
            fresh |= set(table.index[table["ready"]]) - known
        assert fresh, f"nobody new in week {week + 1}"
        known |= fresh
    share = table["ready"].mean()
    assert 0.03 < share < 0.15
    # Every other cell of the matrix is inhabited, too.
    valuable, engaged = table["potential"] >= 5000, table["days14"] >= 10
    assert (valuable & ~engaged).sum() > 5
    assert (~valuable & engaged).sum() > 5
    assert (~valuable & ~engaged).sum() > 5
    assert (valuable & engaged & ~table["ready"]).sum() > 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"start": START.replace(tzinfo=None)}, "start=.*time zone"),
        ({"until": START}, "until=.*after start"),
        ({"accounts": 3}, "accounts=3"),
    ],
)
def test_refuses_what_it_cannot_do(tmp_path, change, message):
    arguments = {"seed": 1, "start": START, "until": START + timedelta(days=3), "accounts": 40} | change
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path, **arguments)


def test_leaves_nothing_of_an_earlier_simulation(tmp_path):
    simulate(tmp_path, seed=1, start=START, until=START + timedelta(days=31), accounts=20)
    simulate(tmp_path, seed=1, start=START, until=START + timedelta(days=2), accounts=20)
    assert [p.name for p in (tmp_path / "exports").iterdir()] == ["2025-06.zip"]


def test_leaves_real_exports_alone(tmp_path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "2025-01.zip").write_bytes(b"somebody's")
    with pytest.raises(ValueError, match="2025-01.zip"):
        simulate(tmp_path, seed=1, start=START, until=START + timedelta(days=2), accounts=20)
    assert (tmp_path / "exports" / "2025-01.zip").read_bytes() == b"somebody's"
