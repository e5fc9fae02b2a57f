"""Tables of the lake and documents of the ledger that another release wrote: read by name, replayed as written."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onetouch import audit
from onetouch.audit.explain import explain
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.crm.stored import FORMAT as PAYLOAD_FORMAT
from onetouch.experiments import difference
from onetouch.lake import Lake, formats
from onetouch.ledger import Run
from onetouch.ledger.columns import Document
from onetouch.ledger.tables import FORMATS, metadata
from onetouch.policy import upgrade
from onetouch.routing import DECISION
from onetouch.routing.inputs import Inputs, kept
from onetouch.workspace import Workspace

from tests.audit.company import AS_OF, decided
from tests.audit.fixtures import company, copy, last  # noqa: F401 - fixtures

FORMER = {
    "people": "users",
    "questions": "plan_questions",
    "demo_asks": "demo_requests",
    "seats_used": "limit_share",
}
"""Signals of today, as a former release would have called them."""

THEN = {today: former for former, today in FORMER.items()} | {
    f"{today}_at": f"{former}_at" for former, today in FORMER.items()
}


def tables(lake: Lake) -> list[tuple[str, ...]]:
    root = lake.root.rstrip("/")
    rooms = {Path(path).relative_to(root).parts[0] for path in lake.fs.find(root) if path.endswith(".parquet")}
    return [Path(path).relative_to(root).parts for room in sorted(rooms) for path in lake.list(room)]


def rewrite(lake: Lake, parts: tuple[str, ...], change: Any) -> None:
    """The file with another table, written as it is."""
    path = lake.path(*parts)
    pq.write_table(change(pq.read_table(path)), path)


def renamed(value: Any) -> Any:
    """Every name of today among plain values as it was called then."""
    if isinstance(value, str):
        head, _, tail = value.rpartition(":")
        return f"{head}:{THEN.get(tail, tail)}" if head == "context" else THEN.get(value, value)
    if isinstance(value, list):
        return [renamed(item) for item in value]
    return {key: renamed(item) for key, item in value.items()} if isinstance(value, dict) else value


def as_then(table: pa.Table) -> pa.Table:
    """The table as a release wrote it that called signals otherwise and numbered no formats."""
    for name in ("reasons", "would_change", "signals"):
        if name in table.column_names and not pa.types.is_null(table[name].type):
            at, column = table.column_names.index(name), table[name]
            table = table.set_column(at, name, pa.array(renamed(column.to_pylist()), column.type))
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != formats.KEY}
    return table.rename_columns([THEN.get(n, n) for n in table.column_names]).replace_schema_metadata(metadata)


def of_format_1(table: pa.Table, parts: tuple[str, ...]) -> pa.Table:
    kind = formats.table_kind(*parts)
    return table if kind is None else formats.as_stored(table, table.replace_schema_metadata(None), kind)


@pytest.fixture
def of_then(copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:  # noqa: F811
    """The company as a release left it that called some signals otherwise."""
    for parts in tables(copy.lake):
        rewrite(copy.lake, parts, lambda table, parts=parts: as_then(of_format_1(table, parts)))
    with copy.ledger.writing() as connection:
        for table, column, key in (("policies", "document", "version"), ("handoffs", "signals", "handoff_id")):
            for row, document in connection.exec_driver_sql(f"SELECT {key}, {column} FROM {table}").fetchall():  # noqa: S608
                text = document
                for today, former in THEN.items():
                    # `never_count.users` is no signal; it is followed by a list.
                    text = re.sub(rf'"{today}"(?!: ?\[)', f'"{former}"', text)
                    text = text.replace(f"{{{today}}}", f"{{{former}}}")
                connection.exec_driver_sql(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (text, row))  # noqa: S608
    monkeypatch.setattr(upgrade, "RENAMED", upgrade.RENAMED | FORMER)
    return copy


def test_every_table_has_a_shape_that_tells_all_its_columns(company: Workspace) -> None:  # noqa: F811
    found = set()
    for parts in tables(company.lake):
        kind = formats.table_kind(*parts)
        assert kind is not None, parts
        found.add(kind.name)
        schema = pq.read_schema(company.lake.path(*parts))
        extra = set(schema.names) - set(kind.columns) - {"country", "event_date"}  # the scenario's reps have one
        assert not extra, (parts, extra)
        for name in set(schema.names) & set(kind.columns):
            there, told = schema.field(name).type, kind.columns[name]
            same = there == told or (pa.types.is_large_string(there) and told == pa.string()) or pa.types.is_null(there)
            assert same, (parts, name, there, told)
    assert {"signals", "scores", "decisions", "handoffs", "previous", "earlier", "accounts", "reps"} <= found


def test_decisions_and_signals_are_told_whole() -> None:
    assert set(formats.table_kind("decisions", "r.parquet").columns) == set(DECISION)
    signals = formats.table_kind("signals", "r.parquet").columns
    assert {*SIGNAL_NAMES, *(f"{name}_at" for name in MOMENTS)} <= set(signals)
    inputs = {field for field in Inputs.__dataclass_fields__ if field not in ("signals", "scores")}
    for name in (*inputs, "earlier"):
        assert formats.table_kind("inputs", "r", f"{name}.parquet") is not None


def test_every_document_of_the_ledger_has_a_format() -> None:
    documents = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, Document)
    }
    assert documents == set(FORMATS)
    assert (FORMATS["policies.document"], FORMATS["outbox.payload"]) == (upgrade.FORMAT, PAYLOAD_FORMAT)


def test_a_table_is_written_with_its_format_and_one_without_a_number_is_the_first(copy: Workspace, last: Run) -> None:  # noqa: F811
    parts = ("scores", f"{last.run_id}.parquet")
    table = pq.read_table(copy.lake.path(*parts))
    assert table.schema.metadata == {formats.KEY: b"1", formats.NAMES: str(len(upgrade.RENAMED)).encode()}
    for number, answer in ((None, True), (b"1", True), (b"2", False)):
        rewrite(copy.lake, parts, lambda t, n=number: t.replace_schema_metadata({formats.KEY: n} if n else None))
        if answer:
            assert formats.read_table(copy.lake, *parts).num_rows == table.num_rows
        else:
            with pytest.raises(ValueError, match="format 2 of scores is not known here"):
                formats.read_table(copy.lake, *parts)


def test_a_step_reads_a_former_format_and_a_replay_writes_it(
    copy: Workspace,  # noqa: F811
    last: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Format 1 told half of a worth, and did not have the calls."""

    def times(factor: float) -> Any:
        def change(table: pa.Table) -> pa.Table:
            at = table.column_names.index("potential_arr")
            return table.set_column(at, "potential_arr", pa.compute.multiply(table["potential_arr"], factor))

        return change

    parts = ("decisions", f"{last.run_id}.parquet")
    worth = formats.read_table(copy.lake, *parts)["potential_arr"].to_pylist()
    kind = formats.table_kind("decisions", "r.parquet")
    newer = formats.TableKind(
        **{**vars(kind), "format": 2, "steps": {1: formats.Step(times(2), times(0.5))}, "since": {"call": 2}}
    )
    monkeypatch.setattr(formats, "TABLE_KINDS", (newer, *formats.TABLE_KINDS))
    rewrite(copy.lake, parts, lambda t: times(0.5)(t.drop_columns(["call"])).replace_schema_metadata(None))
    assert formats.read_table(copy.lake, *parts)["call"].null_count == 16
    assert formats.read_table(copy.lake, *parts)["potential_arr"].to_pylist() == worth
    assert audit.replay(copy.lake, copy.ledger, last.run_id).empty


def test_a_column_that_is_missing_though_its_format_had_it_is_a_difference(copy: Workspace, last: Run) -> None:  # noqa: F811
    rewrite(copy.lake, ("decisions", f"{last.run_id}.parquet"), lambda t: t.drop_columns(["call"]))
    assert set(audit.replay(copy.lake, copy.ledger, last.run_id)["column"]) == {"call"}


# ── A signal more ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def one_more_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release with a signal that older runs have no column of: its number and its moment."""
    columns = formats.table_kind("signals", "r.parquet").columns
    monkeypatch.setitem(columns, "exports_7d", formats.NUMBER)
    monkeypatch.setitem(columns, "exports_7d_at", formats.MOMENT)


@pytest.mark.usefixtures("one_more_signal")
def test_a_signal_added_since_is_unknown_then_and_changes_no_replay(company: Workspace) -> None:  # noqa: F811
    for run in company.ledger.runs():
        signals = kept(company.lake, run.run_id).signals
        assert signals["exports_7d"].isna().all()
        assert signals["exports_7d_at"].isna().all()
        assert audit.replay(company.lake, company.ledger, run.run_id).empty
        assert explain(company.lake, company.ledger, run, "called").signals["exports_7d"] is None


def test_a_comparison_computes_signals_anew_that_the_run_does_not_hold(copy: Workspace, last: Run) -> None:  # noqa: F811
    lacking = ["plan_questions", "plan_questions_at"]
    before = difference.compare(copy.lake, copy.ledger, copy.policy, copy.policy, last)
    rewrite(copy.lake, ("signals", f"{last.run_id}.parquet"), lambda t: t.drop_columns(lacking))
    after = difference.compare(copy.lake, copy.ledger, copy.policy, copy.policy, last)
    assert (before.computed_anew, after.computed_anew) == (False, True)
    assert after.after["score"].tolist() == before.after["score"].tolist()


# ── Signals called otherwise ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_company_of_then_is_told_apart(of_then: Workspace, last: Run) -> None:  # noqa: F811
    table = pq.read_table(of_then.lake.path("decisions", f"{last.run_id}.parquet"))
    named = json.dumps([table["reasons"].to_pylist(), table["would_change"].to_pylist()], default=str)
    assert "people" in named
    assert '"users"' not in named


def test_decisions_and_ids_of_then_are_replayed_byte_for_byte(of_then: Workspace) -> None:
    for run in of_then.ledger.runs():
        assert audit.replay(of_then.lake, of_then.ledger, run.run_id).empty


def test_a_difference_is_told_in_the_words_of_the_stored_decision(of_then: Workspace, last: Run) -> None:  # noqa: F811
    def spoilt(table: pa.Table) -> pa.Table:
        reasons = table["reasons"].to_pylist()
        for row in reasons:
            for reason in row:
                reason["points"] += 1 if reason["signal"] == "people" else 0
        return table.set_column(
            table.column_names.index("reasons"), "reasons", pa.array(reasons, table["reasons"].type)
        )

    rewrite(of_then.lake, ("decisions", f"{last.run_id}.parquet"), spoilt)
    found = audit.replay(of_then.lake, of_then.ledger, last.run_id)
    assert set(found["column"]) == {"reasons"}
    assert found["stored"].str.contains("people").all()
    assert found["again"].str.contains("people").all()


def test_everything_that_names_signals_is_read_with_todays_names(
    company: Workspace,  # noqa: F811
    of_then: Workspace,
    last: Run,  # noqa: F811
) -> None:
    for parts in tables(company.lake):
        if formats.table_kind(*parts).name in ("events", "activity", "history"):
            continue
        one, other = (of_format_1(formats.read_table(w.lake, *parts), parts) for w in (company, of_then))
        assert sorted(one.column_names) == sorted(other.column_names), parts
        assert one.to_pylist() == [{name: row[name] for name in one.column_names} for row in other.to_pylist()]
        few = [n for n in one.column_names if n in ("account_id", "users", "demo_requests_at", "reasons")]
        assert formats.read_table(of_then.lake, *parts, columns=few).column_names == few
    assert of_then.ledger.handoffs()[0].signals == company.ledger.handoffs()[0].signals
    frames = [w.ledger.handoff_frame(AS_OF + timedelta(days=1)) for w in (company, of_then)]
    pd.testing.assert_frame_equal(*frames)
    assert of_then.ledger.policy(last.policy_version).document() == company.policy.document()


def test_a_run_after_the_change_compares_like_with_like(of_then: Workspace) -> None:
    run = decided(of_then, of_then.policy, AS_OF + timedelta(days=10))
    assert (
        formats.read_table(of_then.lake, "inputs", run.run_id, "earlier.parquet").num_rows == 16
    )  # the same policy's scores
    assert formats.read_table(of_then.lake, "inputs", run.run_id, "previous.parquet").num_rows == 16
    assert audit.replay(of_then.lake, of_then.ledger, run.run_id).empty
    table = pq.read_table(of_then.lake.path("inputs", run.run_id, "handoffs.parquet"))
    assert table.schema.metadata[formats.NAMES] == str(len(upgrade.RENAMED)).encode()
    names = table["signals"].to_pylist()
    assert not {name for row in names for name in row} & set(FORMER)


def test_the_engine_finds_decisions_of_every_release(of_then: Workspace, last: Run) -> None:  # noqa: F811
    with duckdb.connect() as con:
        path = of_then.lake.path("decisions", f"{last.run_id}.parquet")
        [(decision,)] = con.execute(f"SELECT decision_id FROM '{path}' LIMIT 1").fetchall()  # noqa: S608
    assert audit.find(of_then.lake, of_then.ledger, decision).run_id == last.run_id
