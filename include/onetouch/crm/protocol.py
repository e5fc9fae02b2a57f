"""What the product needs of a CRM, whichever it is: neutral rows in, our own fields and tasks out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from onetouch.connections import Connection
from onetouch.handoff import AccountContext, TaskContent
from onetouch.policy import Policy
from onetouch.stop import WhyStopped

Row = dict[str, Any]

WITHDRAWN, RELEASED, EXPIRED = "[Withdrawn] ", "[Released] ", "[Expired] "
CLOSED_BY_US = (WITHDRAWN, RELEASED, EXPIRED)
"""How the subject of a task begins that we closed: such a task is not a rep's touch."""

OUTCOMES = ("No response", "Replied", "Meeting booked")
DISPOSITIONS = ("Good", "Not now", "Wrong person", "Would have bought anyway")
"""What a rep may pick on a task of ours: what came of it, and what the rep thinks of the handoff."""

UNKNOWN = "UNKNOWN_OUTCOME"
"""The code of a row whose request was sent and not answered: look for it before it is sent again."""

WRITES = ("create_fields", "ensure_accounts", "update_accounts", "create_tasks", "close_tasks")
"""The methods of a Crm that change something in it."""


def note(label: str, reason: str = "") -> str:
    """What stands on top of the description of a task that we closed or released, by its label of CLOSED_BY_US."""
    return f"{label.strip('[] ')}: {reason}"


class CrmError(Exception):
    """The CRM could not be used. The message holds codes and what to do, no secrets and no personal data."""


class Unreachable(CrmError):
    """No usable answer, also after several attempts."""


class SignInRefused(CrmError):
    """The connection's credentials are not accepted."""


class LimitReached(CrmError):
    """The CRM's daily calls are used up, or the rest is reserved for others: nothing is lost, the next run goes on."""


class FieldsMissing(CrmError):
    """The CRM lacks our fields, or the integration user may not write them."""


class CannotCreateFields(CrmError):
    """The CRM's fields are made by other means than our API calls; the message says by which."""


class Refused(CrmError):
    """The request as such was refused: a bug or a missing permission, no use in trying again.

    `status` and `code` are the CRM's.
    """

    status, code = 0, ""


@dataclass(frozen=True)
class Outcome:
    """What became of one row: its record id, or the code and message of its refusal.

    `retryable`: a later run may succeed with the same row. `deleted`: the record was there and is in the recycle bin.
    `by_rep`: the task had been closed by a rep, and was left so.
    """

    ok: bool
    id: str | None = None
    code: str = ""
    message: str = ""
    deleted: bool = False
    by_rep: bool = False
    retryable: bool = False

    @property
    def reason(self) -> str:
        """The refusal in one line."""
        return f"{self.code}: {self.message}" if self.message else self.code


@dataclass(frozen=True)
class Activity:
    """A task, call, e-mail or meeting of an account, as the CRM tells it. Moments are UTC, unknown is None.

    `handoff_id`: our key, on tasks of ours. `done_at`: when it was completed, or took place; None while open. A
    meeting's is its end, which may lie ahead of now: the CRM does not say that it took place.
    `outcome` and `disposition` are the rep's picks on a task of ours. `is_answer`: an e-mail the customer wrote; it is
    nobody's touch.
    """

    activity_id: str
    kind: str
    crm_account_id: str | None
    owner_id: str | None
    subject: str
    description: str
    is_done: bool
    is_deleted: bool
    created_at: datetime
    done_at: datetime | None
    changed_at: datetime
    handoff_id: str | None = None
    outcome: str | None = None
    disposition: str | None = None
    is_answer: bool = False

    @property
    def closed_by_us(self) -> bool:
        """Whether we ended it: then it is nobody's touch."""
        return self.subject.startswith(CLOSED_BY_US)


class Crm(Protocol):
    """One CRM. Every method may raise CrmError; a row's own refusal is its Outcome, never an exception.

    Every write may be repeated without harm: an update sets the same values, a creation carries a unique key of ours.
    Directly before every request that writes the stop is asked about, and Stopped raised (`connect`).
    """

    name: str
    """Its name in `registry.CRMS`: the destination in the outbox."""

    @classmethod
    def connect(
        cls, connection: Connection, policy: Policy, *, stopped: WhyStopped, sleep: Callable[[float], None]
    ) -> Self:
        """A client, signed in when first used, with the settings the policy has for it.

        `stopped` is asked directly before each request that writes, also between two of one batch. `sleep` passes the
        seconds between two attempts. Raises ConnectionConfigError for a connection that cannot work.
        """

    def check_fields(self) -> None:
        """Raises FieldsMissing naming each field that is not there or may not be written. Looked at once a client."""

    def create_fields(self) -> list[str]:
        """Creates those of our fields that are missing; returns their names. May raise CannotCreateFields."""

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def read_reps(self) -> Iterator[Row]:
        """owner_id, email, name, active, timezone of every user."""

    def read_accounts(self, policy: Policy, since: datetime | None = None) -> Iterator[Row]:
        """crm_account_id, owner_id, account_id (our external id), created_at, is_deleted, merged_into (the id of the
        account it was merged into), and the snapshot columns of `policy.crm.account_fields`.

        With `since` those changed at or after it, deleted ones too; without, all that are there.
        """

    def read_opportunities(self, since: datetime | None = None) -> Iterator[Row]:
        """opportunity_id, crm_account_id, stage, is_closed, is_won, amount, created_at, closed_at, lead_source,
        owner_id, changed_at, is_deleted; with `since` as `read_accounts`."""

    def read_activities(self, since: datetime, records: Collection[str] = ()) -> Iterator[Activity]:
        """Activities of accounts that changed at or after `since`, deleted ones too; tasks of ours, and those of
        `records`, also where that is no account (a lead)."""

    def tasks_of(self, handoff_ids: Iterable[str]) -> dict[str, Activity]:
        """The task of each handoff that has one; a deleted one only when there is no other."""

    def keyed_tasks(self, since: datetime) -> Iterator[Activity]:
        """Every task with a key of ours that was created at or after `since`, deleted ones too (reconciliation)."""

    def activities_of(self, records: Collection[str], since: datetime) -> Iterator[Activity]:
        """Activities of these records alone, accounts or leads, that changed at or after `since`, deleted ones too."""

    def opportunities_since(self, since: datetime, records: Collection[str] = ()) -> set[str]:
        """CRM ids of the accounts with an open opportunity that changed at or after `since`, or with one opened since,
        whatever has become of it; and of those of `records` with an open one at all. A call or two."""

    def gone_since(self, since: datetime) -> dict[str, str | None]:
        """Accounts deleted at or after `since` → the account each was merged into (None: none)."""

    def contacts(self, emails: Collection[str]) -> dict[str, str]:
        """Lower-case e-mail → contact id, for those the CRM knows."""

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def ensure_accounts(self, rows: Mapping[str, Row], kind: str) -> dict[str, Outcome]:
        """A record for each product account, `account_id` → {name, domain, owner_id, …}: the one with our external
        id, else the one of the same domain (which gets the id), else a new one of `kind` (account, lead). Never two."""

    def update_accounts(self, rows: Mapping[str, AccountContext]) -> dict[str, Outcome]:
        """Writes our own fields, CRM account id → context; what is unknown is left out, so nothing is erased."""

    def create_tasks(self, rows: Mapping[str, TaskContent], unsure: Collection[str] = ()) -> dict[str, Outcome]:
        """Creates the task of each handoff, handoff id → content, under its unique key.

        One that is there is the rep's: it is adopted as it is and never written over, also when it was deleted
        (`deleted`; it is not made again). Those of `unsure` may have been sent before: they are looked for first.
        """

    def close_tasks(self, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
        """Closes the task of each handoff: handoff id → (label of CLOSED_BY_US, reason).

        An open task becomes completed, the label before its subject, the reason on top of its description. One the rep
        closed (`by_rep`) is left alone, except that a release notes its reason there. Closed by us already, reopened by
        the rep since, deleted, or never made: nothing to do, ok.
        """
