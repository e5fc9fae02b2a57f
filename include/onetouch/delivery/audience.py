"""The audience: accounts that sales leaves to marketing and the product, as a file a run and a webhook of changes.

The file `audience/{run_id}.parquet` holds everybody in the audience of a run, whether it may send or not. The receiver
of the webhook is told who joined, who left and what changed. What it knows is in the ledger, and is changed in the same
transaction that lays out the requests, so that a run that continues after a crash forgets nothing and tells nothing
twice; each request carries its own key.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa

from onetouch.catalogue import ACTIONS, NURTURE, SELF_SERVE_ONBOARDING, SIGNALS, SIGNALS_TABLE
from onetouch.consent import ACCOUNT, CONTACTS, PEOPLE, Consent, Lists, Person, user_of
from onetouch.crm import Outcome
from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.never_contact import Listed, no_list
from onetouch.delivery.send import send
from onetouch.delivery.webhook import DESTINATION, Webhook
from onetouch.events import account_of_user
from onetouch.handoff import columns_read, known_facts, why_now
from onetouch.lake import Lake, read_table
from onetouch.ledger import PSEUDONYM, Forgotten, Ledger, Member, Outbox, Run
from onetouch.policy import FOR_CUSTOMER, Policy

FORMAT = 1
"""The format of the request's body; a receiver reads it in `format`."""

LOCK = "audience"
"""The name of the lock that lets only one process at a time tell the receiver."""

_READ_AT_ONCE = 10_000

_NOT_FREE = frozenset(str(action) for action in ACTIONS if action.hold or action.sales_touch)
"""Actions of accounts that are in no audience, whatever their tier."""

_NAMES = {str(NURTURE): "nurture", str(SELF_SERVE_ONBOARDING): "onboarding"}
"""Action → the name of its audience; of any other action it is the action's own."""

_PEOPLE = ("email", "name", "title")

_DECIDED = [
    "account_id", "crm_account_id", "action", "tier", "score", "potential_arr", "motion", "call", "score_trend",
    "as_of", "reasons",
]  # fmt: skip


def send_audience(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    webhook: Webhook | None,
    *,
    listed: Listed = no_list,
    held: str | None,
) -> dict[str, Any]:
    """Writes the run's audience to the lake, and tells the receiver of the changes since it was told last.

    An account whose situation or people changed is told at once; one of which only facts changed, after
    `audience.facts_hours`. Everybody is told the first time and every `audience.full_sync_days`. Requests that an
    earlier run could not send are sent first, in their order. A run that comes after a later one tells nothing new.
    With `held` (why nothing may be sent), or without a webhook, only the file is written. `listed` reads the policy's
    file of whom never to contact, anew.

    Returns {"accounts": in the audience, "by_audience": {name: n}, "changes": {joined, changed, left: n}, "in_full":
    whether everybody was told anew, "requests": laid out for this run, "sent", "refused": [{key, reason}], "waiting":
    requests that a later run sends, "held"}. Raises DeliveryFailed with the same when a request was refused or waits.
    """
    members = _members(lake, ledger, policy, run, listed)
    names = members.column("audience").to_pylist()
    summary: dict[str, Any] = {
        "accounts": len(names), "by_audience": dict(Counter(names)), "changes": {}, "in_full": False, "requests": 0,
        "sent": 0, "refused": [], "waiting": 0, "held": held,
    }  # fmt: skip
    if held or webhook is None:
        return summary
    with ledger.alone(LOCK):
        told = ledger.audience_told()
        if told is None or told <= run.as_of:
            _lay_out(ledger, policy, run, members)
        summary["refused"], summary["waiting"] = _send(ledger, webhook)
    _account_for(ledger, run, summary)
    if summary["refused"] or summary["waiting"]:
        named = [(f"request {row['key']}", row["reason"]) for row in summary["refused"]]
        if summary["waiting"]:
            named.append((f"{summary['waiting']} requests", "wait for the one before them; the next run sends them"))
        raise DeliveryFailed("requests of the audience did not arrive", summary, named)
    return summary


def given_to_marketing(decisions: pd.DataFrame, policy: Policy) -> pd.Series:
    """Which decisions put their account into the policy's audience, if somebody there may be written to."""
    chosen: pd.Series = decisions["action"].isin(policy.audience.actions)
    return chosen | (decisions["tier"].isin(policy.audience.tiers) & ~decisions["action"].isin(_NOT_FREE))


# ── who is in it ─────────────────────────────────────────────────────────────────────────────────


def _members(lake: Lake, ledger: Ledger, policy: Policy, run: Run, listed: Listed) -> pa.Table:
    """The run's audience, written to the lake: one row an account, ordered by account_id."""
    name = f"{run.run_id}.parquet"
    decisions = read_table(lake, "decisions", name, columns=_DECIDED).to_pandas()
    decisions = decisions[given_to_marketing(decisions, policy)].sort_values("account_id", ignore_index=True)
    lists = {signal.names for signal in SIGNALS if signal.names}
    read = {"account_id", "account_basis", "name", *ACCOUNT, *FOR_CUSTOMER, *lists, *columns_read(policy)}
    wanted = read & SIGNALS_TABLE
    signals = read_table(lake, "signals", name, columns=sorted(wanted))
    places = {account_id: place for place, account_id in enumerate(signals["account_id"].to_pylist())}
    signals = signals.take(pa.array([places[account_id] for account_id in decisions["account_id"]], pa.int64()))
    people, consent, forgotten = _people(lake, run), _consent(lake, policy, run, listed()), ledger.forgotten()
    users = people.rename(columns={"email": "address"})[list(PEOPLE)].astype(PEOPLE)
    users["address"] = users["address"].str.lower()
    barred = consent.held(signals.select(list(ACCOUNT)).to_pandas(), users).notna()
    of = {str(account_id): rows.to_dict("records") for account_id, rows in people.groupby("account_id", sort=False)}
    parts: list[pa.Table] = []
    for start in range(0, len(decisions), _READ_AT_ONCE):
        rows = signals.slice(start, _READ_AT_ONCE).to_pylist()
        told = []
        for i, known in enumerate(rows, start):
            decision = {str(key): value for key, value in decisions.iloc[i].to_dict().items()}
            account_id = str(decision["account_id"])
            theirs = of.get(account_id, [])
            reachable = [person for person in theirs if _may_be_written_to(person, consent, forgotten)]
            alone = user_of(account_id.removeprefix(account_of_user("")))
            gone = barred.iloc[i] or forgotten.has("account", account_id) or (theirs and not reachable)
            if gone or (alone.address and not consent.may(alone, "email")):
                continue
            told.append(_row(decision, known, [_shown(person) for person in reachable], policy))
        parts.append(pa.Table.from_pylist(told, schema=AUDIENCE))
    members = pa.concat_tables(parts) if parts else AUDIENCE.empty_table()
    lake.write(members, "audience", name)
    return members


AUDIENCE = pa.schema(
    [
        *((name, pa.string()) for name in ("account_id", "crm_account_id", "name", "domain", "audience", "action")),
        *((name, pa.string()) for name in ("tier", "situation", "offer", "facts", "people")),
        ("as_of", pa.timestamp("us", "UTC")),
    ]
)
"""Columns of `audience/{run_id}.parquet`. `offer`: the situation's, for the customer. `facts`: a JSON object of those
that a text for the customer may name. `people`: a JSON list of {email, name, title} of those who may be written to."""


def _row(
    decision: dict[str, Any], known: Mapping[str, Any], people: list[dict[str, str]], policy: Policy
) -> dict[str, Any]:
    facts = known_facts(decision, known)
    why = why_now(facts, policy)
    shown = {name: _json(facts[held]) for name in FOR_CUSTOMER if (held := _held(name, facts)) in facts}
    action = str(decision["action"])
    by_action = action in policy.audience.actions
    return {
        "account_id": decision["account_id"],
        "crm_account_id": facts.get("crm_account_id"),
        "name": facts.get("name"),
        "domain": facts.get("domain"),
        "audience": _NAMES.get(action, action) if by_action else facts.get("tier"),
        "action": action,
        "tier": facts.get("tier"),
        "situation": why.situation,
        "offer": " ".join(why.offer),
        "facts": _text(shown),
        "people": _text(people),
        "as_of": decision["as_of"],
    }


_LISTS = {signal.name: signal.names for signal in SIGNALS if signal.names}


def _held(name: str, facts: Mapping[str, Any]) -> str:
    """The column that holds a fact: the list of names rather than their number, where there is one."""
    held = _LISTS.get(name, name)
    return held if held in facts else name


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _people(lake: Lake, run: Run) -> pd.DataFrame:
    """The run's people with an address (account_id, user_id, email, name, title), by account and address, each once."""
    columns = ["account_id", "user_id", *_PEOPLE]
    if not lake.exists("people", f"{run.run_id}.parquet"):
        return pd.DataFrame(columns=columns, dtype="str")
    people = read_table(lake, "people", f"{run.run_id}.parquet", columns=columns).to_pandas()[columns].astype("str")
    people = people[people["email"].notna() & people["account_id"].notna()]
    people = people.assign(address=people["email"].str.lower()).sort_values(["account_id", "address"])
    once: pd.DataFrame = people.drop_duplicates(["account_id", "address"])[columns]
    return once


def _consent(lake: Lake, policy: Policy, run: Run, listed: pd.DataFrame) -> Consent:
    """Who may be contacted, by everybody in the CRM as the run has read it, and by the lists as they are now."""
    contacts = pd.DataFrame(columns=list(CONTACTS))
    if lake.exists("crm", run.run_id, "contacts.parquet"):
        names = ["email" if name == "address" else name for name in CONTACTS]
        contacts = read_table(lake, "crm", run.run_id, "contacts.parquet", columns=names).to_pandas()
        contacts = contacts.rename(columns={"email": "address"})[list(CONTACTS)]
    contacts = contacts.astype(CONTACTS)
    contacts["address"] = contacts["address"].str.lower()
    return Consent(contacts, Lists(policy, listed), policy.never_contact.channels)


def _may_be_written_to(person: Mapping[Any, Any], consent: Consent, forgotten: Forgotten) -> bool:
    address = str(person["email"]).lower()
    user_id = person["user_id"] if isinstance(person["user_id"], str) else None
    known = any(forgotten.has("user", of) for of in (address, user_id))
    return not known and consent.may(Person(None, address, user_id), "email")


def _shown(person: Mapping[Any, Any]) -> dict[str, str]:
    return {name: person[name] for name in _PEOPLE if isinstance(person[name], str)}


# ── what the receiver is told ────────────────────────────────────────────────────────────────────


def _lay_out(ledger: Ledger, policy: Policy, run: Run, members: pa.Table) -> None:
    """Lays out the requests that tell what changed, and what the receiver knows with them."""
    rules, known = policy.audience, ledger.audience()
    in_full = ledger.audience_told() is None or ledger.in_full_due(run, rules.full_sync_days)
    patience = timedelta(hours=rules.facts_hours)
    now: dict[str, Member] = {}
    changes: list[tuple[int, str]] = []  # place in the table, and what changed
    there: set[str] = set()
    columns = ("account_id", "audience", "situation", "people", "facts")
    rows = zip(*(members.column(name).to_pylist() for name in columns), strict=True)
    for place, (account_id, *situation, facts) in enumerate(rows):
        there.add(account_id)
        member = Member(_digest(*situation), _digest(facts), run.as_of)
        before = known.get(account_id)
        old_facts = before is not None and before.facts != member.facts and run.as_of - before.told_at >= patience
        if before is None:
            what = "joined"
        elif before.situation != member.situation or old_facts:
            what = "changed"
        elif in_full:
            what = "unchanged"
        else:
            continue
        now[account_id] = member
        changes.append((place, what))
    left = sorted(set(known) - there)
    entries = len(changes) + (0 if in_full else len(left))
    parts = max(int(in_full), -(-entries // rules.batch))  # that nobody is in it is told, too

    def payloads() -> Iterator[dict[str, Any]]:
        entries = [] if in_full else [{"account_id": account_id, "change": "left"} for account_id in left]
        entries += [_entry(members.slice(place, 1).to_pylist()[0], what) for place, what in changes]
        for part in range(parts):
            its = entries[part * rules.batch : (part + 1) * rules.batch]
            yield _payload(run, its, part + 1, parts, in_full=in_full)

    ledger.tell_audience(run, DESTINATION, list(payloads()), now, left, in_full=in_full)


def _entry(row: dict[str, Any], what: str) -> dict[str, Any]:
    told = {name: row[name] for name in ("account_id", "crm_account_id", "name", "domain", "audience", "situation")}
    told |= {"offer": row["offer"], "facts": json.loads(row["facts"]), "people": json.loads(row["people"])}
    return {name: value for name, value in told.items() if value is not None} | {"change": what}


def _payload(run: Run, accounts: Sequence[Any], part: int, parts: int, *, in_full: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": "everybody" if in_full else "changes",
        "run": run.run_id,
        "as_of": run.as_of.isoformat(),
        "part": part,
        "parts": parts,
        "accounts": list(accounts),
    }


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


# ── sending ──────────────────────────────────────────────────────────────────────────────────────


def _send(ledger: Ledger, webhook: Webhook) -> tuple[list[dict[str, str]], int]:
    """Sends what waits, one request after the other in the order of their runs.

    Returns those that did not arrive, and how many wait behind them. A request that is refused for good is a dead
    letter, and the next one goes; one that cannot be sent now holds up the rest, because the receiver is to hear of
    changes in their order.
    """
    refused: list[dict[str, str]] = []
    waiting = ledger.outbox(destination=DESTINATION, states=["pending", "sending"])
    for place, row in enumerate(waiting):
        outcome = send(ledger, {row.key: row}, lambda due, _: {key: _post(webhook, its) for key, its in due.items()})
        told = outcome[row.key]
        if not told.ok:
            refused.append({"key": row.key, "reason": told.reason})
            if told.retryable:
                return refused, len(waiting) - place - 1
    return refused, 0


def _account_for(ledger: Ledger, run: Run, summary: dict[str, Any]) -> None:
    """What was told by the run's requests and what became of them, by the ledger: a repeated run says the same."""
    mine = ledger.outbox(run_id=run.run_id, destination=DESTINATION)
    changes = Counter(entry["change"] for row in mine for entry in row.payload.get("accounts", ()))
    listed = {row["key"] for row in summary["refused"]}
    dead = [{"key": row.key, "reason": row.reason} for row in mine if row.state == "failed" and row.key not in listed]
    summary |= {
        "changes": dict(sorted(changes.items())),
        "in_full": any(row.payload.get("kind") == "everybody" for row in mine),
        "requests": len(mine),
        "sent": sum(row.state == "sent" for row in mine),
        "refused": summary["refused"] + dead,
    }


def _post(webhook: Webhook, row: Outbox) -> Outcome:
    # Whoever was forgotten since the request was laid out is not told of any more.
    accounts = [a for a in row.payload["accounts"] if not str(a["account_id"]).startswith(PSEUDONYM)]
    return webhook.post(row.key, _text(row.payload | {"accounts": accounts}).encode())
