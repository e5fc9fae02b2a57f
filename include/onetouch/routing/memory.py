"""What is remembered of each account from run to run, so that nothing depends on the hour in which it happened.

An account is **watched** from the run that found it worth watching: its next trigger event is a reason to call it,
also while something else holds it, and also when the event becomes known late. A **trigger** event is noted with the
run that first knew it, and stays a reason until the account is handed over, or `assignment.queue_hours` have passed.
An account with a reason and without a handoff is **queued** since the first such run. All this is in the ledger,
written by real runs only; what a run has read is kept with its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from onetouch.catalogue import ACTIONS, HOLD_CAPACITY, HOLD_REFUSED, SALES_NOW
from onetouch.columns import Mask, moments, truth, utc
from onetouch.ledger import QUEUED, WATCHED, Remembered
from onetouch.policy import Policy
from onetouch.routing import contact_reasons
from onetouch.routing.recall import answered
from onetouch.routing.rule import Facts
from onetouch.routing.rules import queue_expired

_FORMER = "trigger"
_HOLDS = [action for action in ACTIONS if action.hold and not action.waiting]
_WAITING = [action for action in ACTIONS if action.waiting]
_WATCHED = [action for action in ACTIONS if action.watched]
IN_LINE = (SALES_NOW, HOLD_CAPACITY, HOLD_REFUSED)
"""Actions of accounts that are in the line for a rep."""


def changes(
    noted: pd.DataFrame, handoffs: pd.DataFrame, facts: Facts, decisions: pd.DataFrame, policy: Policy, as_of: datetime
) -> Iterator[Remembered]:
    """What begins and what ends with a run that has decided so.

    `noted`, `handoffs`: as given to `recall`; `facts` and `decisions`: of the run, in the same order of accounts.
    """
    came, listening, in_line = truth(facts, "came"), _listening(facts, decisions, policy), _in_line(decisions)
    is_watched, is_queued = (facts[f"previous_{name}"].notna().to_numpy() for name in ("watched_since", "queued_since"))
    triggered, unnoted = truth(facts, "triggered"), facts["previous_pending_at"].isna().to_numpy()
    news = facts.loc[came & triggered, ["account_id", "news_place", "news_at"]]
    # An event that an earlier release kept with its decision is of a signal that nobody knows any more.
    kept = facts.loc[triggered & ~came & unnoted, ["account_id", "previous_trigger_at"]]
    for account, place, at in news.itertuples(index=False, name=None):
        yield Remembered(account, policy.routing.triggers[place], at)
    yield from (Remembered(account, _FORMER, at) for account, at in kept.itertuples(index=False, name=None))
    # A watch begins anew with a trigger event, because what happened up to then is noted.
    begins = {WATCHED: listening & (came | ~is_watched), QUEUED: in_line & ~is_queued}
    for what, who in begins.items():
        yield from (Remembered(account, what, as_of) for account in facts.loc[who, "account_id"])

    # One row for each account that is still there: its rule, and whether its watch and its place in line go on.
    on = pd.DataFrame({"rule": decisions["rule"], WATCHED: listening & ~came, QUEUED: in_line})
    now = answered(noted, handoffs).join(on.set_axis(decisions["account_id"]), on="account_id")
    watch, queue = now["what"].eq(WATCHED).to_numpy(bool), now["what"].eq(QUEUED).to_numpy(bool)
    goes_on = np.where(watch, now[WATCHED].eq(True), now[QUEUED].eq(True))
    aged = moments(now, "noted_at") <= utc(as_of - timedelta(hours=policy.assignment.queue_hours))
    is_answered = truth(now, "answered") & ~watch
    over = np.where(watch | queue, ~goes_on, aged | now["rule"].isna().to_numpy()) | is_answered
    why = now["rule"].fillna("the account is gone").where(~is_answered, "handed over")
    ending = now.assign(why=why).loc[over, ["account_id", "what", "at", "why"]]
    yield from (Remembered(*row) for row in ending.itertuples(index=False, name=None))


def _listening(facts: Facts, decisions: pd.DataFrame, policy: Policy) -> Mask:
    """Accounts whose next trigger event is a reason to call them: watched, held, waiting or expired."""
    action, worth_it = decisions["action"], contact_reasons.watched(facts, policy)
    waits = action.isin([*_HOLDS, *_WAITING, SALES_NOW]).to_numpy(bool) & facts["tier"].eq("medium").to_numpy(bool)
    ready = action.isin(_WATCHED) | decisions["rule"].eq(queue_expired.NAME)
    return ready.to_numpy(bool) | (worth_it & waits)


def _in_line(decisions: pd.DataFrame) -> Mask:
    return decisions["action"].isin(IN_LINE).to_numpy(bool)
