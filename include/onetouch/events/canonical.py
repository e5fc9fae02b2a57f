"""Converts raw rows of a source to canonical events or rejects them with a reason, in the engine, batch by batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.catalogue import PROFILE
from onetouch.events.identity import (
    BLANKS,
    GROUP,
    KINDS,
    MAILBOX,
    NOT_TAGGED,
    NUMBER,
    USER,
    account_of_group,
    business_domains,
    placeholders,
)
from onetouch.events.mending import INVALID_UTF8, LONE_SURROGATE, NO_NUMBER, UNREADABLE, mend
from onetouch.lake import Engine
from onetouch.ledger import Forgotten
from onetouch.policy import Policy
from onetouch.sources import EPOCH_MILLISECONDS, EPOCH_SECONDS, ERASED, ISO, SHOWN_BYTES, Source, TimeFormat, steps

if TYPE_CHECKING:
    import ibis.expr.types as ir

REASONS = (
    INVALID_UTF8, LONE_SURROGATE, "broken_json", "not_an_object", "unknown_shape", "missing_event_type",
    "no_user_and_no_account", "control_characters", "value_too_long", "unparsable_time", "before_product",
    "after_receipt", "other_project", "pruned",
)  # fmt: skip
"""Why a row is rejected: the first reason that applies. A row or file that could not be read has its own reason."""

OTHER_PROJECT = "other_project"
"""The reason for leaving out a row of a project that is not one of the policy's `events.projects`."""

PRUNED = "pruned"
"""The reason for leaving out an event of a month whose events were deleted (`lake.pruned_months`): nobody can tell any
more whether it was there."""

FORGOTTEN = "forgotten"
"""The reason for rejecting a row of a forgotten user or account: the row is counted, but kept nowhere."""

_NOBODY = "no_user_and_no_account"
_AGAIN = "read again"  # the reason of a row until its mended text has been read
_HOST_OF_EMAIL = r"^[^@\s]+@([^@\s]+\.[^@\s]+)$"
_CONTROL = r"[\x00-\x1f\x7f]"
_BLANK = " \t\r\n"
_HOST_IN_CAPITALS = r"^[A-Za-z0-9.-]*[A-Z][A-Za-z0-9.-]*$"
_WORD = re.compile(r"""[^\s"'`,;:<>(){}\[\]|=]+""")
_ISO = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d"
_OFFSET = r"([Zz]|[+-]\d\d(:?\d\d)?)$"
_FARTHEST_SECONDS = 1e11  # numbers more than about 3,000 years from 1970 are no moments
_ROWS_AT_ONCE = 10_000
_OF_PERSON = ("email", "about")  # columns of which the profile is made
_LONGEST_OF_PERSON = 200  # ours: longer than any name, title or address
_AGAIN_CHARS = 16 << 20  # about as many characters of rows are mended at once

_RECEIVED = pa.schema(
    [
        ("row", pa.int64()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("text", pa.string()),
        ("octets", pa.string()),
        ("problem", pa.string()),
        ("repaired", pa.string()),
    ]
)
"""A batch as the engine gets it. `text` has no line end; where a row has a problem, `text` is null and `octets` shows
the bytes. `repaired`: what was mended of the text, while `octets` shows what it was (empty: nothing could be; null: the
text is as received)."""


class Canonical:
    """Collects the batches of one source in an engine and accepts or rejects each row.

    `finish` then makes two tables: `good` (row, an ordinal over all batches; the columns of the canonical event except
    source, known_at and batch_id; file, row_hash and text_hash, from which an event_id is made where the source gave
    none; repaired, what was mended of the row, else null) and `bad` (row, file, line, reason, shown). Every row of
    every batch is in exactly one of them.
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
        placed: bool = False,
        and_since: datetime | None = None,
        pruned: Collection[str] = (),
    ) -> None:
        """`until`: the end of the window; an event cannot have happened long after it, whatever time the row gives.

        `only`: the source's names of the wanted events; other rows are left out (None: all events are wanted).
        `and_since`: with `only`, rows of any name that were received from this moment on are wanted as well.
        `forgotten`: the users and accounts whose rows are dropped (`bad` then has neither their text nor other data).
        `placed`: every row of `good` has its file; otherwise only rows without an event_id have it.
        `pruned`: months (yyyy-mm) whose events were deleted, so that no more are taken.
        """
        self.engine = engine
        self.rows = 0
        self.forgotten = forgotten or None
        judge = _Judge(engine, source, policy, until, only, self.forgotten, placed, and_since, pruned)
        self.judged, self._add = engine.gather(f"rows_{source.name}", _RECEIVED, judge.judged)
        self._properties = [steps(place) for place in source.shape.properties]
        self._most = policy.events.max_value_chars
        self.dropped: ir.Table | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Reads a batch of schema `sources.ROWS` and accepts or rejects its rows."""
        ordinals = pa.array(np.arange(self.rows, self.rows + batch.num_rows))
        self.rows += batch.num_rows
        text, octets, repaired = self._decoded(batch.column("text"), batch.column("problem"))
        file, line, problem = batch.column("file"), batch.column("line"), batch.column("problem")
        self._add(pa.table([ordinals, file, line, text, octets, problem, repaired], names=_RECEIVED.names))

    def _decoded(self, octets: pa.Array, problem: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """The columns `text`, `octets` and `repaired` of `_RECEIVED`; rows that are not UTF-8 are mended."""
        good = problem.is_null()
        repaired = pa.nulls(len(octets), pa.string())
        try:
            text = pc.if_else(good, octets, None).cast(pa.string())
        except pa.ArrowInvalid:
            texts: list[str | None] = []
            repairs: list[str | None] = []
            for value, fine in zip(octets.to_pylist(), good.to_pylist(), strict=True):
                decoded = _utf8(value) if fine else None
                is_broken = fine and decoded is None
                mended = mend(value, self._properties, self._most) if is_broken else (decoded, None)
                texts.append(mended[0])
                repairs.append(mended[1])
            text, repaired = pa.array(texts, pa.string()), pa.array(repairs, pa.string())
        unread = pc.or_(text.is_null(), repaired.is_valid())
        shown = pa.nulls(len(octets), pa.string())
        if pc.any(unread).as_py():
            values = [_escaped(value) for value in octets.filter(unread).to_pylist()]
            shown = pc.replace_with_mask(shown, unread, pa.array(values, pa.string()))
        return pc.utf8_rtrim(text, characters="\r\n"), shown, repaired

    def _read_again(self) -> ir.Table:
        """The judged rows, after the mended texts of those that could not be read were judged in their place."""
        again = self.judged.filter(self.judged.reason == _AGAIN)
        sizes = self.engine.fetch(again.select("row", size=again.again.length()).order_by("row"))
        if not sizes.num_rows:
            return self.judged
        ordinals = sizes["row"].to_numpy()
        portion = np.cumsum(sizes["size"].to_numpy()) // _AGAIN_CHARS
        for some in np.split(ordinals, np.flatnonzero(np.diff(portion)) + 1):
            rows = self.engine.fetch(again.filter(again["row"].between(int(some[0]), int(some[-1]))).order_by("row"))
            mended = [mend(text.encode(), self._properties, self._most) for text in rows["again"].to_pylist()]
            texts, repairs = zip(*mended, strict=True)
            none = pa.nulls(len(texts), pa.string())
            columns = [rows["row"], rows["file"], rows["line"], pa.array(texts), rows["again"], none, pa.array(repairs)]
            self._add(pa.table(columns, names=_RECEIVED.names))
        return self.engine.view(self.judged.filter(self.judged.reason.fill_null("") != _AGAIN), "judged")

    def finish(self) -> None:
        """Resolves each distinct e-mail host to a business domain, and sets `good` and `bad`."""
        import ibis

        self.judged = self._read_again()
        engine, judged = self.engine, self.judged
        rows = self._with_domains(judged)
        rows = rows.mutate(
            account_id=ibis.coalesce(rows.group_id, rows.domain, ibis.literal(USER).concat(rows.user_id))
        )
        gone = rows.reason == FORGOTTEN
        if self.forgotten:
            dropped = self.dropped = self._dropped(self.forgotten, rows)
            rows = rows.left_join(dropped.mutate(is_dropped=True), "row").drop("row_right")
            gone = gone | rows.is_dropped
            rows = rows.mutate(gone=gone.fill_null(False))
        else:
            rows = rows.mutate(gone=gone.fill_null(False))
        is_somebody = ibis.coalesce(rows.account_id, rows.anonymous_id).notnull()
        is_good = rows.reason.isnull() & is_somebody & ~rows.gone
        good = rows.filter(is_good)
        self.good = engine.view(good.select(
            "row", "file", "row_hash", "text_hash", "sent_key", "event_id", "event", "occurred_at", "received_at",
            "user_id", "anonymous_id", "groups", "account_id",
            account_basis=ibis.cases(
                (good.group_id.notnull(), "group"), (good.domain.notnull(), "domain"),
                (good.user_id.notnull(), "personal"),
            ),
            email_domain=good.domain,
            never_count=good.never_count,
            profile=good.profile,
            properties=good.properties,
            repaired=good.repaired,
        ), "good")  # fmt: skip
        bad = rows.filter(~is_good)
        self.bad = engine.view(bad.select(
            "row", "file", "line",
            reason=bad.gone.ifelse(FORGOTTEN, bad.reason.fill_null(_NOBODY)),
            shown=bad.gone.ifelse(ibis.null(), bad.shown),
        ), "bad")  # fmt: skip

    def _with_domains(self, judged: ir.Table) -> ir.Table:
        """The rows with the business domain of their addresses (`domain`), and the group that is named by a domain in
        capitals in the domain's spelling."""
        engine = self.engine
        hosts = engine.fetch(judged.select("hosts").filter(judged.hosts.notnull()).distinct())
        domains = _pairs("hosts", "domain", business_domains(hosts["hosts"].to_pylist()))
        rows = judged.left_join(engine.keep(engine.table(domains, "found"), "domains"), "hosts").drop("hosts_right")
        in_capitals = judged.group_id.contains(".") & judged.group_id.re_search(_HOST_IN_CAPITALS)
        names = engine.fetch(judged.filter(in_capitals).select("group_id").distinct())["group_id"].to_pylist()
        if not names:
            return rows
        companies = _pairs("group_id", "company", {name: account_of_group(name) for name in names})
        rows = rows.left_join(engine.keep(engine.table(companies, "named"), "companies"), "group_id")
        return rows.mutate(group_id=rows.company.fill_null(rows.group_id)).drop("group_id_right", "company")

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
        ids = rows.select("row", "user_id", "anonymous_id", "account_id", "email_digest")

        def named(kind: str, column: str) -> ir.Table:
            """The rows in which the column holds a forgotten id of that kind."""
            distinct = ids.select(column).distinct().filter(lambda t: t[column].notnull())
            digested = distinct.mutate(digest=_digest(forgotten.key, kind, distinct[column]))
            return ids.semi_join(digested.semi_join(digests[kind], "digest"), column).select("row")

        addressed = ids.semi_join(digests["user"], [("email_digest", "digest")]).select("row")
        mentions = engine.table(pa.table({"row": pa.array(self._mentions(forgotten), pa.int64())}), "mentions")
        theirs = [named("user", "user_id"), named("user", "anonymous_id"), named("account", "account_id")]
        found = ibis.union(*theirs, addressed, mentions, distinct=True)
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


def _pairs(one: str, other: str, of: Mapping[str, str | None]) -> pa.Table:
    return pa.table({one: pa.array(list(of), pa.string()), other: pa.array(list(of.values()), pa.string())})


def _as_received(rows: ir.Table) -> ir.StringValue:
    """The text of each row before it was mended; where that is not UTF-8, its bytes in printable form."""
    return _coalesce([rows.octets, rows.text])


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
        placed: bool,
        and_since: datetime | None,
        pruned: Collection[str],
    ) -> None:
        self.placed, self.pruned = placed, sorted(pruned)
        self.engine, self.shape, self.limits, self.uncounted = engine, source.shape, policy.events, policy.never_count
        self.source = source.name
        self.zone = policy.source_settings(source.name).timezone
        self.until, self.only, self.forgotten, self.and_since = until, only, forgotten, and_since
        shape = self.shape
        objects = (*shape.groups, *shape.properties, *shape.user_properties)
        scalars = (
            *shape.event_id, *shape.event, *shape.user_id, *shape.occurred_at, *shape.received_at, *shape.group,
            *shape.email, *shape.anonymous_id, *shape.told_apart, *shape.sent_id, *shape.project,
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
            wanted = parts.event.isin(list(self.only)) if self.only else ibis.literal(False)
            if self.and_since is not None:
                wanted = wanted | (parts.received_at >= _naive(self.and_since)).fill_null(False)
            parts = parts.filter(wanted | parts.is_doubtful)
        judged = parts.mutate(reason=self._reason(parts), sent_key=self._sent_key(parts))
        fine = judged.reason.isnull()
        doubtful = ~fine | ibis.coalesce(judged.user_id, judged.group_id, judged.anonymous_id).isnull()
        # The place of a row that may have to be erased, or whose file says when we have had it.
        placed = ibis.literal(True) if self.forgotten or self.placed else doubtful

        def kept(column: str) -> ir.Value:
            return fine.ifelse(judged[column], ibis.null())

        return self._with_profile(judged.select(
            "row",
            file=(placed | judged.event_id.isnull()).ifelse(judged.file, ibis.null()),
            line=placed.ifelse(judged.line, ibis.null()),
            reason=judged.reason,
            shown=(doubtful & judged.reason.fill_null("").notin([OTHER_PROJECT, PRUNED])).ifelse(
                _as_received(judged).left(SHOWN_BYTES), ibis.null()
            ),
            again=(judged.reason == _AGAIN).ifelse(judged.text, ibis.null()),
            repaired=self._repaired(judged),
            event_id=kept("event_id"),
            row_hash=(fine & judged.event_id.isnull()).ifelse(self._row_hash(judged), ibis.null()),
            text_hash=(fine & judged.event_id.isnull()).ifelse(_as_received(judged).hexdigest("md5"), ibis.null()),
            sent_key=kept("sent_key"),
            event=kept("event"),
            occurred_at=kept("occurred_at"),
            received_at=kept("received_at"),
            user_id=kept("user_id"),
            anonymous_id=kept("anonymous_id"),
            groups=self._all_groups(kept("groups")),
            group_id=kept("group_id"),
            hosts=kept("hosts"),
            never_count=kept("never_count"),
            properties=self._is_object(judged.properties).ifelse(kept("properties"), "{}"),
            email_digest=judged.email_digest,
            project=judged.project,
            email=kept("email"),
            about=kept("user_properties"),
        ))  # fmt: skip

    def _with_profile(self, rows: ir.Table) -> ir.Table:
        """The rows with `profile`, made of `email` and `about`: a JSON object of PROFILE, null if it would be empty."""
        import ibis

        named = self.limits.person_properties
        if not named.kept:
            return rows.drop("about", "email").mutate(profile=ibis.null("string"))
        places = {part: list(dict.fromkeys(names)) for part, names in named.model_dump().items()}
        keys = list(dict.fromkeys(name for names in places.values() for name in names))
        found = self.engine.json_texts(rows.about, keys) if keys else None  # the text is parsed once for all of them
        parsed = self.engine.view(rows if found is None else rows.mutate(texts=found), self._name("texts"))

        def at(name: str) -> ir.StringValue:
            text = parsed.texts[keys.index(name)]
            return (text.left(1).isin(["{", "["]) | (text == "")).ifelse(ibis.null(), text.left(_LONGEST_OF_PERSON))

        said = {part: _coalesce(at(name) for name in names) for part, names in places.items()}
        said["email"] = parsed.email.left(_LONGEST_OF_PERSON)
        parsed = parsed.mutate(**{f"of_{part}": said[part] for part in PROFILE})
        parsed = self.engine.view(parsed, self._name("said"))
        of = {part: parsed[f"of_{part}"] for part in PROFILE}
        profile = _coalesce(of.values()).notnull().ifelse(self.engine.to_json(ibis.struct(of)), ibis.null())
        columns = [name for name in rows.columns if name not in _OF_PERSON]
        return parsed.mutate(profile=profile).select(*columns, "profile")

    def _all_groups(self, groups: ir.StringValue) -> ir.StringValue:
        """The groups that an event keeps; null where its properties keep them."""
        import ibis

        if not self.shape.groups or set(self.shape.groups) & set(self.shape.properties):
            return ibis.null("string")
        too_long = groups.length() > self.limits.max_value_chars
        return ((groups == "{}") | too_long).ifelse(ibis.null(), groups)

    # ── parts ──

    def _parts(self, rows: ir.Table) -> ir.Table:
        """The parts of each row. Each step is a view of its own, because a value that is named several times in one
        expression is written out as often."""
        import ibis

        shape, limits = self.shape, self.limits
        found = rows.mutate(
            event_id=self._trimmed(self._first(rows, shape.event_id)),
            event=self._trimmed(self._first(rows, shape.event)),
            project=self._trimmed(self._first(rows, shape.project)),
            occurred_at=self._moment(rows, shape.occurred_at),
            received_at=self._moment(rows, shape.received_at),
            groups=_coalesce(self._object(rows, place) for place in shape.groups),
            properties=_coalesce([*(self._object(rows, place) for place in shape.properties), ibis.literal("{}")]),
            user_properties=_coalesce(self._object(rows, place) for place in shape.user_properties),
        )
        grouped = found.groups != "{}"
        named = {  # every text that may be an id
            **{f"user_{n}": self._text(self._first(found, [place])) for n, place in enumerate(shape.user_id)},
            **{f"anonymous_{n}": self._text(self._first(found, [place])) for n, place in enumerate(shape.anonymous_id)},
            **{f"group_{n}": self._text(self._first(found, [place])) for n, place in enumerate(shape.group)},
            **{
                f"type_{n}": grouped.ifelse(self._text(self._group(found.groups, kind)), ibis.null())
                for n, kind in enumerate(limits.group_types)
            },
        }
        parts = self.engine.view(found.mutate(**named), self._name("named"))
        for number, step in enumerate(self._spelling()):
            parts = self.engine.view(parts.mutate(**{name: step(parts[name]) for name in named}), self._name(number))
        mails = [
            *(self._trimmed(self._first(parts, [place])) for place in shape.email),
            *(
                parts.user_properties.contains("@").ifelse(self._scalar(parts.user_properties, (name,)), ibis.null())
                for name in limits.email_properties
            ),
        ]

        def first(*kinds: str) -> ir.StringValue:
            return _coalesce(parts[name] for name in named if name.rpartition("_")[0] in kinds)

        parts = parts.mutate(
            user_id=first("user"),
            anonymous_id=first("anonymous"),
            group_id=first("group", "type"),
            **{f"mail_{n}": mail for n, mail in enumerate(mails)},
        )
        addresses = [parts[f"mail_{n}"] for n in range(len(mails))]
        digest: ir.Value = ibis.null("string")
        if self.forgotten:  # an address is kept only as its digest, and only if somebody was forgotten
            digest = _digest(self.forgotten.key, "user", _coalesce(addresses).lower())
        odd = ibis.or_(
            parts.anonymous_id.length() > limits.max_value_chars,
            ibis.literal("{[").contains(parts.anonymous_id.left(1)),
            parts.anonymous_id.re_search(_CONTROL),
        )  # what cannot be a person's id is left out, and the row is judged without it
        group = parts.group_id
        judged = parts.mutate(
            anonymous_id=odd.ifelse(ibis.null(), parts.anonymous_id),
            group_id=group.re_search(KINDS).ifelse(ibis.literal(GROUP).concat(group), group),
            hosts=self._hosts([parts.user_id, *addresses]),
            email=_coalesce(address.contains("@").ifelse(address, ibis.null()) for address in addresses),
            never_count=self._never_counts(parts, addresses),
            email_digest=digest,
            unread=parts.json_unread,
            is_doubtful=self._is_doubtful(parts),
        )
        return self.engine.view(judged, self._name("parts"))

    def _name(self, step: object) -> str:
        return f"{step}_of_{self.source}"

    def _spelling(self) -> list[Callable[[ir.StringValue], ir.StringValue]]:
        """`identity.one_id` in the engine, of a trimmed text, in steps that name their text only a few times."""
        import ibis

        ignored, nobody = self.limits.ids_ignore, placeholders(self.limits)

        def spelled(text: ir.StringValue) -> ir.StringValue:
            other = text.lower() if "case" in ignored else text
            other = self.engine.composed(other) if "unicode" in ignored else other
            other = other.re_replace(r"[ \t]+", " ") if "blanks" in ignored else other
            return text.contains("@").ifelse(self.engine.composed(text.lower()), other)

        def mailbox(text: ir.StringValue) -> ir.StringValue:
            tagged = text.contains("+") & ~text.contains(NOT_TAGGED)
            return tagged.ifelse(text.re_replace(MAILBOX, r"\1@"), text)

        def somebody(text: ir.StringValue) -> ir.StringValue:
            whole = (text.contains(".0") & text.re_search(NUMBER)).ifelse(text.re_extract(NUMBER, 1), text)
            return whole.lower().isin(nobody).ifelse(ibis.null(), whole) if nobody else whole

        return [spelled, mailbox, somebody]

    def _text(self, text: ir.StringValue) -> ir.StringValue:
        return self.engine.trim(text, BLANKS).nullif("")

    def _group(self, groups: ir.StringValue, kind: str) -> ir.StringValue:
        """The id that a JSON object of groups has for a type: a value, or the smallest of a list."""
        import ibis

        items = self.engine.json_items(self.engine.json_part(groups, (kind,)))
        items = items.filter(lambda item: ~ibis.literal("{[").contains(item.left(1)))
        for step in (self._text, *self._spelling()):
            items = items.map(step)
        least = items.filter(lambda item: item.notnull()).mins()
        return ibis.coalesce(
            groups.contains(",").ifelse(least, ibis.null()),  # without a comma there is one id
            self._scalar(groups, (kind, "0")),
            self._scalar(groups, (kind,)),
        )

    def _hosts(self, addresses: list[ir.StringValue]) -> ir.StringValue:
        """The hosts of all addresses of a row, each after a blank; null if there are none."""
        import ibis

        hosts: ir.StringValue = ibis.literal("")
        for address in addresses:
            told = address.contains("@").ifelse(ibis.literal(" ").concat(_host(address).lower()), ibis.null())
            hosts = hosts.concat(told.fill_null(""))
        return hosts.nullif("")

    def _never_counts(self, parts: ir.Table, addresses: list[ir.StringValue]) -> ir.BooleanValue:
        """Whether the policy's `never_count` names the person of a row; null if not."""
        import ibis

        who = self.uncounted
        marks = [
            self.engine.json_text(parts.user_properties, [name]).lower().isin([str(value).lower() for value in values])
            for name, values in who.user_properties.items()
            if values
        ]
        if who.users:
            marks.append(parts.user_id.lower().isin([user.strip().lower() for user in who.users]))
        for address in (parts.user_id, *addresses):
            if who.emails:
                marks.append(address.lower().isin([email.strip().lower() for email in who.emails]))
            for domain in who.domains:
                host = ibis.literal(".").concat(_host(address).lower())
                marks.append(host.endswith(f".{domain.strip().lstrip('.@').lower()}"))
        if not marks:
            return ibis.null("boolean")
        return ibis.or_(*(mark.fill_null(False) for mark in marks)).nullif(False)

    def _row_hash(self, rows: ir.Table) -> ir.StringValue:
        """What tells two rows without an event id apart; equal for a row that was exported again."""
        import ibis

        if not self.shape.told_apart:
            return _as_received(rows).hexdigest("md5")
        moments = (rows.occurred_at, rows.received_at)
        places = (*self.shape.user_id, *self.shape.group, *self.shape.told_apart)
        parts = [
            rows.event, rows.groups, rows.properties, *(moment.cast("string") for moment in moments),
            *(self._first(rows, [place]) for place in places),
        ]  # fmt: skip
        told = [part.length().cast("string").concat(":", part).fill_null("-") for part in parts]
        return ibis.literal("").concat(*told).hexdigest("md5")

    def _sent_key(self, rows: ir.Table) -> ir.StringValue:
        """A digest of the sender's own id of the event; null without one. Rows without an event id have keys of their
        own, since equal rows of a file may be two events."""
        import ibis

        if not self.shape.sent_id:
            return ibis.null("string")
        given = [self._trimmed(self._first(rows, [place])) for place in self.shape.sent_id]
        kind = rows.event_id.isnull().ifelse("row", "id")
        told = [kind, *(part.length().cast("string").concat(":", part) for part in given)]
        return told[0].concat(*told[1:]).hexdigest("md5").left(16)

    def _is_doubtful(self, rows: ir.Table) -> ir.BooleanValue:
        """Whether a row has to be mended and read again: it is not JSON, or its properties hold what is not."""
        too_long = rows.properties.length() > self.limits.max_value_chars
        doubtful = rows.json_unread | rows.properties.re_search(NO_NUMBER) | too_long
        return (rows.repaired.isnull() & rows.text.notnull()).ifelse(doubtful.fill_null(False), False)

    def _is_object(self, document: ir.StringValue) -> ir.BooleanValue:
        return document.left(1) == "{"

    def _repaired(self, parts: ir.Table) -> ir.StringValue:
        """What was mended of a row: its text, or its properties, which are left out if they are no object."""
        import ibis

        whole = self._is_object(parts.properties) & self._is_object(parts.user_properties).fill_null(True)
        return ibis.coalesce(parts.repaired.nullif(""), whole.ifelse(ibis.null(), "unknown_shape"))

    def _first(self, rows: ir.Table, places: Sequence[str]) -> ir.StringValue:
        """The value at the first of these places that is not empty, as text."""

        def at(place: str) -> ir.StringValue:
            key, *rest = steps(place)
            column = rows[self.columns[key]]
            text = self.engine.json_text(column, rest) if self.keys[key] == "json" else column
            return text.nullif("") if len(places) > 1 else text

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
            ~self._is_object(parts.groups),
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
        unreadable = parts.unread | ibis.or_(*(value.contains(UNREADABLE) for value in ids))
        lost = parts.repaired.isin([INVALID_UTF8, LONE_SURROGATE]).ifelse(unreadable, False)  # asked of few rows
        latest = ibis.least(parts.received_at, _naive(self.until)) + ibis.interval(hours=limits.max_hours_after_receipt)
        return ibis.cases(
            (parts.problem.notnull(), parts.problem),
            (parts.is_doubtful, _AGAIN),
            (parts.text == ERASED, FORGOTTEN),
            (lost, parts.repaired),
            (parts.unread & ~self.engine.is_json(parts.text), "broken_json"),
            ((parts.unread | parts.event.isnull()) & ~self.engine.json_object(parts.text), "not_an_object"),
            (ibis.or_(*odd), "unknown_shape"),
            (parts.event.isnull(), "missing_event_type"),
            (self._elsewhere(parts), OTHER_PROJECT),
            (ibis.coalesce(parts.user_id, parts.group_id, parts.hosts, parts.anonymous_id).isnull(), _NOBODY),
            (ids[0].concat(*ids[1:]).re_search(_CONTROL), "control_characters"),
            (ibis.or_(*too_long), "value_too_long"),
            (parts.occurred_at.isnull() | parts.received_at.isnull(), "unparsable_time"),
            (parts.occurred_at < _naive(limits.product_since_at), "before_product"),
            (parts.occurred_at > latest, "after_receipt"),
            (self._too_late(parts), PRUNED),
        )

    def _too_late(self, parts: ir.Table) -> ir.BooleanValue:
        """Whether a row is of a month whose events were deleted."""
        import ibis

        if not self.pruned:
            return ibis.literal(False)
        months = [_naive(datetime.fromisoformat(f"{month}-01T00:00:00+00:00")) for month in self.pruned]
        return parts.occurred_at.truncate("M").isin(months)

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
