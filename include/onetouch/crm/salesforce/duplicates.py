"""What becomes of new records that a duplicate rule of the org refuses (DUPLICATES_DETECTED).

Salesforce names the records that it takes for the same in the answer for a single record; those of a collection or a
bulk job need not name them. So such a row is sent once more by itself. Sources: REST API, "Duplicate Rule Header";
jsforce issue 1055 and NPSP issue 2383: even a rule that only alerts refuses what comes through the API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onetouch.crm.protocol import UNKNOWN, CrmError, LimitReached, Outcome, Refused, SignInRefused
from onetouch.crm.salesforce.answers import LEAD, host_of, value_of
from onetouch.crm.salesforce.fields import ACCOUNT_ID
from onetouch.crm.salesforce.rows import LOOKS_ALIKE, refusal
from onetouch.crm.salesforce.transport import Record, Transport, having, said

Duplicates = Literal["adopt", "allow", "ask"]

ALLOW_SAVE = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
"""Lets a record be saved that a duplicate rule only alerts to; a rule that blocks refuses it all the same."""

AT_ONCE = 50
"""Ours: most refused rows of one write that are sent singly; the next run goes on with the rest."""

_CONTACT = "003"

_SHOWN = 5
"""Ours: most candidates that a reason names."""


@dataclass(frozen=True)
class Candidate:
    """A record that the org takes for the same. `record_id`: the account or lead that it is, or that it belongs to.

    `holds`: the external id it carries already. `hosts`: the domains of its website and its e-mail addresses.
    `person`: it is a person account, which is matched by its own address and never by a domain.
    """

    record_id: str
    holds: str | None
    hosts: frozenset[str] = frozenset()
    email: str = ""
    person: bool = False

    def is_of(self, domain: str, email: str) -> bool:
        """Whether it has the account's domain, or for a lone user, an account without one, that user's address."""
        if domain:
            return not self.person and any(f".{host}".endswith(f".{domain}") for host in self.hosts)
        return bool(email) and self.email == email


class Alike:
    """Rows that duplicate rules have refused, of one write. `domain`: the policy's field for an account's domain."""

    def __init__(self, transport: Transport, duplicates: Duplicates, domain: str) -> None:
        self._transport, self._duplicates, self._domain = transport, duplicates, domain

    def named(self, thing: str, records: Sequence[Record], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes, those of refused rows with the candidates; a row that is taken now is created."""
        told, left = list(outcomes), AT_ONCE
        for i, outcome in enumerate(outcomes):
            if outcome.code != LOOKS_ALIKE or outcome.candidates:
                continue
            told[i] = self.create(thing, records[i]) if left > 0 else replace(outcome, retryable=True)
            left -= 1
        return told

    def create(self, thing: str, record: Record, *, allow: bool = False) -> Outcome:
        """Creates one record by itself; with `allow` also one that a rule only alerts to."""
        content = {name: value for name, value in record.items() if name != "attributes"}
        try:
            headers = ALLOW_SAVE if allow else {}
            path = f"sobjects/{thing}"
            answer = self._transport.once("POST", path, json=content, headers=headers, read=having("id"))
            return Outcome(ok=True, id=str(answer["id"]))
        except Refused as refused:
            outcome = refusal(refused.code, str(refused).partition(f"{refused.code}: ")[2])
            return replace(outcome, candidates=refused.candidates)
        except (LimitReached, SignInRefused) as error:
            return Outcome(ok=False, code="NOT_SENT", message=said(error), retryable=True)
        except CrmError as error:
            return Outcome(ok=False, code=UNKNOWN, message=said(error), retryable=True)

    def candidates(self, ids: Iterable[str]) -> dict[str, Candidate]:
        """Those of the accounts, leads and contacts that we may see, by their own id."""
        found: dict[str, Candidate] = {}
        wanted = sorted(set(ids))
        for thing, prefix, names in (
            ("Account", "001", [ACCOUNT_ID, self._domain, "Website", "PersonEmail", "IsPersonAccount"]),
            ("Lead", LEAD, [ACCOUNT_ID, self._domain, "Website", "Email"]),
            ("Contact", _CONTACT, ["AccountId", "Email", f"Account.{ACCOUNT_ID}"]),
        ):
            there = self._transport.fields(thing) or {}
            present = [name for name in dict.fromkeys(names) if (name if "." not in name else "AccountId") in there]
            its = [i for i in wanted if i.startswith(prefix)]
            if not its or not there:
                continue
            soql = f"SELECT {', '.join(['Id', *present])} FROM {thing} WHERE Id IN {{values}}"
            for record in self._transport.query_in(soql, its):
                candidate = _candidate(record, self._domain)
                if candidate is not None:
                    found[record["Id"]] = candidate
        return found

    def settled(
        self,
        thing: str,
        new: Mapping[str, Record],
        outcomes: Mapping[str, Outcome],
        own: Mapping[str, tuple[str, str]],
        adopt: Callable[[Mapping[str, str]], Mapping[str, Outcome]],
    ) -> dict[str, Outcome]:
        """The outcomes of new accounts or leads, account id → record, after the refused ones are settled.

        `own`: account id → its domain, and the address of a lone user; either may be empty. `adopt`: writes our
        external id to records, account id → record id. A record is never given to two accounts, nor one that carries
        another's id.
        """
        alike = {a: o for a, o in outcomes.items() if o.code == LOOKS_ALIKE and o.candidates}
        if not alike:
            return {}
        try:
            seen = self.candidates(i for outcome in alike.values() for i in outcome.candidates)
        except CrmError as error:  # the accounts are created or adopted by the run that can read them
            return {a: replace(o, message=said(error), retryable=True) for a, o in alike.items()}
        settled: dict[str, Outcome] = {}
        chosen: dict[str, str] = {}
        for account_id, outcome in sorted(alike.items()):
            free = {i: c for i in outcome.candidates if (c := seen.get(i)) and c.holds in (None, account_id)}
            record_id = self._choice(free.values(), len(outcome.candidates), *own[account_id])
            if record_id is not None and record_id not in chosen.values():
                chosen[account_id] = record_id
            elif self._duplicates == "allow":
                settled[account_id] = _reasoned(self.create(thing, new[account_id], allow=True))
            else:
                settled[account_id] = _reasoned(outcome)
        return settled | (dict(adopt(chosen)) if chosen else {})

    def settled_contacts(self, new: Mapping[str, Record], outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """The outcomes of new contacts, key → record, after the refused ones are settled.

        A contact of the same address is adopted when it is the only one that belongs to the same account or to none;
        one of another account never is.
        """
        alike = {key: o for key, o in outcomes.items() if o.code == LOOKS_ALIKE and o.candidates}
        people: dict[str, Record] = {}
        try:
            its = [i for outcome in alike.values() for i in outcome.candidates if i.startswith(_CONTACT)]
            soql = "SELECT Id, Email, AccountId FROM Contact WHERE Id IN {values}"
            people = {record["Id"]: record for record in self._transport.query_in(soql, its)}
        except CrmError as error:
            return {key: replace(o, message=said(error), retryable=True) for key, o in alike.items()}
        settled: dict[str, Outcome] = {}
        for key, outcome in sorted(alike.items()):
            email, account = str(new[key]["Email"]).lower(), new[key]["AccountId"]
            same = [
                i
                for i in outcome.candidates
                if (person := people.get(i))
                and str(person["Email"] or "").lower() == email
                and person["AccountId"] in (None, account)
            ]
            if len(same) == 1:
                settled[key] = Outcome(ok=True, id=same[0])
            elif self._duplicates == "allow":
                settled[key] = _reasoned(self.create("Contact", new[key], allow=True))
            else:
                settled[key] = _reasoned(outcome)
        return settled

    def _choice(self, free: Collection[Candidate], named: int, domain: str, email: str) -> str | None:
        """The record to adopt: the only one with the account's domain; with `adopt` also the only one named at all, if
        nothing is known of it that speaks against."""
        sure = {candidate.record_id for candidate in free if candidate.is_of(domain, email)}
        if len(sure) == 1:
            return sure.pop()
        blank = {candidate.record_id for candidate in free if not candidate.hosts and not candidate.person}
        return blank.pop() if self._duplicates == "adopt" and not sure and len(blank) == named == 1 else None


def _candidate(record: Record, domain: str) -> Candidate | None:
    email = str(record.get("Email") or record.get("PersonEmail") or "").strip().lower()
    hosts = {host_of(record.get(domain)), host_of(record.get("Website")), email.rpartition("@")[2]} - {""}
    if not record["Id"].startswith(_CONTACT):
        person = bool(record.get("IsPersonAccount"))
        return Candidate(record["Id"], record.get(ACCOUNT_ID), frozenset(hosts), email, person)
    # The account of a contact is a company's; the contact's address says nothing about a lone user's record.
    account = record.get("AccountId")
    return account and Candidate(account, value_of(record, f"Account.{ACCOUNT_ID}"), frozenset(hosts))


def _reasoned(outcome: Outcome) -> Outcome:
    """The refusal with the candidates in its message, for a person to decide on."""
    if outcome.code != LOOKS_ALIKE or not outcome.candidates:
        return outcome
    more = f" and {len(outcome.candidates) - _SHOWN} more" if len(outcome.candidates) > _SHOWN else ""
    alike = ", ".join(outcome.candidates[:_SHOWN]) + more
    return replace(outcome, message=f"{outcome.message} (looks like {alike})")
