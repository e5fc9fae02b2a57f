"""Why an account got its decision: every rule in order, the score and its reasons, what would change it.

Told from what the run stored; the policy is the ledger's copy of the version that decided.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from onetouch.audit.stored import of_run, table
from onetouch.lake import Lake
from onetouch.ledger import PSEUDONYM, Ledger, Run
from onetouch.policy import Condition, Policy
from onetouch.routing import RULES
from onetouch.routing.sentences import CONTEXT, sentence

Verdict = Literal["did not apply", "decided", "not asked"]


@dataclass(frozen=True)
class Said:
    """What one rule had to say to an account, and why; a rule after the one that decided was not asked."""

    rule: str
    action: str
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Explanation:
    """One decision with all that led to it. `decision`, `signals`, `gates`: the stored rows as plain values.

    `tier_score`: the part of the score that decides the tier.
    """

    run_id: str
    decision: dict[str, Any]
    signals: dict[str, Any]
    gates: dict[str, bool]
    tier_score: float
    rules: tuple[Said, ...]
    would_change: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "run_id": self.run_id,
            "decision": self.decision,
            "gates": self.gates,
            "tier_score": self.tier_score,
            "rules": [vars(said) for said in self.rules],
            "would_change": list(self.would_change),
            "signals": self.signals,
        }


def explain(lake: Lake, ledger: Ledger, run: Run, account: str) -> Explanation:
    """The decision of the run about the account of that id, else of that name or domain, explained.

    Raises ValueError when the run decided nothing about it, naming near accounts, or when several are called so;
    FileNotFoundError when what the run stored is gone.
    """
    if account.startswith(PSEUDONYM):
        raise ValueError(f"account {account}: was forgotten; why it got its decision is erased with it")
    decision = _row(of_run(lake, "decisions", run.run_id, account))
    if decision is None:
        decision = _row(of_run(lake, "decisions", run.run_id, _id_of(lake, run, account)))
    assert decision is not None  # every account with signals has one
    account_id = decision["account_id"]
    scored = _row(of_run(lake, "scores", run.run_id, account_id)) or {}
    signals = _row(of_run(lake, "signals", run.run_id, account_id)) or {}
    policy = ledger.policy(run.policy_version)
    handoff = _row(table(lake, "inputs", run.run_id, "handoffs.parquet", account_id=account_id))
    known = {**signals, **scored, **decision, "handoff": handoff}
    would_change = [sentence(o["obstacle"], o["has"], o["needs"], policy) for o in decision["would_change"]]
    return Explanation(
        run.run_id,
        decision,
        signals,
        {name.removeprefix("gate_"): bool(value) for name, value in scored.items() if name.startswith("gate_")},
        decision["score" if policy.scoring.firmographics == "combine" else "usage_score"],
        _rules(known, policy, would_change),
        tuple(would_change),
    )


def run_of(lake: Lake, ledger: Ledger, run_id: str | None = None, as_of: datetime | None = None) -> Run:
    """The run of that id, else the last one of that moment or before, else the one begun last; it has decided.

    Raises ValueError when there is none, NotInLedger for an unknown id.
    """

    def decided(run: Run) -> bool:
        return lake.exists("decisions", f"{run.run_id}.parquet")

    if run_id is not None:
        run = ledger.run(run_id)
        if decided(run):
            return run
        raise ValueError(f"run {run_id} has decided nothing; its stages stopped earlier, run it again to see why")
    candidates = ledger.last_runs() if as_of is None else [r for r in reversed(ledger.runs()) if r.as_of <= as_of]
    if (found := next(filter(decided, candidates), None)) is not None:
        return found
    if as_of is not None:
        raise ValueError(f"no run decided at or before {as_of.isoformat()}; give a later moment")
    raise ValueError("no run has decided anything here yet; `onetouch run --dry-run` does, and sends nothing")


def decision_rows(lake: Lake, run: Run, *, action: str | None = None) -> list[dict[str, Any]]:
    """Decisions of a run, best score first, as JSON values; with the account's name, owner_email called `owner`.

    Raises ValueError for an action no rule leads to.
    """
    actions = list(dict.fromkeys(rule.action for rule in RULES))
    if action is not None and action not in actions:
        raise ValueError(f"--action {action!r} is no action; allowed: {', '.join(actions)}")
    frame = of_run(lake, "decisions", run.run_id).to_pandas()
    if action is not None:
        frame = frame[frame["action"] == action]
    names = of_run(lake, "signals", run.run_id).select(["account_id", "name"]).to_pandas()
    frame = frame.merge(names, on="account_id", how="left").rename(columns={"owner_email": "owner"})
    return plain(frame.sort_values(["score", "account_id"], ascending=[False, True], ignore_index=True))


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values: moments ISO 8601, unknown null."""
    return json.loads(frame.to_json(orient="records", date_format="iso", date_unit="s"))


def _row(rows: pa.Table) -> dict[str, Any] | None:
    """The only row, as JSON values; None without one."""
    return plain(rows.to_pandas())[0] if rows.num_rows else None


def _id_of(lake: Lake, run: Run, account: str) -> str:
    """The id of the only account of that name or domain, in any case. Raises ValueError."""
    known = of_run(lake, "signals", run.run_id).select(["account_id", "name", "domain"]).to_pylist()
    wanted = account.strip().casefold()
    ids = [row["account_id"] for row in known if wanted in {(row[k] or "").casefold() for k in ("name", "domain")}]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise ValueError(f"account {account!r}: {len(ids)} are called so; give one's id: {', '.join(sorted(ids)[:5])}")
    near = difflib.get_close_matches(account, [row["account_id"] for row in known], n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`onetouch decisions` lists them"
    raise ValueError(f"account {account!r} is not in run {run.run_id}; {hint}")


def _rules(known: Mapping[str, Any], policy: Policy, would_change: list[str]) -> tuple[Said, ...]:
    """What each of RULES said. The stored decision names the one that decided; those before it did not apply."""
    names = [rule.name for rule in RULES]
    if known["rule"] not in names:  # a rule of an earlier version of this library
        return (Said(known["rule"], known["action"], "decided", " ".join(would_change[:1])),)
    fired = names.index(known["rule"])
    said = []
    for place, rule in enumerate(RULES):
        if place < fired:
            said.append(Said(rule.name, rule.action, "did not apply", WHY_NOT[rule.name](known, policy)))
        elif place == fired:
            said.append(Said(rule.name, rule.action, "decided", WHY[rule.name](known, policy)))
        else:
            said.append(Said(rule.name, rule.action, "not asked", ""))
    return tuple(said)


CALLS = {
    "pql": "it is a product-qualified lead and engaged",
    "hand_raised": "somebody there asked for a person",
    "expansion": "a paying customer outgrows its plan",
    "trigger": "it was watched, and a trigger event happened",
    "": "nothing calls for a person",
}
"""What a decision's `call` means, in words."""


def _holdout(known: Mapping[str, Any], policy: Policy) -> str:
    share = policy.routing.holdout_share
    return f"not in the control group of {share:.0%}" if share else "there is no control group"


def _converting(known: Mapping[str, Any], policy: Policy) -> str:
    state, at = known.get("checkout_state"), known.get("checkout_at")
    return f"its checkout is over: {state} {_day(at)}" if state not in (None, "none") else "no checkout in progress"


def _open_opportunity(known: Mapping[str, Any], policy: Policy) -> str:
    return "no open opportunity"


def _one_touch(known: Mapping[str, Any], policy: Policy) -> str:
    days = policy.handoff.silence_days
    if known["handoff"] is None:
        return f"never handed over, no touch in {days} days"
    return f"its last handoff has ended ({known['handoff']['state']}), no touch in {days} days"


def _cooldown(known: Mapping[str, Any], policy: Policy) -> str:
    past = known["handoff"]
    if past is None:
        return "never handed over"
    new = [r["signal"] for r in known["reasons"] if r["signal"] not in (past["signals"] or [])]
    since = f"its last handoff ended {_day(past['closed_at'])}"
    return f"{since}; new since: {', '.join(new[:2])}" if new else since


def _value_floor(known: Mapping[str, Any], policy: Policy) -> str:
    worth = f"worth ${known['potential_arr']:,.0f}"
    if known["value_band"] == "high":
        return f"{worth}, floor ${policy.value.floor:,.0f}"
    return f"{worth} is under the floor, but nothing calls for a person"


def _low_value(known: Mapping[str, Any], policy: Policy) -> str:
    if known["value_band"] == "high":
        return f"worth ${known['potential_arr']:,.0f}: high value"
    return f"not engaged: {_short_of(known, policy.routing.engaged)}"


def _high_value_quiet(known: Mapping[str, Any], policy: Policy) -> str:
    if known["call"]:
        return CALLS[known["call"]]
    if known["engagement_band"] == "high":
        return f"engaged: {_engaged(known, policy)}"
    return f"large: {known['employees']:g} employees"


def _medium(known: Mapping[str, Any], policy: Policy) -> str:
    if known["call"]:
        return CALLS[known["call"]]
    if known["tier"] != "medium":
        return f"its tier is {known['tier']}"
    if policy.routing.medium != "monitor":
        return "the policy watches nobody"
    failed = [gate for gate in ("icp", "activated") if not known[f"gate_{gate}"]]
    return f"gate not passed: {', '.join(failed)}"


def _called(known: Mapping[str, Any], policy: Policy) -> str:
    return CALLS[known["call"]]


def _queue(known: Mapping[str, Any], policy: Policy) -> str:
    return f"has not waited {policy.assignment.queue_hours} hours for a rep"


def _context(known: Mapping[str, Any], policy: Policy) -> str:
    return "all a rep must know is on its record"


def _room(known: Mapping[str, Any], policy: Policy) -> str:
    return f"{known['owner_email']} has room"


WHY_NOT: dict[str, Callable[[Mapping[str, Any], Policy], str]] = {
    "holdout": _holdout,
    "never interrupt": _converting,
    "open opportunity": _open_opportunity,
    "one touch": _one_touch,
    "cooldown": _cooldown,
    "value floor": _value_floor,
    "matrix: low value, engaged": _low_value,
    "matrix: low value, not engaged": lambda known, policy: f"worth ${known['potential_arr']:,.0f}: high value",
    "matrix: high value, not engaged": _high_value_quiet,
    "tier medium": _medium,
    "no PQL": _called,
    "queue expired": _queue,
    "never without context": _context,
    "capacity": _room,
}
"""For each rule but the last: why it did not apply to an account that a later one decided."""


def _in_progress(known: Mapping[str, Any], policy: Policy) -> str:
    return f"a checkout is in progress: {known['checkout_state']}, last step {_day(known['checkout_at'])}"


def _in_contact(known: Mapping[str, Any], policy: Policy) -> str:
    if "handoff" in _obstacles(known):
        return f"it is handed over already: {known['handoff']['state']}"
    return f"a rep was in contact {_figure(_obstacles(known)['recent_touch'])} days ago"


def _cooling(known: Mapping[str, Any], policy: Policy) -> str:
    since = f"its last handoff ended {_day(known['handoff']['closed_at'])} ({known['handoff']['state']})"
    return since if "cooldown" in _obstacles(known) else f"{since}, and nothing is new since"


def _under_floor(known: Mapping[str, Any], policy: Policy) -> str:
    return f"worth ${known['potential_arr']:,.0f}, under the floor of ${policy.value.floor:,.0f}"


def _low_hero(known: Mapping[str, Any], policy: Policy) -> str:
    return f"{_under_floor(known, policy)}, and engaged: {_engaged(known, policy)}"


def _low_quiet(known: Mapping[str, Any], policy: Policy) -> str:
    return f"{_under_floor(known, policy)}, and not engaged: {_short_of(known, policy.routing.engaged)}"


def _high_quiet(known: Mapping[str, Any], policy: Policy) -> str:
    return f"not engaged: {_short_of(known, policy.routing.engaged)}"


def _nothing_calls(known: Mapping[str, Any], policy: Policy) -> str:
    gates = [g for g in ("icp", "activated", "engagement", "intent") if not known[f"gate_{g}"]]
    closed = f"gate not passed: {', '.join(gates)}" if gates else "every gate passed"
    return f"nothing calls for a person: {closed}, {known['tier']} tier"


def _missing(known: Mapping[str, Any], policy: Policy) -> str:
    fields = [name.removeprefix(CONTEXT) for name in _obstacles(known) if name.startswith(CONTEXT)]
    return f"its record lacks {', '.join(fields)}"


def _no_room(known: Mapping[str, Any], policy: Policy) -> str:
    if known["owner_email"] is None:
        return "there is no rep who may take it"
    return f"{known['owner_email']} has no room, and the account waits its turn there"


WHY: dict[str, Callable[[Mapping[str, Any], Policy], str]] = {
    "holdout": lambda known, policy: f"in the control group of {policy.routing.holdout_share:.0%}",
    "never interrupt": _in_progress,
    "open opportunity": lambda known, policy: "a colleague has an open opportunity there",
    "one touch": _in_contact,
    "cooldown": _cooling,
    "value floor": _under_floor,
    "matrix: low value, engaged": _low_hero,
    "matrix: low value, not engaged": _low_quiet,
    "matrix: high value, not engaged": _high_quiet,
    "tier medium": lambda known, policy: "medium tier: watched until its next trigger event",
    "no PQL": _nothing_calls,
    "queue expired": lambda known, policy: f"waited {policy.assignment.queue_hours} hours for a rep: out of date",
    "never without context": _missing,
    "capacity": _no_room,
    "sales now": _called,
}
"""For each rule: why it applies to the account it decided."""


def _obstacles(known: Mapping[str, Any]) -> dict[str, float | None]:
    """What stands in the way, with the figure the account has."""
    return {o["obstacle"]: o["has"] for o in known["would_change"]}


def _engaged(known: Mapping[str, Any], policy: Policy) -> str:
    return ", ".join(f"{c.signal} {_figure(known[c.signal])}" for c in policy.routing.engaged)


def _short_of(known: Mapping[str, Any], conditions: list[Condition]) -> str:
    short = [c for c in conditions if known.get(c.signal) is None or known[c.signal] < c.at_least]
    return ", ".join(f"{c.signal} {_figure(known.get(c.signal))} of {c.at_least:g}" for c in short)


def _figure(value: Any) -> str:
    return "unknown" if value is None else f"{value:g}"


def _day(moment: str | None) -> str:
    return "at an unknown time" if moment is None else moment[:10]
