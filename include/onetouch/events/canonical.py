"""Converts raw rows of a source to canonical events or rejects them with a reason, in the engine, batch by batch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.events.identity import business_domains
from onetouch.lake import Engine
from onetouch.ledger import Forgotten
from onetouch.policy import Policy
from onetouch.sources import EPOCH_MILLISECONDS, EPOCH_SECONDS, ERASED, ISO, SHOWN_BYTES, Source, TimeFormat, steps

if TYPE_CHECKING:
    import ibis.expr.types as ir

REASONS = (
    "invalid_utf8", "broken_json", "not_an_object", "unknown_shape", "missing_event_type", "no_user_and_no_account",
    "control_characters", "value_too_long", "unparsable_time", "before_product", "after_receipt", "other_project",
)  # fmt: skip
"""Why a row is rejected: the first reason that applies. A row or file that could not be read has its own reason."""

OTHER_PROJECT = "other_project"
"""The reason for leaving out a row of a project that is not one of the policy's `events.projects`."""

FORGOTTEN = "forgotten"
"""The reason for rejecting a row of a forgotten user or account: the row is counted, but kept nowhere."""

_NOBODY = "no_user_and_no_account"
_HOST_OF_EMAIL = r"^[^@\s]+@([^@\s]+\.[^@\s]+)$"
_CONTROL = r"[\x00-\x1f\x7f]"
_BLANK = " \t\r\n"
_WORD = re.compile(r"""[^\s"'`,;:<>(){}\[\]|=]+""")
_ISO = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d"
_OFFSET = r"([Zz]|[+-]\d\d(:?\d\d)?)$"
_FARTHEST_SECONDS = 1e11  # numbers more than about 3,000 years from 1970 are no moments
_ROWS_AT_ONCE = 10_000

_RECEIVED = pa.schema(
    [
        ("row", pa.int64()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("text", pa.string()),
        ("octets", pa.string()),
        ("problem", pa.string()),
    ]
)
"""A batch as the engine gets it. `text` has no line end; where a row has a problem or is not UTF-8, `text` is null and
`octets` shows the bytes."""


class Canonical:
    """Collects the batches of one source in an engine and accepts or rejects each row.

    `finish` then makes two tables: `good` (row, an ordinal over all batches; the columns of the canonical event except
    source and batch_id; file and text_hash, from which an event_id is made where the source gave none) and `bad` (row,
    file, line, reason, shown). Every row of every batch is in exactly one of them.
    """

    good: ir.Table
    bad: ir.Table

    def __init__(
        self,
        engine: Engine,
        source: Source,
        policy: Policy,
        until: datetime,
        only: Sequence[str] | None = None,
        forgotten: Forgotten | None = None,
    ) -> None:
        """`until`: the end of the window; an event cannot have happened long after it, whatever time the row gives.

        `only`: the source's names of the wanted events; other rows are left out (None: all events are wanted).
        `forgotten`: the users and accounts whose rows are dropped (`bad` then has neither their text nor other data).
        """
        self.engine = engine
        self.rows = 0
        self.forgotten = forgotten or None
        judge = _Judge(engine, source, policy, until, only, self.forgotten)
        self.judged, self._add = engine.gather(f"rows_{source.name}", _RECEIVED, judge.judged)
        self.dropped: ir.Table | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Reads a batch of schema `sources.ROWS` and accepts or rejects its rows."""
        ordinals = pa.array(np.arange(self.rows, self.rows + batch.num_rows))
        self.rows += batch.num_rows
        text, octets = _decoded(batch.column("text"), batch.column("problem"))
        columns = [ordinals, batch.column("file"), batch.column("line"), text, octets, batch.column("problem")]
        self._add(pa.table(columns, names=_RECEIVED.names))

    def finish(self) -> None:
        """Resolves each distinct e-mail host to a business domain, and sets `good` and `bad`."""
        import ibis

        engine, judged = self.engine, self.judged
        hosts = engine.fetch(judged.select("host").filter(judged.host.notnull()).distinct())
        found = business_domains(hosts["host"].to_pylist())
        table = pa.table({"host": pa.array(list(found), pa.string()), "domain": pa.array(found.values(), pa.string())})
        rows = judged.left_join(engine.keep(engine.table(table, "found"), "domains"), "host").drop("host_right")
        rows = rows.mutate(account_id=ibis.coalesce(rows.group_id, rows.domain, rows.user_id))
        gone = rows.reason == FORGOTTEN
        if self.forgotten:
            dropped = self.dropped = self._dropped(self.forgotten, rows)
            rows = rows.left_join(dropped.mutate(is_dropped=True), "row").drop("row_right")
            gone = gone | rows.is_dropped
            rows = rows.mutate(gone=gone.fill_null(False))
        else:
            rows = rows.mutate(gone=gone.fill_null(False))
        is_good = rows.reason.isnull() & rows.account_id.notnull() & ~rows.gone
        good = rows.filter(is_good)
        self.good = engine.view(good.select(
            "row", "file", "text_hash", "event_id", "event", "occurred_at", "received_at", "user_id", "account_id",
            account_basis=ibis.cases(
                (good.group_id.notnull(), "group"), (good.domain.notnull(), "domain"), else_="personal"
            ),
            email_domain=good.domain,
            properties=good.properties,
        ), "good")  # fmt: skip
        bad = rows.filter(~is_good)
        self.bad = engine.view(bad.select(
            "row", "file", "line",
            reason=bad.gone.ifelse(FORGOTTEN, bad.reason.fill_null(_NOBODY)),
            shown=bad.gone.ifelse(ibis.null(), bad.shown),
        ), "bad")  # fmt: skip

    def _dropped(self, forgotten: Forgotten, rows: ir.Table) -> ir.Table:
        """The ordinals of the rows of forgotten users and accounts, including rejected rows that mention them."""
        import ibis

        engine = self.engine
        digests = {
            kind: engine.table(
                pa.table({"digest": pa.array(sorted(forgotten.digests.get(kind, ())), pa.string())}),
                f"forgotten_{kind}",
            )
            for kind in ("user", "account")
        }
        ids = rows.select("row", "user_id", "account_id", "email_digest")

        def named(kind: str, column: str) -> ir.Table:
            """The rows in which the column holds a forgotten id of that kind."""
            distinct = ids.select(column).distinct().filter(lambda t: t[column].notnull())
            digested = distinct.mutate(digest=_digest(forgotten.key, kind, distinct[column]))
            return ids.semi_join(digested.semi_join(digests[kind], "digest"), column).select("row")

        addressed = ids.semi_join(digests["user"], [("email_digest", "digest")]).select("row")
        mentions = engine.table(pa.table({"row": pa.array(self._mentions(forgotten), pa.int64())}), "mentions")
        found = ibis.union(named("user", "user_id"), named("account", "account_id"), addressed, mentions, distinct=True)
        return engine.keep(found, "dropped")

    def _mentions(self, forgotten: Forgotten) -> list[int]:
        """The ordinals of rows whose shown text contains a word that identifies a forgotten user or account."""

        def is_forgotten(word: str) -> bool:
            host = word.lower().rpartition("@")[2]
            return (
                forgotten.digest("user", word) in forgotten.digests.get("user", ())
                or forgotten.digest("account", word) in forgotten.digests.get("account", ())
                or forgotten.digest("account", host) in forgotten.digests.get("account", ())
            )

        shown = self.judged.filter(self.judged.shown.notnull()).select("row", "shown")
        return [
            row
            for batch in self.engine.batches(shown, _ROWS_AT_ONCE)
            for row, text in zip(batch["row"].to_pylist(), batch["shown"].to_pylist(), strict=True)
            if any(map(is_forgotten, set(_WORD.findall(text))))
        ]


def _digest(key: str, kind: str, value: ir.StringValue) -> ir.StringValue:
    """`Forgotten.digest` as an expression of the engine."""
    import ibis

    same = value.contains("@").ifelse(value.lower(), value)
    return ibis.literal(f"{key}:{kind}:").concat(same).hexdigest("sha256")


def _decoded(octets: pa.Array, problem: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The texts without line ends, null where there is a problem or invalid UTF-8, and for these rows the bytes in
    printable form."""
    good = problem.is_null()
    try:
        text = pc.if_else(good, octets, None).cast(pa.string())
    except pa.ArrowInvalid:
        decoded = [
            _utf8(value) if fine else None for value, fine in zip(octets.to_pylist(), good.to_pylist(), strict=True)
        ]
        text = pa.array(decoded, pa.string())
    unread = text.is_null()
    shown = pa.nulls(len(octets), pa.string())
    if pc.any(unread).as_py():
        values = [_escaped(value) for value in octets.filter(unread).to_pylist()]
        shown = pc.replace_with_mask(shown, unread, pa.array(values, pa.string()))
    return pc.utf8_rtrim(text, characters="\r\n"), shown


def _utf8(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _escaped(value: bytes) -> str:
    r"""Bytes as text: printable ASCII unchanged, except quotes and the backslash; everything else as `\xNN`."""
    shown = (chr(o) if 32 <= o < 127 and o not in b"\"'\\" else f"\\x{o:02X}" for o in value[:SHOWN_BYTES])
    return "".join(shown)[:SHOWN_BYTES]


class _Judge:
    """Finds the parts of rows by the source's shape, and gives the reason for each row that is no event."""

    def __init__(
        self,
        engine: Engine,
        source: Source,
        policy: Policy,
        until: datetime,
        only: Sequence[str] | None,
        forgotten: Forgotten | None,
    ) -> None:
        self.engine, self.shape, self.limits = engine, source.shape, policy.events
        self.zone = policy.source_settings(source.name).timezone
        self.until, self.only, self.forgotten = until, only, forgotten
        shape = self.shape
        objects = (*shape.groups, *shape.properties, *shape.user_properties)
        scalars = (
            *shape.event_id, *shape.event, *shape.user_id, *shape.occurred_at, *shape.received_at, *shape.group,
            *shape.email, *shape.project,
        )  # fmt: skip
        self.keys = {steps(place)[0]: "text" for place in scalars}
        self.keys |= {steps(place)[0]: "json" for place in objects}
        self.keys |= {steps(place)[0]: "json" for place in scalars if len(steps(place)) > 1}
        self.columns = {key: f"json_{place}" for place, key in enumerate(self.keys)}

    def judged(self, received: ir.Table) -> ir.Table:
        """The rows of a batch with their parts, and the first reason that applies.

        One reason is decided later, in `Canonical.finish`: whether a row that is identified by an e-mail address alone
        has an account depends on the address's domain. Such a row keeps its text until then.
        """
        import ibis

        parts = self._parts(self.engine.json_columns(received, "text", self.keys))  # type: ignore[arg-type]
        if self.only is not None:
            parts = parts.filter(parts.event.isin(list(self.only)) if self.only else ibis.literal(False))
        judged = parts.mutate(reason=self._reason(parts))
        fine = judged.reason.isnull()
        doubtful = ~fine | ibis.coalesce(judged.user_id, judged.group_id).isnull()
        placed = ibis.literal(True) if self.forgotten else doubtful  # the place of a row that may have to be erased

        def kept(column: str) -> ir.Value:
            return fine.ifelse(judged[column], ibis.null())

        return judged.select(
            "row",
            file=(placed | judged.event_id.isnull()).ifelse(judged.file, ibis.null()),
            line=placed.ifelse(judged.line, ibis.null()),
            reason=judged.reason,
            shown=(doubtful & (judged.reason.fill_null("") != OTHER_PROJECT)).ifelse(
                ibis.coalesce(judged.text, judged.octets).left(SHOWN_BYTES), ibis.null()
            ),
            event_id=kept("event_id"),
            text_hash=(fine & judged.event_id.isnull()).ifelse(judged.text.hexdigest("md5"), ibis.null()),
            event=kept("event"),
            occurred_at=kept("occurred_at"),
            received_at=kept("received_at"),
            user_id=kept("user_id"),
            group_id=kept("group_id"),
            host=kept("host"),
            properties=kept("properties"),
            email_digest=judged.email_digest,
            project=judged.project,
        )

    # ── parts ──

    def _parts(self, rows: ir.Table) -> ir.Table:
        import ibis

        shape = self.shape
        found = rows.mutate(
            event_id=self._trimmed(self._first(rows, shape.event_id)),
            event=self._trimmed(self._first(rows, shape.event)),
            project=self._trimmed(self._first(rows, shape.project)),
            user_id=self._trimmed(self._first(rows, shape.user_id)),
            occurred_at=self._moment(rows, shape.occurred_at),
            received_at=self._moment(rows, shape.received_at),
            groups=_coalesce(self._object(rows, place) for place in shape.groups),
            properties=_coalesce([*(self._object(rows, place) for place in shape.properties), ibis.literal("{}")]),
            user_properties=_coalesce(self._object(rows, place) for place in shape.user_properties),
        )
        # a group's value is a list, of which the first item counts, or a single value
        groups = _coalesce(
            self._scalar(found.groups, (kind, *index)) for kind in self.limits.group_types for index in (("0",), ())
        )
        addresses = [
            *(self._trimmed(self._first(found, [place])) for place in shape.email),
            *(
                found.user_properties.contains("@").ifelse(self._scalar(found.user_properties, (name,)), ibis.null())
                for name in self.limits.email_properties
            ),
        ]
        digest: ir.Value = ibis.null("string")
        if self.forgotten:  # an address is kept only as its digest, and only if somebody was forgotten
            digest = _digest(self.forgotten.key, "user", _coalesce(addresses).lower())
        return found.mutate(
            group_id=_coalesce(
                [
                    *(self._trimmed(self._first(found, [place])) for place in shape.group),
                    (found.groups != "{}").ifelse(groups, ibis.null()),
                ]
            ),
            host=_coalesce(
                [found.user_id.contains("@").ifelse(_host(found.user_id), ibis.null()), *map(_host, addresses)]
            ).lower(),
            email_digest=digest,
        ).mutate(unread=found.json_unread)

    def _first(self, rows: ir.Table, places: Iterable[str]) -> ir.StringValue:
        """The value at the first of these places that is not empty, as text."""

        def at(place: str) -> ir.StringValue:
            key, *rest = steps(place)
            column = rows[self.columns[key]]
            return self.engine.json_text(column, rest) if self.keys[key] == "json" else column

        return _coalesce(map(at, places))

    def _object(self, rows: ir.Table, place: str) -> ir.StringValue:
        key, *rest = steps(place)
        column = rows[self.columns[key]]
        return self.engine.json_part(column, rest) if rest else column

    def _scalar(self, document: ir.StringValue, path: Sequence[str]) -> ir.StringValue:
        """The text or number at a path of a JSON text; null for any other value."""
        import ibis

        element = self.engine.json_part(document, path)
        text = self._trimmed(self.engine.json_text(element, ()))
        return (~ibis.literal("{[tfn").contains(element.left(1))).ifelse(text, ibis.null())

    def _trimmed(self, value: ir.StringValue) -> ir.StringValue:
        return self.engine.trim(value, _BLANK).nullif("")

    def _moment(self, rows: ir.Table, places: Sequence[str]) -> ir.TimestampValue:
        text = self._first(rows, places)
        return _coalesce((self._read(text, form) for form in self.shape.times), "timestamp")

    def _read(self, text: ir.StringValue, form: TimeFormat) -> ir.TimestampValue:
        """The moment in UTC, without zone; null where the text does not have the format."""
        import ibis

        zoned: ir.BooleanValue = ibis.literal(False)
        if form.pattern in (EPOCH_SECONDS, EPOCH_MILLISECONDS):
            number = text.try_cast("float64") / (1 if form.pattern == EPOCH_SECONDS else 1000)
            near = number.between(-_FARTHEST_SECONDS, _FARTHEST_SECONDS)
            micros = near.ifelse((number * 1_000_000).round(), ibis.null()).cast("int64")
            read = self.engine.from_epoch(micros)
        elif form.pattern == ISO:
            zoned = text.re_search(_OFFSET)
            said = text.re_search(_ISO).ifelse(text, ibis.null())
            read = self.engine.moment(said, ISO)
        else:
            read = self.engine.moment(text, form.pattern)
        if not form.project_zone or self.zone == "UTC":
            return read
        return zoned.ifelse(read, self.engine.to_utc(read, self.zone))

    # ── reasons ──

    def _reason(self, parts: ir.Table) -> ir.StringValue:
        import ibis

        shape, limits = self.shape, self.limits
        odd = [
            *(parts[name].left(1) != "{" for name in ("groups", "properties", "user_properties")),
            self._not_scalar(parts, "user_id", shape.user_id),
            self._not_scalar(parts, "event_id", shape.event_id),
            self._not_scalar(parts, "event", shape.event),
            self._not_scalar(parts, "group_id", shape.group),
        ]
        ids = [parts[name].fill_null("") for name in ("user_id", "group_id", "event", "event_id")]
        too_long = [
            parts[name].length() > limits.max_value_chars
            for name in ("user_id", "group_id", "event", "event_id", "properties")
        ]
        latest = ibis.least(parts.received_at, _naive(self.until)) + ibis.interval(hours=limits.max_hours_after_receipt)
        return ibis.cases(
            (parts.problem.notnull(), parts.problem),
            (parts.text.isnull(), "invalid_utf8"),
            (parts.text == ERASED, FORGOTTEN),
            (parts.unread & ~self.engine.is_json(parts.text), "broken_json"),
            ((parts.unread | parts.event.isnull()) & ~self.engine.json_object(parts.text), "not_an_object"),
            (ibis.or_(*odd), "unknown_shape"),
            (parts.event.isnull(), "missing_event_type"),
            (self._elsewhere(parts), OTHER_PROJECT),
            (ibis.coalesce(parts.user_id, parts.group_id, parts.host).isnull(), _NOBODY),
            (ids[0].concat(*ids[1:]).re_search(_CONTROL), "control_characters"),
            (ibis.or_(*too_long), "value_too_long"),
            (parts.occurred_at.isnull() | parts.received_at.isnull(), "unparsable_time"),
            (parts.occurred_at < _naive(limits.product_since_at), "before_product"),
            (parts.occurred_at > latest, "after_receipt"),
        )

    def _elsewhere(self, parts: ir.Table) -> ir.BooleanValue:
        """Whether a row belongs to a project that does not count, where the source's rows name their project."""
        import ibis

        if not self.limits.projects or not self.shape.project:
            return ibis.literal(False)
        return ~parts.project.isin(self.limits.projects).fill_null(False)

    def _not_scalar(self, parts: ir.Table, name: str, places: Sequence[str]) -> ir.BooleanValue:
        """Whether a value that should be a text or a number is an object or a list."""
        import ibis

        kinds = ibis.or_(*(self.engine.json_nested(parts.text, steps(place)) for place in places))
        return ibis.literal("{[").contains(parts[name].left(1)) & kinds


def _host(address: ir.StringValue) -> ir.StringValue:
    """The host of an e-mail address; null for any other text."""
    return address.re_extract(_HOST_OF_EMAIL, 1).nullif("")


def _coalesce(choices: Iterable[ir.Value], kind: str = "string") -> ir.Value:
    """The first choice that is not null; null if there are no choices."""
    import ibis

    given = list(choices)
    return ibis.coalesce(*given) if given else ibis.null(kind)


def _naive(moment: datetime) -> ir.TimestampScalar:
    """A moment in UTC without zone, for comparison with the engine's moments, which are UTC without zone."""
    import ibis

    return ibis.literal(moment.astimezone(UTC).replace(tzinfo=None), type="timestamp")
