"""Why an account got its decision: every rule in order, the score and its reasons, what would change it, and what has
ended since the run before.

Everything is read from the run's stored files; the policy is the ledger's copy of the version that decided.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from onetouch.audit.ends import ended
from onetouch.audit.stored import of_run, table
from onetouch.catalogue import PERSONAL_COLUMNS
from onetouch.lake import Lake
from onetouch.ledger import PSEUDONYM, Ledger, Run
from onetouch.policy import Policy
from onetouch.routing import RULES, Known, rules_of, run_before, sentence

Verdict = Literal["did not apply", "decided", "not asked"]


@dataclass(frozen=True)
class Said:
    """Whether one rule applied to an account, and why. Rules after the deciding one have the verdict "not asked"."""

    rule: str
    action: str
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Explanation:
    """One decision with everything it was based on. `decision`, `signals`, `gates`: the stored rows as plain values,
    `signals` without PERSONAL_COLUMNS.

    `tier_score`: the part of the score that decides the tier. `before`: run_id, as_of, action, rule and score of the
    account's decision in the run before (None: there was none); `ended`: what has ended by the clock since (`ends`).
    """

    run_id: str
    decision: dict[str, Any]
    signals: dict[str, Any]
    gates: dict[str, bool]
    tier_score: float
    rules: tuple[Said, ...]
    would_change: tuple[str, ...]
    before: dict[str, Any] | None
    ended: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The explanation as JSON values."""
        return {
            "run_id": self.run_id,
            "decision": self.decision,
            "gates": self.gates,
            "tier_score": self.tier_score,
            "rules": [vars(said) for said in self.rules],
            "would_change": list(self.would_change),
            "before": self.before,
            "ended": list(self.ended),
            "signals": self.signals,
        }


def explain(lake: Lake, ledger: Ledger, run: Run, account: str) -> Explanation:
    """Explains the run's decision about an account, given by its id, name or domain.

    Raises ValueError when the run has no decision about the account, suggesting similar names, or when several accounts
    have the name or domain; FileNotFoundError when a file of the run is missing.
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
    signals = {column: value for column, value in signals.items() if column not in PERSONAL_COLUMNS}
    policy = ledger.policy(run.policy_version)
    handoff = _row(table(lake, "inputs", run.run_id, "handoffs.parquet", account_id=account_id))
    known = {**signals, **scored, **decision, "handoff": handoff}
    before, ends = _since(lake, ledger, run, known, policy)
    would_change = [sentence(o["obstacle"], o["has"], o["needs"], policy) for o in decision["would_change"]]
    return Explanation(
        run.run_id,
        decision,
        signals,
        {name.removeprefix("gate_"): bool(value) for name, value in scored.items() if name.startswith("gate_")},
        decision["score" if policy.scoring.firmographics == "combine" else "usage_score"],
        _rules(known, policy, would_change),
        tuple(would_change),
        before,
        ends,
    )


_BEFORE = ("action", "rule", "score", "tier")


def _since(
    lake: Lake, ledger: Ledger, run: Run, known: Known, policy: Policy
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The account's decision in the run before, and what has ended by the clock since; None, and nothing, without."""
    earlier = run_before(lake, ledger, run)
    if earlier is None:
        return None, ()
    rooms = [room for room in ("signals", "scores", "decisions") if lake.exists(room, f"{earlier.run_id}.parquet")]
    rows = [_row(of_run(lake, room, earlier.run_id, known["account_id"])) or {} for room in rooms]
    then = {name: value for row in rows for name, value in row.items()}
    if "action" not in then:
        return None, ()
    before = {"run_id": earlier.run_id, "as_of": then["as_of"], **{name: then.get(name) for name in _BEFORE}}
    return before, ended(then, known, policy, earlier.as_of, run.as_of)


def run_of(lake: Lake, ledger: Ledger, run_id: str | None = None, as_of: datetime | None = None) -> Run:
    """The run with that id; else the last run with this or an earlier `as_of`; else the run begun last.

    Only runs that have decisions are considered. Raises ValueError when there is none, NotInLedger for an unknown id,
    Pruned when the files of that run were deleted.
    """
    pruned = ledger.pruned_runs()

    def decided(run: Run) -> bool:
        if as_of is not None:  # an earlier run that is kept would be another answer
            ledger.require_run_files(run.run_id)
        return run.run_id not in pruned and lake.exists("decisions", f"{run.run_id}.parquet")

    if run_id is not None:
        run = ledger.run(run_id)
        ledger.require_run_files(run_id)
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
    """Decisions of a run, highest score first, as JSON values, with the account's name; owner_email is named `owner`.

    Raises ValueError for an action that no rule leads to.
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
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", date_format="iso", date_unit="s"))
    return rows


def _row(rows: pa.Table) -> dict[str, Any] | None:
    """The only row, as JSON values; None without one."""
    return plain(rows.to_pandas())[0] if rows.num_rows else None


def _id_of(lake: Lake, run: Run, account: str) -> str:
    """The id of the only account of that name or domain, in any case. Raises ValueError."""
    known = of_run(lake, "signals", run.run_id).select(["account_id", "name", "domain"]).to_pylist()
    wanted = account.strip().casefold()
    ids: list[str] = [
        row["account_id"] for row in known if wanted in {(row[k] or "").casefold() for k in ("name", "domain")}
    ]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise ValueError(f"account {account!r}: {len(ids)} are called so; give one's id: {', '.join(sorted(ids)[:5])}")
    near = difflib.get_close_matches(account, [row["account_id"] for row in known], n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`onetouch decisions` lists them"
    raise ValueError(f"account {account!r} is not in run {run.run_id}; {hint}")


def _rules(known: Known, policy: Policy, would_change: list[str]) -> tuple[Said, ...]:
    """The verdict of each rule of the policy. The stored decision names the deciding rule; no earlier rule applied."""
    rules = rules_of(policy)
    names = [rule.name for rule in rules]
    if known["rule"] not in names:  # a rule of an earlier release of this library
        return (Said(known["rule"], known["action"], "decided", " ".join(would_change[:1])),)
    fired = names.index(known["rule"])
    return (
        *(Said(rule.name, rule.action, "did not apply", rule.why_not(known, policy)) for rule in rules[:fired]),
        Said(rules[fired].name, rules[fired].action, "decided", rules[fired].why(known, policy)),
        *(Said(rule.name, rule.action, "not asked", "") for rule in rules[fired + 1 :]),
    )
