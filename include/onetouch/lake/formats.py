"""The columns and formats of the lake's tables, and reading tables that another release wrote.

Every table is read through `read_table` and written through `Lake.write`. A table carries the number of its format in
its Parquet metadata; a table without a number has format 1. Columns are found by name, so most changes need no new
format:

- A column that was added after the file was written is null, because nothing was known of it then.
- A signal that has been renamed since is found under today's name (`catalogue.RENAMED`): its column, the column of its
  last moment, and its name among the values of `TableKind.names`.

For any other change (another unit, another type, a column that becomes two), raise `TableKind.format` and add a step
(`docs/formats.md`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onetouch.catalogue import (
    CRM_COLUMNS,
    DETAIL_COLUMNS,
    FIRMOGRAPHIC_SIGNALS,
    MOMENTS,
    PEOPLE_COLUMNS,
    PROFILE,
    SIGNAL_NAMES,
    SNAPSHOT_COLUMNS,
    Column,
    Kind,
)
from onetouch.policy import current_name, renames

if TYPE_CHECKING:
    from onetouch.lake.files import Files

KEY = b"onetouch_format"
"""Key in the Parquet metadata: the number of the format."""

NAMES = b"onetouch_renamed"
"""Key in the Parquet metadata: how many signals had been renamed when the file was written; absent: none. A file
written after the last renaming is not searched for former names."""

DATE, TEXT, NUMBER, COUNT, YES_OR_NO = pa.date32(), pa.string(), pa.float64(), pa.int64(), pa.bool_()
MOMENT, TEXTS, MOMENTS_OF = pa.timestamp("us", "UTC"), pa.list_(pa.string()), pa.list_(pa.timestamp("us", "UTC"))
REASONS = pa.list_(pa.struct([("signal", TEXT), ("value", NUMBER), ("points", NUMBER)]))
AMOUNTS = pa.list_(pa.struct([("name", TEXT), ("times", COUNT)]))
OBSTACLES = pa.list_(pa.struct([("obstacle", TEXT), ("has", NUMBER), ("needs", NUMBER)]))

Columns = dict[str, pa.DataType]


class Step(NamedTuple):
    """Converts a table to the next format (`forth`) and back (`back`, for replays, which compare files)."""

    forth: Callable[[pa.Table], pa.Table]
    back: Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class TableKind:
    """One kind of table. `place`: a regular expression for the paths, below the lake's root, of tables of this kind.

    `columns`: all columns that today's release writes; a file may lack some of them. `names`: columns whose values name
    signals, as texts, lists of texts, or (`column.field`) lists of structs. `format`: today's number; `steps`: format →
    the step from it to the next; `since`: column → the format that added it, for columns that format 1 did not have.
    """

    name: str
    place: str
    columns: Columns
    names: tuple[str, ...] = ()
    format: int = 1
    steps: Mapping[int, Step] = field(default_factory=dict)
    since: Mapping[str, int] = field(default_factory=dict)


def _columns(kind: pa.DataType, names: str) -> Columns:
    return dict.fromkeys(names.split(), kind)


_OF_KIND = {"str": TEXT, "Int64": COUNT, "float64": NUMBER, "boolean": YES_OR_NO, "object": TEXTS}


def _of(columns: Iterable[Column]) -> Columns:
    return {
        column.name: AMOUNTS if column.kind is Kind.AMOUNTS else _OF_KIND.get(column.kind.dtype, MOMENT)
        for column in columns
    }


_ACCOUNT = _of((*SNAPSHOT_COLUMNS, *CRM_COLUMNS))
_SIGNALS = {
    **_ACCOUNT,
    **dict.fromkeys(SIGNAL_NAMES, NUMBER),
    **{f"{signal}_at": MOMENT for signal in MOMENTS},
    **_of(DETAIL_COLUMNS),
}
_SCORES: Columns = {
    **_columns(TEXT, "account_id tier score_trend"),
    **_columns(NUMBER, "score usage_score score_before"),
    **_columns(YES_OR_NO, "gate_icp gate_activated gate_engagement gate_intent pql"),
    "reasons": REASONS,
}
_DECISIONS: Columns = {
    **_columns(TEXT, "decision_id account_id crm_account_id policy_version score_trend tier value_band"),
    **_columns(TEXT, "engagement_band motion call action rule owner_email owner_id assigned_by inputs_ref"),
    **_columns(NUMBER, "score usage_score score_before potential_arr"),
    **_columns(MOMENT, "as_of since trigger_at due_at contact_at"),
    "pql": YES_OR_NO,
    "reasons": REASONS,
    "would_change": OBSTACLES,
    "turn": NUMBER,
}
_REPS: Columns = {**_columns(TEXT, "owner_id email name timezone"), "active": YES_OR_NO}
_PROFILE = """
    rows_in kept duplicates quarantined forgotten elsewhere unaccounted reread quarantine_rate duplicate_rate multiplied
    hours_expected hours_seen hours_damaged hours_empty hours_lost lost_hours_rate
    new_rows unknown_event_rate no_user_rate no_account_rate incomplete_rows impossible_values set_apart
    hours_since_last_event usual_gap_hours quiet_hours last_day_rows usual_rows week_before_rows history_days
    volume_drop volume_surge
"""
_FILE = r"[^/]+\.parquet"


def _fewer_obstacles(decisions: pa.Table) -> pa.Table:
    """Decisions with the obstacles of format 1: it did not tell what follows a handoff that goes on (the cooldown), nor
    what an account needs that is held while its trigger event ages."""
    told = decisions["would_change"].combine_chunks()
    each, row = pc.list_flatten(told), pc.list_parent_indices(told).to_numpy()
    name = each.field("obstacle")
    named = {what: pc.is_in(name, pa.array(what)).to_numpy(zero_copy_only=False) for what in (_HANDOFF, _AFTER, _AGED)}
    going_on = np.zeros(len(told), dtype=bool)
    going_on[row[named[_HANDOFF]]] = True
    call = decisions["call"].cast(TEXT).combine_chunks()  # of no type where nobody has one
    by_trigger = pc.is_in(call, pa.array(["trigger"])).to_numpy(zero_copy_only=False)
    stays = ~(named[_AFTER] & going_on[row]) & ~(named[_AGED] & by_trigger[row])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[stays], minlength=len(told)))]).astype(np.int32)
    fewer = pa.ListArray.from_arrays(pa.array(offsets), each.filter(pa.array(stays)), type=told.type)
    return decisions.set_column(decisions.column_names.index("would_change"), "would_change", fewer)


_HANDOFF, _AFTER, _AGED = ("handoff",), ("cooldown", "new_signal"), ("score", "intent")
_DECIDED: dict[str, Any] = {
    "names": ("reasons.signal", "would_change.obstacle"),
    "format": 2,
    "steps": {1: Step(forth=lambda decisions: decisions, back=_fewer_obstacles)},
    "since": {"turn": 2},
}

TABLE_KINDS: tuple[TableKind, ...] = (
    TableKind(
        "events",
        rf"events/event_date=[^/]+/{_FILE}",
        {
            **_columns(TEXT, "event_id source event user_id anonymous_id groups account_id account_basis"),
            **_columns(TEXT, "email_domain properties sent_key batch_id"),
            **_columns(MOMENT, "occurred_at received_at known_at"),
            "profile": TEXT,
            "never_count": YES_OR_NO,
        },
    ),
    TableKind(
        "quarantine",
        rf"quarantine/[^/]+/{_FILE}",
        {**_columns(TEXT, "source batch_id file reason row"), "line": COUNT},
    ),
    TableKind(
        "activity",
        rf"activity/event_date=[^/]+/{_FILE}",
        {
            **_columns(TEXT, "account_id account_basis email_domain user_id anonymous_id event detail"),
            **_columns(MOMENT, "first_at last_at"),
            **_columns(NUMBER, "value_max value_last"),
            **_columns(COUNT, "n n_15 n_30 unread"),
            "quarter": pa.int32(),
            "hours": pa.int32(),  # of layouts before 5, whose rows were days
        },
    ),
    TableKind(
        "history",
        rf"history/month=[^/]+/{_FILE}",
        {
            **_columns(TEXT, "account_id account_basis email_domain user_id anonymous_id event detail"),
            **_columns(MOMENT, "first_at last_at"),
            "users": COUNT,
            "event_date": DATE,
        },
    ),
    TableKind(
        "memberships",
        rf"memberships/(event_date|month)=[^/]+/{_FILE}",
        {
            **_columns(TEXT, "user_id anonymous_id account_id email_domain"),
            **_columns(MOMENT, "first_at last_at"),
            "never_count": YES_OR_NO,
            "event_date": DATE,
        },
    ),
    TableKind(
        "profiles",
        rf"profiles/(event_date|month)=[^/]+/{_FILE}",
        {"user_id": TEXT, **dict.fromkeys(PROFILE, TEXT), "at": MOMENT, "event_date": DATE},
    ),
    TableKind("people", rf"people/{_FILE}", _of(PEOPLE_COLUMNS)),
    TableKind("accounts", r"crm/[^/]+/accounts\.parquet", _ACCOUNT),
    TableKind(
        "contacts",
        r"crm/[^/]+/contacts\.parquet",
        {
            **_columns(TEXT, "contact_id kind crm_account_id email email_domain name title"),
            **_columns(YES_OR_NO, "do_not_call email_opt_out"),
            "changed_at": MOMENT,
        },
    ),
    TableKind(
        "opt_outs",
        r"inputs/[^/]+/contacts\.parquet",
        {**_columns(TEXT, "contact_id crm_account_id address"), **_columns(YES_OR_NO, "do_not_call email_opt_out")},
    ),
    TableKind("persons", r"inputs/[^/]+/people\.parquet", _columns(TEXT, "account_id user_id address")),
    TableKind("listed", r"inputs/[^/]+/listed\.parquet", {**_columns(TEXT, "kind entry reason"), "line": COUNT}),
    TableKind("enterprises", r"inputs/[^/]+/enterprises\.parquet", _columns(TEXT, "domain")),
    TableKind("reps", r"(crm|inputs)/[^/]+/reps\.parquet", _REPS),
    TableKind(
        "opportunities",
        r"crm/[^/]+/opportunities\.parquet",
        {
            **_columns(TEXT, "opportunity_id crm_account_id account_id owner_id stage lead_source"),
            **_columns(MOMENT, "created_at closed_at changed_at"),
            **_columns(YES_OR_NO, "is_closed is_won"),
            "amount": NUMBER,
        },
    ),
    TableKind("signals", rf"signals/{_FILE}", _SIGNALS),
    TableKind("scores", rf"scores/{_FILE}", _SCORES, names=("reasons.signal",)),
    TableKind("decisions", rf"decisions/{_FILE}", _DECISIONS, **_DECIDED),
    TableKind(
        "audience",
        rf"audience/{_FILE}",
        {
            **_columns(TEXT, "account_id crm_account_id name domain audience action tier situation offer facts people"),
            "as_of": MOMENT,
        },
    ),
    TableKind("shadow", rf"shadow/[^/]+/{_FILE}", _DECISIONS, **_DECIDED),
    TableKind(
        "handoffs",
        r"inputs/[^/]+/handoffs\.parquet",
        {
            **_columns(TEXT, "account_id handoff_id state owner_email run_id reason rest_state rest_owner"),
            **_columns(MOMENT, "decided_at touched_at closed_at rest_at first_task_at answered_at refused_at"),
            "episode": COUNT,
            "signals": TEXTS,
        },
        names=("signals",),
    ),
    TableKind(
        "rep_load",
        r"inputs/[^/]+/rep_load\.parquet",
        {"owner_email": TEXT, "open": COUNT, "last_assigned_at": MOMENT, "recent": MOMENTS_OF},
    ),
    TableKind(
        "touches",
        r"inputs/[^/]+/touches\.parquet",
        {**_columns(TEXT, "touch_id account_id owner_email kind outcome disposition handoff_id"), "at": MOMENT},
    ),
    TableKind(
        "previous",
        r"inputs/[^/]+/previous\.parquet",
        {
            **_columns(TEXT, "account_id action rule call"),
            **_columns(MOMENT, "since trigger_at watched_since queued_since pending_at pending_since heard_at"),
            **{f"{signal}_at": MOMENT for signal in MOMENTS if signal not in FIRMOGRAPHIC_SIGNALS},
        },
    ),
    TableKind("earlier", r"inputs/[^/]+/earlier\.parquet", {"account_id": TEXT, "score": NUMBER}),
    TableKind("artefact", r"inputs/[^/]+/artefact\.parquet", _columns(TEXT, "scorer artefact_id")),
    TableKind("artefacts", rf"artefacts/{_FILE}", {"scorer": TEXT, "content": pa.binary()}),
    TableKind(
        "tallies",
        rf"tallies/event_date=[^/]+/{_FILE}",
        {
            **_columns(TEXT, "grain source event"),
            **_columns(COUNT, "n anonymous users top_user top_account twins bare"),
            **_columns(MOMENT, "at newest known_at"),
            "lag": NUMBER,
        },
    ),
    TableKind("profile", r"quality/[^/]+/profile\.parquet", {"source": TEXT, **_columns(NUMBER, _PROFILE)}),
)  # fmt: skip
"""Every kind of table in the lake. Other files are no tables of ours: raw vendor data, reports, documentation."""


def table_kind(*parts: str) -> TableKind | None:
    """The kind of the table at a path of the lake; None if the path belongs to none of TABLE_KINDS."""
    path = "/".join(parts)
    return next((kind for kind in TABLE_KINDS if re.fullmatch(kind.place, path)), None)


def stamped(table: pa.Table, *parts: str) -> pa.Table:
    """The table with the number of today's format for that path in its metadata."""
    kind = table_kind(*parts)
    if kind is None:
        return table
    stamp = {KEY: str(kind.format).encode()}
    if names := len(renames()):
        stamp[NAMES] = str(names).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **stamp})


def read_table(
    lake: Files,
    *parts: str,
    columns: Sequence[str] | None = None,
    filters: list[Any] | None = None,
) -> pa.Table:
    """A table of the lake in today's format, whichever release wrote it; with `columns`, only those columns.

    `filters`: in pyarrow's form, on columns that were never renamed. Raises FileNotFoundError, and ValueError for a
    format of a later release.
    """
    kind = table_kind(*parts)
    with lake.fs.open(lake.path(*parts), "rb") as file:
        schema = pq.read_schema(file)
        file.seek(0)
        wanted = None
        if columns is not None:
            stored = {current_name(name): name for name in schema.names}
            known = {} if kind is None else kind.columns
            wanted = [stored.get(name, name) for name in dict.fromkeys(columns) if name in stored or name not in known]
        found = pq.read_table(file, columns=wanted, filters=filters)
    if kind is None:
        return found
    for step in range(_format(schema, kind, parts), kind.format):
        found = kind.steps[step].forth(found)
    if int((schema.metadata or {}).get(NAMES, b"0")) < len(renames()):
        found = _renamed(found, kind, current_name)
    for name in kind.columns if columns is None else columns:
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(found.num_rows, kind.columns[name]))
    return found


def columns_held(lake: Files, *parts: str) -> set[str]:
    """The columns that are stored in a file of the lake, by today's names. Raises FileNotFoundError."""
    with lake.fs.open(lake.path(*parts), "rb") as file:
        return {current_name(name) for name in pq.read_schema(file).names}


def read_raw(lake: Files, *parts: str, filters: list[Any] | None = None) -> pa.Table:
    """A table of the lake exactly as it is stored, in whichever format. Raises FileNotFoundError."""
    with lake.fs.open(lake.path(*parts), "rb") as file:
        return pq.read_table(file, filters=filters)


def as_stored(table: pa.Table, stored: pa.Table, kind: TableKind) -> pa.Table:
    """A table made today, converted to the format of `stored` (which `read_raw` gave).

    Signals get the names that they have in `stored`, and columns that its format did not have are left out.
    """
    format_ = _number(stored.schema)
    for step in range(kind.format - 1, format_ - 1, -1):
        table = kind.steps[step].back(table)
    former = {today: name for name in _signals_named(stored, kind) if (today := current_name(name)) != name}
    if former:
        table = _renamed(table, kind, lambda name: former.get(name, name))
    return table.drop_columns([name for name in table.column_names if kind.since.get(name, 1) > format_])


def _format(schema: pa.Schema, kind: TableKind, parts: Sequence[str]) -> int:
    number = _number(schema)
    if number > kind.format:
        raise ValueError(
            f"{'/'.join(parts)}: format {number} of {kind.name} is not known here (up to {kind.format}); read it "
            "with the release that wrote it, or a later one"
        )
    return number


def _number(schema: pa.Schema) -> int:
    return int((schema.metadata or {}).get(KEY, b"1"))


def _renamed(table: pa.Table, kind: TableKind, new: Callable[[str], str]) -> pa.Table:
    """The table with signals renamed by `new`, both in column names and among the values of `kind.names`."""
    names = [new(name) for name in table.column_names]
    if names != table.column_names:
        # pandas' own metadata contains the column names too; it is dropped, because the types are sufficient.
        metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
        table = table.rename_columns(names).replace_schema_metadata(metadata)
    for path in kind.names:
        column, _, part = path.partition(".")
        if column not in table.column_names:
            continue
        there = table.column(column)
        if all(new(name) == name for name in _values(there, part)):
            continue
        chunks = [_values_renamed(chunk, part, new) for chunk in there.chunks]
        table = table.set_column(table.column_names.index(column), column, pa.chunked_array(chunks, there.type))
    return table


def _signals_named(table: pa.Table, kind: TableKind) -> set[str]:
    """Every text in a table that may be a signal's name: the column names, and the values of `kind.names`."""
    found = set(table.column_names)
    for path in kind.names:
        column, _, part = path.partition(".")
        if column in table.column_names:
            found |= _values(table.column(column), part)
    return found


def _values(column: pa.ChunkedArray, part: str) -> set[str]:
    """The distinct names among the values of a column."""
    if pa.types.is_null(column.type):
        return set()
    flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    names = pc.struct_field(flat, part) if part else flat
    return {name for name in pc.unique(names).to_pylist() if name is not None}


def _values_renamed(values: pa.Array, part: str, new: Callable[[str], str]) -> pa.Array:
    """Texts, lists of texts or lists of structs with names replaced, without a loop over rows."""
    if pa.types.is_list(values.type):
        flat = _values_renamed(pc.list_flatten(values), part, new)
        lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, flat, type=values.type, mask=values.is_null())
    if pa.types.is_struct(values.type):
        fields = [values.type.field(place) for place in range(values.type.num_fields)]
        arrays = [pc.struct_field(values, f.name) for f in fields]
        arrays = [_values_renamed(a, "", new) if f.name == part else a for a, f in zip(arrays, fields, strict=True)]
        return pa.StructArray.from_arrays(arrays, fields=fields)
    each = values.dictionary_encode()
    names = pa.array([None if name is None else new(name) for name in each.dictionary.to_pylist()], values.type)
    return pa.DictionaryArray.from_arrays(each.indices, names).dictionary_decode()
