"""Whose an event is: persons on devices, and persons in companies, over time.

Events keep the evidence they came with, and `Placement` resolves it when it is used, so a later merge rewrites nothing:

- The person of an event is its user; else the user last known on its device at or before the event, else the first
  known there after it; else the device itself, whose person is not known.
- The account of an event is that of its own group; else that of its person's last grouped event at or before it, else
  of the first after it; else the business domain of the event's own address, else of its person's in the same way; else
  the lone person. A device without a person, a group and an address has no account: it is anonymous.

"At or before" is by the UTC day: an event of a day takes the last group of that day, wherever in the day it lies.

`memberships/event_date=…/` holds what the events of a date say of persons (MEMBERSHIPS); `memberships/month=…/` keeps
of a month that is over only where something changed. Both are made again when the event files change, and only then.
A month whose events were deleted (`lake.pruned_months`) is read as it was kept last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from onetouch.events.identity import USER
from onetouch.events.partitions import Kept, read_kept
from onetouch.lake import Engine, Lake
from onetouch.policy import Policy

if TYPE_CHECKING:
    import ibis.expr.types as ir

LAYOUT = "memberships 1"
"""Part of `built_from`; change it when the content of a partition changes, so that all are made again."""

_MOMENT = pa.timestamp("us", tz="UTC")

MEMBERSHIPS = pa.schema(
    [
        ("user_id", pa.string()),
        ("anonymous_id", pa.string()),
        ("account_id", pa.string()),
        ("email_domain", pa.string()),
        ("never_count", pa.bool_()),
        ("first_at", _MOMENT),
        ("last_at", _MOMENT),
        ("event_date", pa.date32()),
    ]
)
"""User, device, the account of the group and the business domain that events of a date name together; null where they
name none. A row names at least two of them, or a person who never counts."""

_WHO = ["user_id", "anonymous_id", "account_id", "email_domain", "never_count"]
_BEGINNING, _END = date(1, 1, 1), date(9999, 12, 31)


def read_memberships(
    lake: Lake,
    engine: Engine,
    files: Mapping[date, list[str]],
    as_of: datetime,
    name: str = "memberships",
    *,
    pruned: Iterable[str] = (),
) -> ir.Table:
    """The table `name` (MEMBERSHIPS) of what the events of `files` say of persons, as known at `as_of`.

    `pruned`: months (yyyy-mm) of which only what is kept for ever is left; it is read as well.
    """
    return read_kept(_KEPT, lake, engine, files, as_of, name, pruned=pruned)


def said(events: ir.Table) -> ir.Table:
    """What events (columns of EVENTS, and `event_date`) say of persons: the columns of MEMBERSHIPS."""
    import ibis

    account = (events.account_basis == "group").ifelse(events.account_id, ibis.null())
    told = events.select(
        "user_id", "anonymous_id", "email_domain", "never_count", "occurred_at", "event_date", account_id=account
    )
    somebody = ibis.coalesce(told.user_id, told.anonymous_id).notnull()
    something = ibis.or_(
        told.account_id.notnull(), told.email_domain.notnull(), told.never_count.fill_null(False),
        told.user_id.notnull() & told.anonymous_id.notnull(),
    )  # fmt: skip
    told = told.filter(somebody & something)
    seen = told.group_by(*_WHO, "event_date").agg(first_at=told.occurred_at.min(), last_at=told.occurred_at.max())
    return seen.select(MEMBERSHIPS.names)


def _changes(rows: ir.Table) -> ir.Table:
    """The rows of a month that tell something new; `_timeline` makes the same of them.

    What a device without a user says is kept day by day, because its user may change in between.
    """
    import ibis

    def of(key: str, value: str) -> ir.Table:
        named = rows.filter(rows.user_id.notnull() & rows[key].notnull() & rows[value].notnull())
        day = named.group_by(key, value, "event_date").agg(first_at=named.first_at.min(), last_at=named.last_at.max())
        before = day[value].lag().over(group_by=key, order_by=[day.event_date, day.last_at, day[value].desc()])
        new = day.mutate(is_new=(before.isnull() | (before != day[value]))).filter(lambda t: t.is_new)
        return new.select(**{
            field.name: new[field.name] if field.name in (key, value, "first_at", "last_at", "event_date")
            else ibis.null(_IBIS[field.name]) for field in MEMBERSHIPS
        })  # fmt: skip

    marked = rows.filter(rows.user_id.notnull() & rows.never_count.fill_null(False))
    never = marked.group_by("user_id").agg(
        never_count=marked.never_count.any(), first_at=marked.first_at.min(), last_at=marked.last_at.min(),
        event_date=marked.event_date.min(),
    )  # fmt: skip
    nothing = {name: ibis.null("string") for name in ("anonymous_id", "account_id", "email_domain")}
    return ibis.union(
        of("anonymous_id", "user_id"),
        of("user_id", "account_id"),
        of("user_id", "email_domain"),
        never.mutate(**nothing).select(MEMBERSHIPS.names),
        rows.filter(rows.user_id.isnull()).select(MEMBERSHIPS.names),
    )


_KEPT = Kept("memberships", LAYOUT, MEMBERSHIPS, lambda engine, events: said(events), _changes)

_IBIS = dict.fromkeys(("user_id", "anonymous_id", "account_id", "email_domain"), "string") | {"never_count": "boolean"}


def named_never(policy: Policy, user_id: ir.StringValue, email_domain: ir.StringValue) -> ir.BooleanValue:
    """Whether the policy's `never_count` names a person of this id or domain: it may have named them since their events
    were staged, which are not marked then."""
    import ibis

    who, never = policy.never_count, ibis.literal(False)
    if who.users or who.emails:
        named = [user.strip().lower() for user in (*who.users, *who.emails)]
        never = never | user_id.lower().isin(named).fill_null(False)
    for domain in who.domains:
        host = ibis.literal(".").concat(email_domain)
        never = never | host.endswith(f".{domain.strip().lstrip('.@').lower()}").fill_null(False)
    return never


class Placement:
    """Resolves the persons and accounts of rows that hold evidence: `user_id`, `anonymous_id`, `account_id`,
    `account_basis`, `email_domain` and `event_date`."""

    def __init__(
        self,
        engine: Engine,
        memberships: Callable[[], ir.Table],
        policy: Policy,
        rows: Iterable[ir.Table],
        name: str = "placed",
    ) -> None:
        """`memberships` gives the table of MEMBERSHIPS; it is asked only if there are rows that need it.

        `rows`: the tables that will be placed; only their persons are looked up. `name`: prefix of the tables that are
        kept in the engine.
        """
        import ibis

        self.engine, self.policy, self.name = engine, policy, name
        columns = ["user_id", "anonymous_id"]
        asked = [_ungrouped(table).select(columns).distinct() for table in rows]
        together = ibis.union(*asked, distinct=True) if len(asked) > 1 else asked[0]
        wanted = engine.keep(together, f"{name}_wanted")
        somebody = engine.fetch(wanted.agg(n=wanted.count()))["n"][0].as_py() > 0
        self.never_counted = any(getattr(policy.never_count, part) for part in type(policy.never_count).model_fields)
        self.needed = somebody or self.never_counted
        if not self.needed:
            return
        m = memberships()
        never = m.filter(m.never_count.fill_null(False))
        of_device = m.filter(m.user_id.isnull()).select("anonymous_id")
        looked_up = ibis.union(wanted.filter(wanted.user_id.isnull()).select("anonymous_id"), of_device, distinct=True)
        links = m.filter(m.user_id.notnull() & m.anonymous_id.notnull()).semi_join(looked_up, "anonymous_id")
        self.devices = self._timeline(links, "anonymous_id", "user_id")
        persons = ibis.union(
            wanted.select(person=_person(wanted.user_id, wanted.anonymous_id)),
            self.devices.select(person=_person(self.devices.value, ibis.null("string"))),
            distinct=True,
        )
        m = self._with_person(m).semi_join(persons, "person")
        m = engine.keep(m.select("person", *MEMBERSHIPS.names), f"{name}_said")
        self.groups = self._timeline(m, "person", "account_id")
        self.domains = self._timeline(m, "person", "email_domain")
        self.belongs = engine.keep(
            m.filter(m.account_id.notnull()).select("person", "account_id").distinct(), f"{name}_belongs"
        )
        never = self._with_person(never)
        self.never = engine.keep(never.select("person").distinct(), f"{name}_never")

    def place(self, rows: ir.Table) -> ir.Table:
        """The rows with the user and account they belong to, without anonymous ones and those who never count."""
        import ibis

        if not self.needed:
            return rows
        columns = rows.columns
        r = self._counted(self._with_person(rows))
        group = (r.account_basis == "group").ifelse(r.account_id, ibis.null())
        r = r.mutate(own_group=group)
        r = _at(r, self.groups, r.own_group.isnull().ifelse(r.person, ibis.null()), "of_group")
        domain = ibis.coalesce(r.own_group, r.of_group, r.email_domain).isnull().ifelse(r.person, ibis.null())
        r = _at(r, self.domains, domain, "of_domain")
        grouped = ibis.coalesce(r.own_group, r.of_group)
        addressed = ibis.coalesce(r.email_domain, r.of_domain)
        placed = r.mutate(
            account_id=ibis.coalesce(grouped, addressed, ibis.literal(USER).concat(r.user_id)),
            account_basis=ibis.cases((grouped.notnull(), "group"), (addressed.notnull(), "domain"), else_="personal"),
        )
        return placed.filter(placed.account_id.notnull()).select(columns)

    def also(self, rows: ir.Table) -> ir.Table:
        """The rows that no group of their own places, once for each account that their person belongs to."""
        if not self.needed:
            return rows.limit(0)
        r = self._counted(self._with_person(_ungrouped(rows)))
        both = r.drop("account_id").inner_join(self.belongs, "person")
        return both.select(rows.columns)

    def _counted(self, rows: ir.Table) -> ir.Table:
        """The rows without those of people who never count; a policy that names nobody counts everyone."""
        if not self.never_counted:
            return rows
        counted = rows.left_join(self.never.mutate(is_never=True), "person").drop("person_right")
        never = counted.is_never.fill_null(False) | named_never(self.policy, counted.user_id, counted.email_domain)
        return counted.filter(~never).drop("is_never")

    def _with_person(self, rows: ir.Table) -> ir.Table:
        """The rows with the user last known on their device, and `person`: the user, else the device; null for none."""
        import ibis

        found = _at(rows, self.devices, rows.user_id.isnull().ifelse(rows.anonymous_id, ibis.null()), "of_device")
        found = found.mutate(user_id=ibis.coalesce(found.user_id, found.of_device)).drop("of_device")
        return found.mutate(person=_person(found.user_id, found.anonymous_id))

    def _timeline(self, rows: ir.Table, key: str, value: str) -> ir.Table:
        """key, value, since, until: the value that counts from the date `since` up to, but without, the date `until`.

        On a date the value named last counts, before all dates the one named first; of two named at one moment the
        smaller.
        """
        import ibis

        named = rows.filter(rows[key].notnull() & rows[value].notnull())
        named = named.select("event_date", "first_at", "last_at", key=named[key], value=named[value])
        by_day = ibis.window(group_by=["key", "event_date"], order_by=[named.last_at.desc(), named.value])
        by_key = ibis.window(group_by="key", order_by=[named.first_at, named.value])
        ranked = named.mutate(nth_of_day=ibis.row_number().over(by_day), nth=ibis.row_number().over(by_key))
        last = ranked.filter(ranked.nth_of_day == 0)
        following = last.event_date.lead().over(group_by="key", order_by=last.event_date)
        intervals = last.select("key", "value", since=last.event_date, until=following.fill_null(ibis.literal(_END)))
        first = ranked.filter(ranked.nth == 0)
        before = first.select("key", "value", since=ibis.literal(_BEGINNING), until=first.event_date)
        return self.engine.keep(ibis.union(intervals, before), f"{self.name}_{key}_{value}")


def _ungrouped(rows: ir.Table) -> ir.Table:
    return rows.filter((rows.account_basis != "group").fill_null(True))


def _person(user_id: ir.StringValue, anonymous_id: ir.StringValue) -> ir.StringValue:
    """A key of persons in which no user equals a device."""
    import ibis

    return ibis.coalesce(ibis.literal("user ").concat(user_id), ibis.literal("device ").concat(anonymous_id))


def _at(rows: ir.Table, timeline: ir.Table, key: ir.StringValue, name: str) -> ir.Table:
    """The rows with a column `name`: the value of the timeline for the key at the row's `event_date`."""
    keyed = rows.mutate(key_=key)
    t = timeline
    found = keyed.left_join(t, [keyed.key_ == t.key, keyed.event_date >= t.since, keyed.event_date < t.until])
    return found.mutate(**{name: found.value}).drop("key_", "key", "value", "since", "until")
