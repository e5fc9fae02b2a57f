"""Rows as a vendor sent them → canonical events, or the reason why not; in the engine, whole batches at a time."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa

from onetouch.events.identity import business_domains
from onetouch.events.shape import Shape
from onetouch.exports.lines import SHOWN_BYTES
from onetouch.policy import Policy

REASONS = (
    "invalid_utf8", "broken_json", "not_an_object", "unknown_shape", "missing_event_type", "no_user_and_no_account",
    "control_characters", "value_too_long", "unparsable_time", "before_product", "after_receipt",
)  # fmt: skip
"""Why a row is no event, the first that applies; a row or file that could not be read brings its own reason."""

_HOST_OF_EMAIL = r"^[^@\s]+@([^@\s]+\.[^@\s]+)$"
_CONTROL = r"[\x00-\x1f\x7f]"


class Canonical:
    """Judges batches of one source on a DuckDB connection.

    `judge` leaves the table `judged`: row (ordinal over all batches), file, line, text, reason (null for an event)
    and the columns of the canonical event, without batch_id; event_id is null where the vendor gave none.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, shape: Shape, policy: Policy, until: datetime) -> None:
        """`until`: the end of the window; an event can't have happened long after it, whatever its own clock says."""
        self.con = con
        self.rows = 0
        self.parse, self.check = _statements(shape, policy, until)
        con.execute("CREATE OR REPLACE TEMP TABLE domains (host VARCHAR PRIMARY KEY, domain VARCHAR)")
        # a JSON scalar as trimmed text; null for objects, arrays, booleans, null and ''
        con.execute(
            r"""CREATE OR REPLACE TEMP MACRO scalar(x) AS CASE left(x, 1)
                WHEN '"' THEN nullif(trim(x ->> '$', E' \t\r\n'), '')
                WHEN '{' THEN NULL WHEN '[' THEN NULL WHEN 't' THEN NULL WHEN 'f' THEN NULL WHEN 'n' THEN NULL
                ELSE x::VARCHAR END"""
        )

    def judge(self, batch: pa.RecordBatch) -> None:
        """Replaces `judged` by the verdict on this batch of `exports.lines.ROWS`."""
        rows = pa.table(batch).append_column("row", pa.array(range(self.rows, self.rows + batch.num_rows), pa.int64()))
        self.rows += batch.num_rows
        self.con.register("received", rows)
        self.con.execute(self.parse)
        self.con.unregister("received")
        new = self.con.execute(
            "SELECT DISTINCT host FROM parsed WHERE host IS NOT NULL AND host NOT IN (SELECT host FROM domains)"
        ).fetchall()
        if new:
            found = business_domains(host for (host,) in new)
            known = pa.table({"host": pa.array(list(found)), "domain": pa.array(list(found.values()), pa.string())})
            self.con.register("found", known)
            self.con.execute("INSERT INTO domains SELECT host, domain FROM found")
            self.con.unregister("found")
        self.con.execute(self.check)


def _statements(shape: Shape, policy: Policy, until: datetime) -> tuple[str, str]:
    limits = policy.events
    structure = json.dumps({key: "JSON" for key in shape.keys})

    def first(keys: tuple[str, ...]) -> str:
        return f"coalesce({', '.join(f'r.{_name(key)}' for key in keys)})"

    def member(column: str, *path: str) -> str:
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)
        return f"json_extract({column}, {_text(pointer)})"

    def first_of(choices: list[str]) -> str:
        return f"coalesce({', '.join(choices)})" if choices else "NULL::VARCHAR"

    def host(value: str) -> str:
        return f"nullif(regexp_extract({value}, {_text(_HOST_OF_EMAIL)}, 1), '')"

    group = first_of(
        [f"scalar(coalesce({member('groups', t, '0')}, {member('groups', t)}))" for t in limits.group_types]
    )
    property_hosts = [host(f"scalar({member('user_properties', p)})") for p in limits.email_properties]
    formats = ", ".join(_text(f) for f in shape.time_formats)
    is_object = "coalesce(left({0}, 1) = '{{', true)"
    is_scalar = "coalesce(left({0}, 1) NOT IN ('{{', '[', 't', 'f'), true)"
    too_long = f"> {limits.max_value_chars}"

    # TRY: a row that is no JSON becomes null here; only such rows are looked at again for the reason
    parse = f"""
        CREATE OR REPLACE TEMP TABLE parsed AS
        WITH decoded AS (
            SELECT row, file::VARCHAR AS file, line, text, problem,
                CASE WHEN problem IS NULL THEN TRY(decode(text)) END AS t
            FROM received
        ), structured AS (
            SELECT *, TRY(json_transform(t, {_text(structure)})) AS r FROM decoded
        ), parts AS (
            SELECT row, file, line, text, t, problem, r IS NULL AS unread,
                {first(shape.event_id)} AS event_id_json,
                {first(shape.event)} AS event_json,
                {first(shape.user_id)} AS user_json,
                {first(shape.groups)} AS groups,
                {first(shape.properties)} AS properties,
                {first(shape.user_properties)} AS user_properties,
                {first_of([f"scalar(r.{_name(key)})" for key in shape.occurred_at])} AS occurred,
                {first_of([f"scalar(r.{_name(key)})" for key in shape.received_at])} AS received
            FROM structured
        ), named AS (
            SELECT *, scalar(user_json) AS user_id, scalar(event_id_json) AS event_id,
                CASE WHEN left(event_json, 1) = '"' THEN scalar(event_json) END AS event,
                CASE WHEN left(groups, 1) = '{{' AND groups <> '{{}}' THEN {group} END AS group_id,
                try_strptime(occurred, [{formats}]) AS occurred_at,
                try_strptime(received, [{formats}]) AS received_at
            FROM parts
        )
        SELECT *, lower({first_of([host("user_id"), *property_hosts])}) AS host FROM named
    """
    check = f"""
        CREATE OR REPLACE TEMP TABLE judged AS
        WITH known AS (
            SELECT p.*, d.domain AS email_domain, coalesce(p.group_id, d.domain, p.user_id) AS account_id,
                CASE WHEN p.group_id IS NOT NULL THEN 'group' WHEN d.domain IS NOT NULL THEN 'domain'
                    WHEN p.user_id IS NOT NULL THEN 'personal' END AS account_basis
            FROM parsed p LEFT JOIN domains d USING (host)
        )
        SELECT row, file, line, text,
            CASE
                WHEN problem IS NOT NULL THEN problem
                WHEN t IS NULL THEN 'invalid_utf8'
                WHEN unread AND NOT json_valid(t) THEN 'broken_json'
                WHEN (unread OR event_json IS NULL) AND json_type(t) <> 'OBJECT' THEN 'not_an_object'
                WHEN NOT ({is_object.format("groups")} AND {is_object.format("properties")}
                    AND {is_object.format("user_properties")} AND {is_scalar.format("user_json")}
                    AND {is_scalar.format("event_id_json")} AND coalesce(left(event_json, 1) = '"', true))
                    THEN 'unknown_shape'
                WHEN event IS NULL THEN 'missing_event_type'
                WHEN account_id IS NULL THEN 'no_user_and_no_account'
                WHEN regexp_matches(concat(user_id, account_id, event, event_id), {_text(_CONTROL)})
                    THEN 'control_characters'
                WHEN length(user_id) {too_long} OR length(account_id) {too_long} OR length(event) {too_long}
                    OR length(event_id) {too_long} OR length(properties) {too_long} THEN 'value_too_long'
                WHEN occurred_at IS NULL OR received_at IS NULL THEN 'unparsable_time'
                WHEN occurred_at < TIMESTAMP {_text(_moment(limits.product_since_at))} THEN 'before_product'
                WHEN occurred_at > least(received_at, TIMESTAMP {_text(_moment(until))})
                    + INTERVAL {limits.max_hours_after_receipt} HOUR THEN 'after_receipt'
            END AS reason,
            left(coalesce(t, text::VARCHAR), {SHOWN_BYTES}) AS shown,
            event_id, event, occurred_at, received_at, user_id, account_id, account_basis, email_domain,
            coalesce(properties::VARCHAR, '{{}}') AS properties
        FROM known
    """
    return parse, check


def latest_occurrence(policy: Policy, until: datetime) -> datetime:
    """The last moment at which an event of a window that ends at `until` can have happened."""
    return until + timedelta(hours=policy.events.max_hours_after_receipt)


def _text(value: str) -> str:
    """An SQL text literal."""
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    """An SQL identifier."""
    return '"' + value.replace('"', '""') + '"'


def _moment(at: datetime) -> str:
    """A UTC moment as the engine writes timestamps without zone."""
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"
