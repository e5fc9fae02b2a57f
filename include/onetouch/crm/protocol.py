"""The interface to every CRM: reads vendor-neutral rows, writes our own fields and tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Protocol, Self

from onetouch.connections import Connection
from onetouch.handoff import AccountContext, OpportunityContent, TaskContent
from onetouch.policy import Policy
from onetouch.stop import WhyStopped

Row = dict[str, Any]

Thing = Literal["account", "task"]

Tell = Callable[[str], None]
"""Is given each warning, a line that says what was not read and how to mend it."""

WITHDRAWN, RELEASED, EXPIRED = "[Withdrawn] ", "[Released] ", "[Expired] "
CLOSED_BY_US = (WITHDRAWN, RELEASED, EXPIRED)
"""Labels in front of the subject of a task that we closed: closing it is not a rep's touch."""

OUTCOMES = ("No response", "Replied", "Meeting booked")
DISPOSITIONS = ("Good", "Not now", "Wrong person", "Would have bought anyway")
"""Values a rep may pick on our tasks: the outcome of the contact, and the rep's verdict on the handoff."""

MEETING = "meeting"
"""The kind of an activity that is a meeting."""

UNKNOWN = "UNKNOWN_OUTCOME"
"""The code of a row whose request was sent but not answered: look it up before sending it again."""

WRITES = (
    "create_fields", "ensure_accounts", "ensure_contacts", "update_accounts", "create_tasks", "close_tasks",
    "reassign_tasks", "answer_tasks", "create_opportunities",
)  # fmt: skip
"""The methods of a Crm that change something in it."""


def note(label: str, reason: str = "") -> str:
    """The first line of the description of a task that we closed or released; `label` is one of CLOSED_BY_US."""
    return f"{label.strip('[] ')}: {reason}"


NOT_YET = "NOT_YET"
"""The code of a row that the CRM cannot take yet, through nobody's fault: a later run tries again."""


LEFT_ALONE = "LEFT_ALONE"
"""The code of a task that was not given to somebody else, because a rep has done something with it."""


def is_set(value: object) -> bool:
    """Whether a CRM's yes-or-no field says yes, however it is kept: an empty one says no."""
    return value is True or str(value).strip().lower() in ("true", "yes", "1")


class CrmError(Exception):
    """The CRM could not be used. The message holds codes and what to do, no secrets and no personal data."""


class Unreachable(CrmError):
    """There was no usable answer, even after several attempts."""


class SignInRefused(CrmError):
    """The connection's credentials are not accepted."""


class LimitReached(CrmError):
    """The CRM's daily calls are used up, or the rest is reserved for others. The next run continues."""


class FieldsMissing(CrmError):
    """The CRM lacks our fields, or the integration user may not write them."""


class CannotCreateFields(CrmError):
    """The CRM's fields cannot be created through its API; the message says how to create them."""


class Refused(CrmError):
    """The request as a whole was refused (a bug or a missing permission); trying again does not help.

    `status` and `code` are the CRM's.
    """

    status, code = 0, ""
    candidates: tuple[str, ...] = ()
    """The records that the CRM takes for the same as the one that it has refused."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one row: its record id, or the code and message of its refusal.

    `retryable`: a later run may succeed with the same row. `deleted`: the record existed and is in the recycle bin.
    `by_rep`: a rep had closed the task, and it was left as it was. `owner`: the CRM does not take the row's owner;
    another rep's row may be taken. `candidates`: the records that the CRM takes for the same as the refused one.
    """

    ok: bool
    id: str | None = None
    code: str = ""
    message: str = ""
    deleted: bool = False
    by_rep: bool = False
    retryable: bool = False
    owner: bool = False
    candidates: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The refusal in one line."""
        return f"{self.code}: {self.message}" if self.message else self.code


@dataclass(frozen=True)
class Due:
    """By when a task is to be done: a day on the rep's calendar, and the moment (UTC) at which to be reminded of it."""

    on: date
    remind_at: datetime


@dataclass(frozen=True)
class Finding:
    """Something of the CRM that would refuse what we write: found before anything is written.

    `record`: the object. `field`, `value`: what of it would be refused, "" where no one field is to blame. `refuses`:
    what refuses it. `mend`: what to do; `who`: who can do it.
    """

    record: str
    field: str
    value: str
    refuses: str
    mend: str
    who: str = "an admin"

    @property
    def line(self) -> str:
        """The finding in one line."""
        where = f"{self.record}.{self.field}" if self.field else self.record
        value = f" = {self.value!r}" if self.value else ""
        return f"{where}{value}: {self.refuses}; {self.who}: {self.mend}"


_FOLLOW_UP = re.compile(r"([0-9a-f]{32})-([1-9])")


def follow_up_key(handoff_id: str, number: int) -> str:
    """The unique key of the task for a handoff's nth follow-up. The key of its own task is the handoff's id."""
    return f"{handoff_id}-{number}"


@dataclass(frozen=True)
class Activity:
    """A task, call, e-mail or meeting of an account, as the CRM has it. Moments are UTC, unknown is None.

    `key`: our unique key, on our tasks; people may have changed it. `done_at`: when it was done or took place; None
    while open. For a meeting it is the meeting's end, which may lie in the future. A meeting that was called off, that
    the customer has declined, or to which they did not come, where the CRM says so, is not done. `outcome` and
    `disposition`: the values a rep picked on our task. `is_answer`: an e-mail written by the customer; it does not
    count as a touch. `is_inbound`: a call that the customer made; it is a touch and an answer. `is_automatic`: an
    e-mail that nobody wrote, such as an out-of-office note; it is neither.
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
    key: str | None = None
    outcome: str | None = None
    disposition: str | None = None
    is_answer: bool = False
    is_inbound: bool = False
    is_automatic: bool = False

    @property
    def handoff_id(self) -> str | None:
        """The handoff whose task it is, or whose follow-up."""
        follow_up = _FOLLOW_UP.fullmatch(self.key or "")
        return follow_up[1] if follow_up else self.key

    @property
    def follow_up(self) -> int:
        """Which follow-up of its handoff the task is for; 0: it is the handoff's own task."""
        follow_up = _FOLLOW_UP.fullmatch(self.key or "")
        return int(follow_up[2]) if follow_up else 0

    @property
    def closed_by_us(self) -> bool:
        """Whether we closed it: then it is not a touch."""
        return self.subject.startswith(CLOSED_BY_US)


@dataclass(frozen=True)
class OurWrites:
    """Changes of accounts that we made ourselves and that need not be read.

    `until`: as-of that we wrote → until when we wrote it, by the CRM's clock, both in whole seconds. An account with
    that as-of that has not changed after that moment was changed by us last. `unread`: accounts that others had changed
    just before we wrote them; they are read all the same.
    """

    until: Mapping[datetime, datetime] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()


class Crm(Protocol):
    """One CRM. Every method may raise CrmError; a row's own refusal is its Outcome, never an exception.

    Every write may be repeated without harm: an update sets the same values, a creation carries a unique key of ours.
    The stop is checked directly before every request that writes; while it is set, Stopped is raised (`connect`).
    """

    name: str
    """Its name in `registry.CRMS`: the destination in the outbox."""

    @classmethod
    def connect(
        cls, connection: Connection, policy: Policy, *, stopped: WhyStopped, sleep: Callable[[float], None]
    ) -> Self:
        """A client, signed in when first used, with the settings the policy has for it.

        `stopped` is called directly before each request that writes, also between two requests of one batch. `sleep`
        waits the seconds between two attempts. Raises ConnectionConfigError for a connection that cannot work.
        """

    def check_fields(self) -> None:
        """Raises FieldsMissing naming each field that is missing or not writable. A client checks once."""

    def create_fields(self) -> list[str]:
        """Creates our fields that are missing; returns their names. May raise CannotCreateFields."""

    def rehearse(self, policy: Policy, today: date) -> list[Finding]:
        """What of the CRM's own rules would refuse the records that we write. Nothing stays in the CRM."""

    def page(self, thing: Thing, record_id: str) -> str | None:
        """Where people open an account (or lead) or a task; None where that is not known. Sends no request."""

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def read_reps(self) -> Iterator[Row]:
        """owner_id, email, name, active, timezone of every user."""

    def read_accounts(
        self,
        policy: Policy,
        since: datetime | None = None,
        ours: OurWrites | None = None,
        tell: Tell = lambda _: None,
    ) -> Iterator[Row]:
        """crm_account_id, owner_id, account_id (our external id), created_at, is_deleted, merged_into (the id of the
        account it was merged into), and the snapshot columns of `policy.crm.account_fields`.

        With `since`, accounts changed at or after it, deleted ones too, but not those whose last change is one of
        `ours`; without, all existing accounts. An account may come twice. Amounts are in `crm.currency` of the policy;
        those that cannot be are unknown, which `tell` is told once.
        """

    def last_written(self, as_of: datetime) -> datetime | None:
        """When an account with this as-of (whole seconds) was changed last, by the CRM's clock; None: none has it."""

    def read_opportunities(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        """opportunity_id, crm_account_id, stage, is_closed, is_won, amount, created_at, closed_at, lead_source,
        owner_id, changed_at, is_deleted; with `since` as `read_accounts`."""

    def read_activities(self, since: datetime) -> Iterator[Activity]:
        """Activities of accounts that changed at or after `since`, deleted ones too, and all our tasks. What is logged
        on a contact alone is the contact's account's. What is logged on a lead has the lead's id as account."""

    def tasks_of(self, keys: Iterable[str]) -> dict[str, Activity]:
        """The task of each key that has one; a deleted task only when the key has no other."""

    def keyed_tasks(self, since: datetime) -> Iterator[Activity]:
        """Every task with our key that was created at or after `since`, deleted ones too (for reconciliation)."""

    def activities_of(self, records: Collection[str], since: datetime) -> Iterator[Activity]:
        """Activities of only these records (accounts or leads) that changed at or after `since`, deleted ones too."""

    def opportunities_since(self, since: datetime, records: Collection[str] = ()) -> set[str]:
        """CRM ids of accounts with an open opportunity changed at or after `since`, or with an opportunity in any state
        created since; also the ids of `records` with any open opportunity. Takes one or two API calls."""

    def gone_since(self, since: datetime) -> dict[str, str | None]:
        """Accounts deleted at or after `since` → the account each was merged into (None: none)."""

    def contacts(self, emails: Collection[str]) -> dict[tuple[str, str], str]:
        """(CRM account id, lower-case e-mail) → contact id, for the addresses the CRM knows; the account id is "" where
        the contact belongs to no account. Of several contacts of one account with one address, the one created
        first."""

    def read_contacts(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        """contact_id, kind (contact or lead), crm_account_id (of a lead its own id), email (lower case), name, title,
        do_not_call, email_opt_out, is_deleted, changed_at of every person; with `since` as `read_accounts`.

        The opt-outs are read from the fields of `policy.crm.contact_fields`. Where the policy names a field that the
        CRM does not have or show, they are None: unknown, not "may be contacted"; `tell` is given a line for each such
        field. Where it names none, nobody has opted out.
        """

    def contacts_of(self, records: Collection[str], emails: Collection[str] = ()) -> Iterator[Row]:
        """Rows of `read_contacts` as they are now, of the existing people of these records (accounts or leads) and of
        those with one of these addresses in lower case, each person once."""

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def ensure_accounts(self, rows: Mapping[str, Row], kind: str) -> dict[str, Outcome]:
        """Finds or creates a record for each product account, `account_id` → {name, domain, owner_id, extra, …}: the
        record with our external id, else a record of the same domain (which gets the id), else a new record of `kind`
        (account, lead). Never creates two. `extra`: the company's own fields of a new record. Where the CRM refuses a
        new record for looking like others, the only one of them that has the account's domain gets the id; else the
        policy's `crm.duplicates` decides."""

    def ensure_contacts(self, rows: Mapping[str, Row]) -> dict[str, Outcome]:
        """Finds or creates a contact for each row, key → {crm_account_id, email, name, title, owner_id, extra}: the
        account's contact of that address, else one of that address that belongs to no account, else a new one.

        Never creates two; one of ours that was deleted is not created again (`deleted`). Only where the policy's
        `crm.contacts` is `create`.
        """

    def update_accounts(self, rows: Mapping[str, AccountContext]) -> dict[str, Outcome]:
        """Writes our own fields, CRM account id → context; unknown values are left out, so nothing is erased, except
        for the parts of an earlier episode that a new one empties (`AccountContext.emptied`)."""

    def create_tasks(self, rows: Mapping[str, TaskContent], unsure: Collection[str] = ()) -> dict[str, Outcome]:
        """Creates the task of each key: the handoff's id, or for a follow-up `follow_up_key`.

        An existing task belongs to the rep: it is adopted as it is and never overwritten; a deleted one is not created
        again (`deleted`). Tasks in `unsure` may have been sent before: they are looked up first.
        """

    def close_tasks(self, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
        """Closes the task of each key: key → (label of CLOSED_BY_US, reason).

        An open task is completed, with the label before its subject and the reason on top of its description. A task
        the rep closed (`by_rep`) is left alone, except that a release adds its reason to the description. Nothing is
        done, and the outcome is ok, for a task that we closed before (even if the rep has reopened it since), that was
        deleted, or that was never created.
        """

    def reassign_tasks(
        self, owners: Mapping[str, tuple[str, str]], due: Mapping[str, Due] | None = None
    ) -> dict[str, Outcome]:
        """Gives the open task of each handoff to another user: handoff id → (its owner until now, its new owner).

        `due`: handoff id → by when the new owner has to do it, of those whose clock starts anew.

        Each is read directly before. One that the new owner has already needs nothing (ok). Any other that is not open
        and untouched in the hands of its former owner is the reps' own affair: it is left alone (`LEFT_ALONE`).
        """

    def answer_tasks(self, answers: Mapping[str, str | None]) -> dict[str, Outcome]:
        """Does the task of each handoff as its rep would have: handoff id → the disposition noted on it, if any.

        An open task is completed. One that is done already, or that we closed, keeps what it says (`LEFT_ALONE`), and
        so does one that was deleted.
        """

    def create_opportunities(
        self, rows: Mapping[str, OpportunityContent], unsure: Collection[str] = ()
    ) -> dict[str, Outcome]:
        """Creates an opportunity of each handoff, handoff id → content, under its unique key, in the first open stage.

        An existing one is the rep's, as with `create_tasks`: it is adopted as it is, and a deleted one is not created
        again. A lead has no opportunities: its outcome is NOT_YET.
        """


def answered(task: Activity | None) -> Outcome | None:
    """The outcome of `Crm.answer_tasks` for a task that it does not change; None: it is to be changed."""
    if task is None or task.is_deleted or task.is_done or task.closed_by_us:
        its_id = None if task is None else task.activity_id
        return Outcome(ok=False, id=its_id, code=LEFT_ALONE, message="the task was done or deleted", by_rep=True)
    return None


def left_alone(task: Activity | None, before: str, to: str) -> Outcome | None:
    """The outcome of `Crm.reassign_tasks` for a task that it does not change; None: it is to be changed."""
    if task is not None and not task.is_deleted and task.owner_id == to:
        return Outcome(ok=True, id=task.activity_id)
    if task is None or task.is_deleted or task.is_done or task.closed_by_us or task.outcome or task.owner_id != before:
        message = "the task was done, deleted or given to somebody else"
        return Outcome(
            ok=False, id=None if task is None else task.activity_id, code=LEFT_ALONE, message=message, by_rep=True
        )
    return None
