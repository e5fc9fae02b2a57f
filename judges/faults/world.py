"""A few accounts with their reps and customers: what happens to them while the product runs, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from onetouch.sandbox.fields import make_id
from onetouch.sandbox.records import DmlError

from judges.faults.wire import Org

HANDOFF_ID = "Onetouch_Handoff_Id__c"
REPS = ((make_id("005", 101), "rita@rep.example", "Rita"), (make_id("005", 102), "otto@rep.example", "Otto"))
CHECKOUT = timedelta(hours=72)
"""How long a checkout without a further step counts as in progress (policy: signals.checkout_abandoned_hours)."""

TRIGGER, ASKED = "trigger", "asked for a person"
"""Facts that call for a rep, where all others speak against a call; only in seeds that the product routes."""

OPTED_OUT = "opted out"
"""Fact of an account: the only person known there asked, in the CRM, neither to be called nor to be written to."""

Row = dict[str, Any]


@dataclass
class Account:
    """One customer. `facts`: what happened to it, with the moment; the oracle judges by them.

    `opened_by`: when each opportunity was opened → the rep who did.
    """

    number: int
    crm_id: str
    owner: int
    facts: list[tuple[datetime, str]] = field(default_factory=list)
    opened_by: dict[datetime, str] = field(default_factory=dict)

    @property
    def account_id(self) -> str:
        """The product's id of the account."""
        return f"org-{self.number}"

    def at(self, *kinds: str) -> list[datetime]:
        """The moments of the facts of these kinds."""
        return [moment for moment, kind in self.facts if kind in kinds]

    def buying(self, at: datetime) -> bool:
        """Whether a self-serve upgrade was in progress at that moment."""
        step = self._last_step(at)
        return step is not None and step[1] == "checkout started" and at - step[0] < CHECKOUT

    def bought_at(self, at: datetime) -> datetime | None:
        """When its last self-serve upgrade up to that moment was bought; None when there was none."""
        step = self._last_step(at)
        return step[0] if step is not None and step[1] == "checkout completed" else None

    def may_be_contacted(self, at: datetime) -> bool:
        """Whether anybody there may be contacted, as far as the CRM says at that moment."""
        return not any(moment <= at for moment in self.at(OPTED_OUT))

    def _last_step(self, at: datetime) -> tuple[datetime, str] | None:
        steps = [(moment, kind) for moment, kind in self.facts if kind.startswith("checkout") and moment <= at]
        return steps[-1] if steps else None

    def buying_throughout(self, first: datetime, last: datetime) -> bool:
        """Whether a self-serve upgrade was in progress from `first` to `last` without a break."""
        steps = [m for m, kind in self.facts if kind.startswith("checkout") and first < m <= last]
        return self.buying(first) and self.buying(last) and not steps


class World:
    """The org with its users and the product's customers; `event` simulates one event."""

    def __init__(self, org: Org, rng: random.Random, accounts: int) -> None:
        self.org, self.rng, self.crm_events = org, rng, 0
        self.records = org.salesforce.records
        types = org.store.org
        self.task, self.account_type = types["task"], types["account"]
        self.opportunity = types["opportunity"]
        self.accounts = [Account(n, make_id("001", n), rng.randrange(len(REPS))) for n in range(1, accounts + 1)]
        self.by_crm_id = {account.crm_id: account for account in self.accounts}
        self.by_id = {account.account_id: account for account in self.accounts}
        created = (org.now - timedelta(days=90)).isoformat()
        with org.store.transaction():
            for owner_id, email, name in REPS:
                user = {"Id": owner_id, "Name": name, "Email": email, "Username": email, "IsActive": True}
                self.records.load(types["user"], user | {"TimeZoneSidKey": "UTC"})
            for account in self.accounts:
                self.records.load(
                    self.account_type,
                    {
                        "Id": account.crm_id,
                        "Name": f"Company {account.number}",
                        "Website": f"https://company{account.number}.example",
                        "OwnerId": REPS[account.owner][0],
                        "CreatedDate": created,
                        "Plan__c": "team",
                        "Onetouch_Motion__c": "sales_led",
                        "Onetouch_Action__c": "nurture",
                    },
                )
        self.contact = org.store.org["contact"]
        with org.store.transaction():
            for account in self.accounts:
                address = f"person@company{account.number}.example"
                person = {"LastName": "Doe", "Email": address, "AccountId": account.crm_id}
                self.records.load(self.contact, {"Id": make_id("003", account.number)} | person)

    # ── contents ─────────────────────────────────────────────────────────────────────────────────

    def keyed_tasks(self) -> list[Row]:
        """Tasks with our key, deleted ones too."""
        return [row for row in self.org.rows("Task").values() if row[HANDOFF_ID]]

    # ── events ───────────────────────────────────────────────────────────────────────────────────

    def event(self, *, of_tasks: bool = False) -> str | None:
        """Simulates one possible event (`of_tasks`: of our tasks), drawn by weight; returns its text or None."""
        tasks = [row for row in self.keyed_tasks() if not row["IsDeleted"]]
        open_tasks = [row for row in tasks if not row["IsClosed"]]
        kinds: list[tuple[int, Callable[[], str | None]]] = [
            (6, self._checkout),
            (3, self._opportunity),
            (2, self._call),
        ]
        kinds += [(1, self._new_owner), (1, self._account_deleted)]
        kinds += [(2, self._opts_out)]
        if open_tasks:
            kinds += [(4, lambda: self._done(self.rng.choice(open_tasks))), (4, lambda: self._edit(open_tasks))]
            kinds += [(2, lambda: self._task_deleted(self.rng.choice(open_tasks)))]
            kinds += [(1, lambda: self._reassign(self.rng.choice(open_tasks)))]
        if closed := [row for row in tasks if row["IsClosed"]]:
            kinds += [(1, lambda: self._reopen(self.rng.choice(closed))), (2, lambda: self._reply(closed))]
        if of_tasks:
            kinds = kinds[6:]
        if not kinds:
            return None
        weights = [weight for weight, _ in kinds]
        happens = self.rng.choices([kind for _, kind in kinds], weights)[0]
        try:
            with self.org.store.transaction():
                return happens()
        except DmlError as error:
            return f"came to nothing: {error.code}"

    def all_done(self) -> list[str]:
        """Reps complete all our open tasks; returns one text for each."""
        with self.org.store.transaction():
            return [self._done(row) for row in self.keyed_tasks() if not row["IsClosed"] and not row["IsDeleted"]]

    def _note(self, account: Account, kind: str) -> str:
        self.crm_events += kind not in (TRIGGER, ASKED) and not kind.startswith("checkout")
        account.facts.append((self.org.now, kind))
        return f"{kind}: {account.account_id}"

    def _pick(self) -> Account | None:
        alive = [account for account in self.accounts if not account.at("account deleted")]
        return self.rng.choice(alive) if alive else None

    def customer(self) -> str:
        """Something happens at a customer that routing reads; returns its text."""
        account = self.rng.choice(self.accounts)
        return self._note(account, self.rng.choices((TRIGGER, ASKED, "checkout completed"), (7, 1, 3))[0])

    def _checkout(self) -> str | None:
        account = self.rng.choice(self.accounts)
        if account.buying(self.org.now):
            return self._note(account, self.rng.choice(("checkout completed", "checkout abandoned")))
        return self._note(account, "checkout started")

    def _opportunity(self) -> str | None:
        account = self._pick()
        if account is None:
            return None
        open_ones = [
            row
            for row in self.org.rows("Opportunity").values()
            if row["AccountId"] == account.crm_id and not row["IsClosed"] and not row["IsDeleted"]
        ]
        if open_ones:
            self.records.update(self.opportunity, open_ones[0]["Id"], {"StageName": "Closed Lost"})
            return self._note(account, "opportunity closed")
        rep = self.rng.choice(REPS)[0]
        self.records.insert(
            self.opportunity,
            {
                "AccountId": account.crm_id, "Name": "Own deal", "StageName": "Prospecting", "CloseDate": "2026-06-30",
                "OwnerId": rep,
            },
        )  # fmt: skip
        account.opened_by[self.org.now] = rep
        return self._note(account, "opportunity opened")

    def _call(self) -> str | None:
        account = self._pick()
        if account is None:
            return None
        fields = {"Subject": "Call", "Status": "Completed", "WhatId": account.crm_id, "TaskSubtype": "Call"}
        if not self.task.find("TaskSubtype").createable:  # type: ignore[union-attr]
            del fields["TaskSubtype"]
        self.records.insert(self.task, fields | {"OwnerId": self.rng.choice(REPS)[0]})
        return self._note(account, "call logged")

    def _new_owner(self) -> str | None:
        account = self._pick()
        if account is None:
            return None
        account.owner = 1 - account.owner
        self.records.update(self.account_type, account.crm_id, {"OwnerId": REPS[account.owner][0], "Plan__c": "pro"})
        return self._note(account, "owner changed")

    def _opts_out(self) -> str | None:
        """Somebody opts out of calls and e-mail; nobody does where everybody has."""
        left = [account for account in self.accounts if not account.at(OPTED_OUT, "account deleted")]
        if not left:
            return None
        account = self.rng.choice(left)
        fields = {"DoNotCall": True, "HasOptedOutOfEmail": True}
        self.records.update(self.contact, make_id("003", account.number), fields)
        return self._note(account, OPTED_OUT)

    def _account_deleted(self) -> str | None:
        account = self._pick()
        if account is None:
            return None
        self.records.delete(self.account_type, account.crm_id)
        return self._note(account, "account deleted")

    def _about(self, task: Row) -> Account:
        return self.by_crm_id[task["AccountId"]]

    def _done(self, task: Row) -> str:
        outcome = self.rng.choice(({}, {}, {"Onetouch_Outcome__c": "Replied"}))
        self.records.update(self.task, task["Id"], {"Status": "Completed"} | outcome)
        return self._note(self._about(task), "task done by the rep")

    def _reply(self, closed: list[Row]) -> str | None:
        task = self.rng.choice(closed)
        self.records.update(self.task, task["Id"], {"Onetouch_Outcome__c": self.rng.choice(("Replied", "No response"))})
        return self._note(self._about(task), "outcome noted")

    def _edit(self, tasks: list[Row]) -> str:
        task = self.rng.choice(tasks)
        mine = f"mine {self.rng.randrange(1000)}"
        field, value = self.rng.choice(
            (("Subject", mine), ("Description", mine), ("Priority", "Low"), ("Status", "In Progress"),
             ("ActivityDate", "2026-01-31"))
        )  # fmt: skip
        self.records.update(self.task, task["Id"], {field: value})
        return self._note(self._about(task), f"rep edited {field}")

    def _reassign(self, task: Row) -> str:
        other = next(rep[0] for rep in REPS if rep[0] != task["OwnerId"])
        self.records.update(self.task, task["Id"], {"OwnerId": other})
        return self._note(self._about(task), "task reassigned")

    def _reopen(self, task: Row) -> str:
        self.records.update(self.task, task["Id"], {"Status": "In Progress"})
        return self._note(self._about(task), "task reopened")

    def _task_deleted(self, task: Row) -> str:
        self.records.delete(self.task, task["Id"])
        return self._note(self._about(task), "task deleted")
