"""Rows as a vendor sent them → canonical events, or the reason why not; in the engine, whole batches at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa

from onetouch.events.identity import business_domains
from onetouch.ledger import Forgotten
from onetouch.policy import Policy
from onetouch.sources import ERASED, SHOWN_BYTES, Shape, steps

REASONS = (
    "invalid_utf8", "broken_json", "not_an_object", "unknown_shape", "missing_event_type", "no_user_and_no_account",
    "control_characters", "value_too_long", "unparsable_time", "before_product", "after_receipt",
)  # fmt: skip
"""Why a row is no event, the first that applies; a row or file that could not be read brings its own reason."""

_HOST_OF_EMAIL = r"^[^@\s]+@([^@\s]+\.[^@\s]+)$"
_NOBODY = "no_user_and_no_account"

FORGOTTEN = "forgotten"
"""Why a row of somebody who was forgotten is no event: it is counted, and not kept anywhere."""
_CONTROL = r"[\x00-\x1f\x7f]"


class Canonical:
    """Gathers batches of one source in `stage.rows` of a DuckDB connection, each row judged.

    `finish` then leaves two views: `stage.good` (row, an ordinal over all batches; the columns of the canonical event
    but batch_id; where the vendor gave no event_id it is null, and file and text_hash are there to make one of) and
    `stage.bad` (row, file, line, reason, shown). Every row of every batch is in one of them.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        shape: Shape,
        policy: Policy,
        until: datetime,
        only: Sequence[str] | None = None,
        forgotten: Forgotten | None = None,
    ) -> None:
        """`until`: the end of the window; an event can't have happened long after it, whatever its own clock says.

        `only`: the vendor's names of the events wanted; other rows are left out (None: nothing is). `forgotten`:
        whose rows are dropped (`stage.bad` then has neither their text nor anything else of theirs).
        """
        self.con = con
        self.rows = 0
        self.forgotten = forgotten or None
        self.read = _read_statement(shape, policy, until, only, self.forgotten)
        con.execute(
            """CREATE OR REPLACE TABLE stage.rows (row BIGINT, file VARCHAR, line BIGINT, reason VARCHAR, shown VARCHAR,
                event_id VARCHAR, text_hash VARCHAR, event VARCHAR, occurred_at TIMESTAMP, received_at TIMESTAMP,
                user_id VARCHAR, group_id VARCHAR, host VARCHAR, properties VARCHAR, email_digest VARCHAR)"""
        )
        con.execute("CREATE OR REPLACE TABLE stage.dropped (row BIGINT)")

    def add(self, batch: pa.RecordBatch) -> None:
        """Reads and judges a batch of `sources.ROWS`."""
        ordinals = pa.array(np.arange(self.rows, self.rows + batch.num_rows))
        self.rows += batch.num_rows
        self.con.register("received", pa.table(batch).append_column("row", ordinals))
        self.con.execute(self.read)
        self.con.unregister("received")

    def finish(self) -> None:
        """Resolves e-mail hosts to companies, once for each distinct host, and leaves the views."""
        hosts = self.con.execute("SELECT DISTINCT host FROM stage.rows WHERE host IS NOT NULL").fetchall()
        found = business_domains(host for (host,) in hosts)
        table = {"host": pa.array(list(found), pa.string()), "domain": pa.array(list(found.values()), pa.string())}
        self.con.register("found", pa.table(table))
        self.con.execute("CREATE OR REPLACE TABLE stage.domains AS SELECT host, domain FROM found")
        self.con.unregister("found")
        if self.forgotten:
            self._drop(self.forgotten)
        self.con.execute(
            """
            CREATE OR REPLACE VIEW stage.good AS
            SELECT row, file, text_hash, event_id, event, occurred_at, received_at, user_id,
                coalesce(group_id, domain, user_id) AS account_id,
                CASE WHEN group_id IS NOT NULL THEN 'group' WHEN domain IS NOT NULL THEN 'domain' ELSE 'personal' END
                    AS account_basis,
                domain AS email_domain, properties
            FROM stage.rows LEFT JOIN stage.domains USING (host)
            WHERE reason IS NULL AND coalesce(group_id, domain, user_id) IS NOT NULL
                AND row NOT IN (SELECT row FROM stage.dropped)
            """
        )
        self.con.execute(
            f"""
            CREATE OR REPLACE VIEW stage.bad AS
            SELECT row, file, line, CASE WHEN gone THEN '{FORGOTTEN}' ELSE coalesce(reason, '{_NOBODY}') END AS reason,
                CASE WHEN NOT gone THEN shown END AS shown
            FROM (SELECT *, row IN (SELECT row FROM stage.dropped) OR coalesce(reason = '{FORGOTTEN}', false) AS gone
                FROM stage.rows LEFT JOIN stage.domains USING (host))
            WHERE gone OR reason IS NOT NULL OR coalesce(group_id, domain, user_id) IS NULL
            """
        )

    def _drop(self, forgotten: Forgotten) -> None:
        """Fills `stage.dropped` with the rows of those who were forgotten, bad rows that mention them among them."""
        for kind in ("user", "account"):
            digests = pa.array(sorted(forgotten.digests.get(kind, ())), pa.string())
            self.con.register(f"forgotten_{kind}", pa.table({"digest": digests}))
        digest = _digest(forgotten.key)
        self.con.execute(
            rf"""
            CREATE OR REPLACE TABLE stage.dropped AS
            WITH ids AS (
                SELECT row, user_id, coalesce(group_id, domain, user_id) AS account_id, email_digest
                FROM stage.rows LEFT JOIN stage.domains USING (host)
            ), users AS (
                SELECT user_id FROM (SELECT DISTINCT user_id FROM ids)
                WHERE {digest("user", "user_id")} IN (FROM forgotten_user)
            ), accounts AS (
                SELECT account_id FROM (SELECT DISTINCT account_id FROM ids)
                WHERE {digest("account", "account_id")} IN (FROM forgotten_account)
            ), words AS (
                SELECT DISTINCT row, unnest(regexp_extract_all(shown, '[^\s"''`,;:<>(){{}}\[\]\|=]+')) AS word
                FROM stage.rows WHERE shown IS NOT NULL
            )
            SELECT row FROM ids SEMI JOIN users USING (user_id)
            UNION SELECT row FROM ids SEMI JOIN accounts USING (account_id)
            UNION SELECT row FROM ids WHERE email_digest IN (FROM forgotten_user)
            UNION SELECT row FROM words WHERE {digest("user", "word")} IN (FROM forgotten_user)
                OR {digest("account", "word")} IN (FROM forgotten_account)
                OR {digest("account", "regexp_replace(lower(word), '^.*@', '')")} IN (FROM forgotten_account)
            """
        )


def _digest(key: str) -> Callable[[str, str], str]:
    """SQL of `Forgotten.digest`: of (kind, SQL of a text)."""
    return lambda kind, value: (
        f"sha256({_text(f'{key}:{kind}:')} || CASE WHEN contains({value}, '@') THEN lower({value}) ELSE {value} END)"
    )


def _read_statement(
    shape: Shape, policy: Policy, until: datetime, only: Sequence[str] | None, forgotten: Forgotten | None
) -> str:
    """The SQL that reads the rows of `received` into `stage.rows`.

    It knows every reason but one: whether a row with an e-mail address only has an account is decided by its domain,
    later; such a row keeps its text until then.
    """
    limits = policy.events
    places = (
        *shape.event_id, *shape.event, *shape.occurred_at, *shape.received_at, *shape.user_id, *shape.groups,
        *shape.properties, *shape.user_properties,
    )  # fmt: skip
    keys = dict.fromkeys(steps(place)[0] for place in places)
    objects = {*shape.groups, *shape.properties, *shape.user_properties}
    structure = {key: "JSON" if key in objects else "VARCHAR" for key in keys}

    def first(keys: Sequence[str]) -> str:
        return _coalesce(f"r.{_name(key)}" for key in keys)

    def trimmed(value: str) -> str:
        return rf"nullif(trim({value}, E' \t\r\n'), '')"

    def scalar(column: str, *path: str) -> str:
        """A text or number at a place of a JSON column as text; null for anything else."""
        element = f"json_extract({column}, {_text(_pointer(*path))})"
        text = trimmed(f"{element} ->> '$'")
        # contains, as the engine turns IN into a join
        return f"CASE WHEN NOT contains('{{[tfn', left({element}, 1)) THEN {text} END"

    def moment(keys: Sequence[str]) -> str:
        return _coalesce(
            f"try_strptime({first(keys)}, {_text(form)})" for form in (time.pattern for time in shape.times)
        )

    def host(value: str) -> str:
        return f"nullif(regexp_extract({value}, {_text(_HOST_OF_EMAIL)}, 1), '')"

    def not_scalar(column: str, keys: Sequence[str]) -> str:
        kinds = " OR ".join(f"contains('OBJECT ARRAY', json_type(t, {_text(_pointer(key))}))" for key in keys)
        return f"contains('{{[', left({column}, 1)) AND ({kinds})"

    # a group's value is a list (the first counts) or a single value
    group = _coalesce(scalar("groups", t, *index) for t in limits.group_types for index in (["0"], []))
    property_host = _coalesce(host(scalar("user_properties", p)) for p in limits.email_properties)
    email = "NULL"
    if forgotten:  # of an address only its digest is kept, and only where somebody asks for it
        address = _coalesce(scalar("user_properties", p) for p in limits.email_properties)
        email = _digest(forgotten.key)("user", f"lower({address})")
    odd = [
        *(f"left({column}, 1) <> '{{'" for column in ("groups", "properties", "user_properties")),
        not_scalar("user_id", shape.user_id),
        not_scalar("event_id", shape.event_id),
        not_scalar("event", shape.event),
    ]
    too_long = [
        f"length({column}) > {limits.max_value_chars}"
        for column in ("user_id", "group_id", "event", "event_id", "properties")
    ]
    wanted = "" if only is None else f"WHERE event IN ({', '.join(map(_text, only)) or 'NULL'})"
    placed = "true" if forgotten else "doubtful"  # where a row stands that may have to be taken out of its file
    # TRY: a row that is no JSON becomes null; only such rows are looked at again for the reason
    return f"""
        INSERT INTO stage.rows
        WITH decoded AS (
            SELECT row, file, line, text, problem, CASE WHEN problem IS NULL THEN TRY(decode(text)) END AS t
            FROM received
        ), structured AS (
            SELECT *, TRY(json_transform(t, {_text(json.dumps(structure))})) AS r FROM decoded
        ), parts AS (
            SELECT row, file, line, text, problem, t, r IS NULL AS unread,
                {trimmed(first(shape.event_id))} AS event_id,
                {trimmed(first(shape.event))} AS event,
                {trimmed(first(shape.user_id))} AS user_id,
                {moment(shape.occurred_at)} AS occurred_at,
                {moment(shape.received_at)} AS received_at,
                {first(shape.groups)}::VARCHAR AS groups,
                coalesce({first(shape.properties)}::VARCHAR, '{{}}') AS properties,
                {first(shape.user_properties)}::VARCHAR AS user_properties
            FROM structured
        ), named AS (
            SELECT *,
                CASE WHEN groups <> '{{}}' THEN {group} END AS group_id,
                lower(coalesce(
                    CASE WHEN contains(user_id, '@') THEN {host("user_id")} END,
                    CASE WHEN contains(user_properties, '@') THEN {property_host} END)) AS host,
                CASE WHEN contains(user_properties, '@') THEN {email} END AS email_digest
            FROM parts {wanted}
        ), judged AS (
            SELECT *, CASE
                WHEN problem IS NOT NULL THEN problem
                WHEN t IS NULL THEN 'invalid_utf8'
                WHEN rtrim(t, E'\\r\\n') = {_text(ERASED)} THEN '{FORGOTTEN}'
                WHEN unread AND NOT json_valid(t) THEN 'broken_json'
                WHEN (unread OR event IS NULL) AND json_type(t) <> 'OBJECT' THEN 'not_an_object'
                WHEN {" OR ".join(odd)} THEN 'unknown_shape'
                WHEN event IS NULL THEN 'missing_event_type'
                WHEN coalesce(user_id, group_id, host) IS NULL THEN '{_NOBODY}'
                WHEN regexp_matches(concat(user_id, group_id, event, event_id), {_text(_CONTROL)})
                    THEN 'control_characters'
                WHEN {" OR ".join(too_long)} THEN 'value_too_long'
                WHEN occurred_at IS NULL OR received_at IS NULL THEN 'unparsable_time'
                WHEN occurred_at < TIMESTAMP {_text(_moment(limits.product_since_at))} THEN 'before_product'
                WHEN occurred_at > least(received_at, TIMESTAMP {_text(_moment(until))})
                    + INTERVAL {limits.max_hours_after_receipt} HOUR THEN 'after_receipt'
                END AS reason
            FROM named
        ), marked AS (
            SELECT *, reason IS NOT NULL OR coalesce(user_id, group_id) IS NULL AS doubtful FROM judged
        )
        SELECT row,
            CASE WHEN {placed} OR event_id IS NULL THEN file::VARCHAR END,
            CASE WHEN {placed} THEN line END,
            reason,
            CASE WHEN doubtful THEN left(rtrim(coalesce(t, text::VARCHAR), E'\\r\\n'), {SHOWN_BYTES}) END,
            CASE WHEN reason IS NULL THEN event_id END,
            CASE WHEN reason IS NULL AND event_id IS NULL THEN md5(rtrim(t, E'\\r\\n')) END,
            CASE WHEN reason IS NULL THEN event END,
            CASE WHEN reason IS NULL THEN occurred_at END,
            CASE WHEN reason IS NULL THEN received_at END,
            CASE WHEN reason IS NULL THEN user_id END,
            CASE WHEN reason IS NULL THEN group_id END,
            CASE WHEN reason IS NULL THEN host END,
            CASE WHEN reason IS NULL THEN properties END,
            email_digest
        FROM marked
    """


def _coalesce(choices: Iterable[str]) -> str:
    """The first that is not null; null when there is none to choose from."""
    return f"coalesce({', '.join([*choices, 'NULL'])})"


def _pointer(*steps: str) -> str:
    """A JSON pointer."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def _text(value: str) -> str:
    """An SQL text literal."""
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    """An SQL identifier."""
    return '"' + value.replace('"', '""') + '"'


def _moment(at: datetime) -> str:
    """A UTC moment as the engine writes timestamps without zone."""
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"
