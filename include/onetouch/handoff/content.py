"""What is written to a CRM for a handoff, whichever CRM it is: the context on the account's record, and the task.

Each CRM's client defines the names of its fields, the format of their values and their maximum lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

Priority = Literal["high", "medium", "low"]


@dataclass(frozen=True)
class AccountContext:
    """The fields to write on the account's record. None means unknown: the field is not written, so nothing is erased,
    except that a handoff's whole context empties what an earlier episode has left in its fields (`emptied`).

    `account_id`: the product's own id, unchanged. `action`: the run's decision. `trigger`: why now, in one line.
    `milestones`: for example "4 of 5". `features_used`: their names, or their number. `usage`: events in 28 days.
    `limit_share`: how much of the plan limit is in use, in percent (92.0). Texts are plain and safe to open in a
    spreadsheet.
    """

    account_id: str | None = None
    score: float | None = None
    tier: str | None = None
    action: str | None = None
    trigger: str | None = None
    motion: str | None = None
    activated: bool | None = None
    milestones: str | None = None
    team_size: float | None = None
    features_used: str | None = None
    usage: float | None = None
    limit_share: float | None = None
    dossier: str | None = None
    policy_version: str | None = None
    as_of: datetime | None = None

    @property
    def emptied(self) -> tuple[str, ...]:
        """The parts of EPISODE that are unknown in a handoff's context, which is the one with a dossier. A standing has
        none, and empties nothing."""
        return () if self.dossier is None else tuple(name for name in EPISODE if getattr(self, name) is None)


EPISODE = ("trigger", "motion", "milestones", "team_size", "features_used", "usage", "limit_share")
"""Parts of a context that tell of one episode: without a value in the new one, the earlier one's would mislead the
rep. The others always have a value (score, as-of), belong to the standing (tier, action), or cannot be empty (a yes or
no)."""


@dataclass(frozen=True)
class TaskContent:
    """A task for a rep. `due_on` is a day on the rep's calendar, `remind_at` a moment in UTC.

    `owner_id`, `crm_account_id` (an account or a lead) and `contact_id` are the CRM's own ids. They are filled in when
    the task is written, not when it is decided. `extra`: the company's own fields of the task (`crm.extra_fields`).
    """

    subject: str
    description: str = ""
    priority: Priority = "medium"
    due_on: date | None = None
    remind_at: datetime | None = None
    owner_id: str | None = None
    crm_account_id: str | None = None
    contact_id: str | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class OpportunityContent:
    """An opportunity for a handoff whose customer has answered. `amount`: dollars a year; `close_on`: a guess of ours.

    `owner_id`, `crm_account_id` and `contact_id` are the CRM's own ids, filled in when it is written.
    """

    name: str
    amount: float | None = None
    close_on: date | None = None
    source: str = "Product"
    owner_id: str | None = None
    crm_account_id: str | None = None
    contact_id: str | None = None


REQUIRED_CONTEXT = (
    "account_id", "activated", "milestones", "team_size", "features_used", "usage", "trigger", "dossier",
)  # fmt: skip
"""What a record must show before a rep sees a task: features used, team size, usage volume, activation (S0)."""
