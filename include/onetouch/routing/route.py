"""From the inputs of a run to one decision an account."""

from __future__ import annotations

import itertools
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from onetouch.catalogue import ACTIONS
from onetouch.columns import moments, utc, words
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.routing.assignment import assign, in_line, team
from onetouch.routing.ids import decision_ids
from onetouch.routing.inputs import Inputs, gather, keep, went_live
from onetouch.routing.known import known_facts
from onetouch.routing.memory import changes
from onetouch.routing.motion import motion
from onetouch.routing.obstacles import would_change
from onetouch.routing.rule import Facts, Rules
from onetouch.routing.rules import RULES, first_match, rules_of
from onetouch.routing.rules.refused import refused_owners
from onetouch.routing.timing import contact_at, due_at

DECISION: tuple[str, ...] = (
    "decision_id", "account_id", "crm_account_id", "as_of", "policy_version", "score", "usage_score", "score_before",
    "score_trend", "tier", "pql", "reasons", "value_band", "engagement_band", "motion", "potential_arr", "call",
    "action", "rule", "since", "would_change", "owner_email", "owner_id", "assigned_by", "trigger_at", "due_at",
    "contact_at", "turn", "inputs_ref",
)  # fmt: skip
"""Columns of `decisions/{run_id}.parquet`."""

_LOT_KEY = "onetouch-the-lot"  # 16 characters, as the hash requires; unlike that of the control group

_QUEUED = [action for action in ACTIONS if action.queued]
_BY_RULE = [action for action in ACTIONS if action.by_rule]
_CLOCKED_BY = ["rep_email", "call", "trigger_at", "limit_days_left", "timezone", "usual_hour", "usual_weekday"]
_ASSIGNED_BY = ["account_id", "score", "region", "industry", "employees", "owner_email", "rep_before"]


def route(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, listed: pd.DataFrame | None = None
) -> dict[str, object]:
    """Writes `decisions/{run_id}.parquet` from the run's inputs, and stores the inputs so that it can be replayed.

    `listed`: the entries of the policy's file of whom never to contact (`consent.read_listed`; None: it has none).
    Returns `accounts`, `decisions` {action: n} and, if accounts wait in the queue, `waiting` {what for: n}. Raises
    FileNotFoundError when an earlier stage has not run.
    """
    inputs, noted = gather(lake, ledger, policy, run, listed), ledger.remembered(run.as_of)
    keep(lake, run.run_id, inputs)
    known, decisions = _decided(inputs, policy, run.as_of, RULES)
    decisions["inputs_ref"] = f"signals/{run.run_id}"
    # Pandas' own metadata is dropped, because it cannot describe a list of structs.
    table = pa.Table.from_pandas(decisions[list(DECISION)], preserve_index=False).replace_schema_metadata()
    lake.write(table, "decisions", f"{run.run_id}.parquet")
    ledger.remember(run, changes(noted, inputs.handoffs, known, decisions, policy, run.as_of))
    actions = decisions["action"].value_counts()
    waiting = known.loc[decisions["action"].isin(_QUEUED), "waits_for"].value_counts()
    told = {"accounts": len(decisions), "decisions": {str(k): int(v) for k, v in sorted(actions.items())}}
    return told | ({"waiting": {str(k): int(v) for k, v in sorted(waiting.items())}} if len(waiting) else {})


def facts(inputs: Inputs, policy: Policy, as_of: datetime) -> Facts:
    """The facts the rules read, one row an account in the order of account_id: `known.known_facts` and the assignment.

    The assignment is rep_email, rep_id, assigned_by, has_room, covered, waits_for, turn, as `assignment.assign` returns
    them. Accounts decided by a rule before the first rule that reads these columns (`Rule.assigned`) have no rep.
    """
    return _assigned(inputs, policy, as_of, rules_of(policy))[0]


def decide(inputs: Inputs, policy: Policy, as_of: datetime, rules: Rules = RULES) -> pd.DataFrame:
    """One decision an account, in the order of account_id; the columns of DECISION (inputs_ref empty).

    `rules`: rules to use in place of RULES, for example to see the effect of leaving one out.
    Raises ValueError when the accounts of signals and scores differ or an account occurs twice; PolicyError when the
    policy gives a rule parameters that are not allowed.
    """
    return _decided(inputs, policy, as_of, rules)[1]


def _decided(inputs: Inputs, policy: Policy, as_of: datetime, rules: Rules) -> tuple[Facts, pd.DataFrame]:
    """The facts, and the decisions in the same order."""
    rules = rules_of(policy, rules)
    known, people = _assigned(inputs, policy, as_of, rules)
    place = first_match(known, policy, rules)
    sent = np.isin(place, [at for at, rule in enumerate(rules) if rule.action.sales_touch])
    held = sent | np.isin(place, [at for at, rule in enumerate(rules) if rule.action.queued])
    due, contact = _clock(known.loc[sent, _CLOCKED_BY], people, policy, as_of)
    names, actions = [rule.name for rule in rules], [str(rule.action) for rule in rules]
    action, rule = words(place, actions), words(place, names)
    obstacles = pd.arrays.ArrowExtensionArray(would_change(known, place, policy, rules))
    return known, pd.DataFrame(
        {
            "decision_id": decision_ids(known, policy, as_of),
            "account_id": known["account_id"],
            "crm_account_id": known["crm_account_id"].astype("str"),
            "as_of": pd.Series(pd.Timestamp(as_of), index=known.index).astype("datetime64[us, UTC]"),
            "policy_version": words(np.zeros(len(known), np.int64), [policy.version]),
            "score": known["score"],
            "usage_score": known["usage_score"],
            "score_before": known["score_before"],
            "score_trend": known["score_trend"],
            "tier": known["tier"],
            "pql": known["pql"],
            "reasons": known["reasons"],
            "value_band": words(known["high_value"].to_numpy(np.int64), ["low", "high"]),
            "engagement_band": words(known["engaged"].to_numpy(np.int64), ["low", "high"]),
            "motion": motion(known, known["potential_arr"].to_numpy(), policy),
            "potential_arr": known["potential_arr"],
            "call": known["call"],
            "action": action,
            "rule": rule,
            "since": _since(known, action, rule, as_of),
            "would_change": pd.Series(obstacles, index=known.index),
            "owner_email": known["rep_email"].where(held).astype("str"),
            "owner_id": known["rep_id"].where(sent).astype("str"),
            "assigned_by": known["assigned_by"].where(held).astype("str"),
            "trigger_at": known["trigger_at"],
            "due_at": due.reindex(known.index),
            "contact_at": contact.reindex(known.index),
            "turn": known["turn"].where(held).astype("float64"),
            "inputs_ref": "",
        }
    )


def _assigned(inputs: Inputs, policy: Policy, as_of: datetime, rules: Rules) -> tuple[Facts, pd.DataFrame]:
    """The facts with the assigned reps, and the people who may be given tasks (`assignment.team`)."""
    known = known_facts(inputs, policy, as_of, rules)
    people = team(inputs.signals, inputs.reps, policy, as_of)
    people["away"] |= people.index.isin(list(refused_owners(inputs, policy, as_of)))
    before = tuple(itertools.takewhile(lambda rule: not rule.assigned, rules))
    called = known.loc[first_match(known, policy, before) == len(before)]
    candidates = called[_ASSIGNED_BY]
    if policy.assignment.ties == "drawn":
        candidates = candidates.assign(lot=_lots(called, as_of))
    given = assign(candidates, people, inputs.rep_load, policy, as_of, went_live(inputs.handoffs))
    given["turn"] = pd.Series(np.arange(1.0, len(candidates) + 1), in_line(candidates).index)
    given = given.reindex(known.index)
    given = given.rename(columns={"owner_email": "rep_email", "owner_id": "rep_id"})
    given["has_room"], given["covered"] = given["has_room"].eq(True), given["covered"].eq(True)
    return pd.concat([known, given], axis=1), people


def _lots(called: Facts, as_of: datetime) -> npt.NDArray[np.uint64]:
    """The lot of each account: a hash of its id and of what it waits for, so that it stays while it waits.

    That is the trigger event, or without one the run that called it first.
    """
    trigger, since = moments(called, "trigger_at"), moments(called, "previous_queued_since")
    occasion = np.where(np.isnat(trigger), np.where(np.isnat(since), utc(as_of), since), trigger)
    names = called["account_id"].to_numpy(dtype=object) + np.datetime_as_string(occasion, "us").astype(object)
    return pd.util.hash_array(names, hash_key=_LOT_KEY, categorize=False)


def _clock(sent: pd.DataFrame, people: pd.DataFrame, policy: Policy, as_of: datetime) -> tuple[pd.Series, pd.Series]:
    """When each task is due and when to contact the account, within the working time of the assigned rep."""
    on_trigger = sent["call"].eq("trigger")
    sla = policy.handoff.sla_hours
    clock = pd.DataFrame(
        {
            "owner_email": sent["rep_email"],
            "hours": np.where(on_trigger, sla.medium, sla.high).astype(np.float64),
            "start": sent["trigger_at"],  # null unless the contact reason is a trigger: then hours count from `as_of`
            "limit_days_left": sent["limit_days_left"],
        }
    )
    due = due_at(clock, people, policy, as_of)
    habits = sent[["timezone", "usual_hour", "usual_weekday"]].assign(owner_email=sent["rep_email"])
    return due, contact_at(habits, due, people, policy, as_of)


def _since(known: pd.DataFrame, action: pd.Series, rule: pd.Series, as_of: datetime) -> pd.Series:
    """Since when the account has had this decision without a break: the same action, and for actions marked `by_rule`
    also the same rule.
    """
    same = known["previous_action"].eq(action) & (~action.isin(_BY_RULE) | known["previous_rule"].eq(rule))
    return known["previous_since"].where(same).fillna(pd.Timestamp(as_of)).astype("datetime64[us, UTC]")
