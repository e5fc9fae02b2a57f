"""Signals, scores and the ledger's memory → one decision an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.lake import Lake
from onetouch.ledger import ACTIVE, TERMINAL, Ledger, Run
from onetouch.policy import Policy
from onetouch.routing.assignment import assign, team
from onetouch.routing.motion import motion
from onetouch.routing.rules import RULES, first_match
from onetouch.routing.timing import contact_at, due_at
from onetouch.routing.value import potential_arr
from onetouch.scoring.gates import holds, number

DECISION: tuple[str, ...] = (
    "decision_id", "account_id", "crm_account_id", "as_of", "policy_version", "score", "tier", "pql", "reasons",
    "value_band", "engagement_band", "motion", "potential_arr", "action", "rule", "would_change", "owner_email",
    "owner_id", "due_at", "contact_at", "inputs_ref",
)  # fmt: skip
"""Columns of `decisions/{run_id}.parquet`."""

REPS = ("owner_id", "email", "name", "active", "timezone")
HOLDOUT_KEY = "onetouch-holdout"  # 16 characters, as the hash asks; another one would draw another control group
CAPACITY = next(place for place, rule in enumerate(RULES) if rule.action == "hold_capacity")
COOLING = ("released", "expired", "lost", "withdrawn")


def route(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, object]:
    """Writes `decisions/{run_id}.parquet` from the run's signals and scores and the ledger as of its `as_of`.

    What the ledger and the CRM said is kept beside it (`inputs/{run_id}/…`): a decision can be made again from
    files alone. Returns `accounts` and `decisions` {action: n}.
    """
    signals = _read(lake, "signals", f"{run.run_id}.parquet")
    scores = _read(lake, "scores", f"{run.run_id}.parquet")
    crm_reps = ("crm", run.run_id, "reps.parquet")
    silence = timedelta(days=policy.handoff.silence_days)
    inputs = {
        "handoffs": ledger.handoff_frame(run.as_of),
        "rep_load": ledger.rep_load(run.as_of),
        "reps": lake.read(*crm_reps) if lake.exists(*crm_reps) else pd.DataFrame(columns=list(REPS)),
        "touches": ledger.touches(since=run.as_of - silence, as_of=run.as_of),
    }
    for name, frame in inputs.items():
        lake.write(frame, "inputs", run.run_id, f"{name}.parquet")
    decisions = decide(signals, scores, policy=policy, as_of=run.as_of, **inputs)
    decisions["inputs_ref"] = f"signals/{run.run_id}"
    table = pa.Table.from_pandas(decisions[list(DECISION)], preserve_index=False).replace_schema_metadata()
    lake.write(table, "decisions", f"{run.run_id}.parquet")
    actions = decisions["action"].value_counts()
    return {"accounts": len(decisions), "decisions": {str(k): int(v) for k, v in sorted(actions.items())}}


def decide(
    signals: pd.DataFrame,
    scores: pd.DataFrame,
    handoffs: pd.DataFrame,
    rep_load: pd.DataFrame,
    reps: pd.DataFrame,
    touches: pd.DataFrame,
    policy: Policy,
    as_of: datetime,
) -> pd.DataFrame:
    """One decision an account, in the order of account_id; the columns of DECISION (inputs_ref empty).

    `signals`, `scores`: one row an account, the same accounts; `handoffs`, `rep_load`, `touches` as the ledger gives
    them as of `as_of`; `reps`: owner_id, email, active. The order of the rows given changes nothing.
    Raises ValueError when the accounts of signals and scores differ or one of them occurs twice.
    """
    signals = signals.sort_values("account_id", ignore_index=True)
    scores = scores.sort_values("account_id", ignore_index=True)
    if signals["account_id"].duplicated().any() or not signals["account_id"].equals(scores["account_id"]):
        raise ValueError("signals and scores must hold the same accounts, each once")
    memory = _memory(signals, handoffs, touches)
    known = facts(signals, scores, memory, policy, as_of)

    # Who passes every rule before the one on capacity is offered to the reps.
    candidates = known[first_match(known, policy, RULES[:CAPACITY]) == CAPACITY]
    given = assign(candidates, team(signals, reps, policy), rep_load, policy).reindex(known.index)
    known["rep_email"], known["rep_id"] = given["owner_email"], given["owner_id"]
    known["covered"] = given["covered"].eq(True)

    place = first_match(known, policy)
    would_change = pd.Series("", index=known.index, dtype="str")
    for at, rule in enumerate(RULES):
        rows = place == at
        if rows.any():
            would_change[rows] = rule.would_change(known[rows], policy)
    sent = pd.Series(place == len(RULES) - 1, index=known.index)
    due = due_at(known["tier"], policy, as_of).where(sent)
    contact = pd.Series(pd.NaT, index=known.index, dtype="datetime64[us, UTC]")
    contact[sent] = contact_at(signals[sent], due[sent], as_of)
    return pd.DataFrame(
        {
            "decision_id": _ids(signals, scores, memory, policy, as_of),
            "account_id": signals["account_id"],
            "crm_account_id": signals["crm_account_id"].astype("str"),
            "as_of": pd.Series(pd.Timestamp(as_of), index=known.index).astype("datetime64[us, UTC]"),
            "policy_version": policy.version,
            "score": known["score"],
            "tier": known["tier"],
            "pql": known["pql"],
            "reasons": scores["reasons"],
            "value_band": np.where(known["high_value"], "high", "low"),
            "engagement_band": np.where(known["engaged"], "high", "low"),
            "motion": motion(signals, known["potential_arr"].to_numpy(), policy),
            "potential_arr": known["potential_arr"],
            "action": np.array([rule.action for rule in RULES])[place],
            "rule": np.array([rule.name for rule in RULES])[place],
            "would_change": would_change,
            "owner_email": known["rep_email"].where(sent).astype("str"),
            "owner_id": known["rep_id"].where(sent).astype("str"),
            "due_at": due,
            "contact_at": contact,
            "inputs_ref": "",
        }
    )


def facts(
    signals: pd.DataFrame, scores: pd.DataFrame, memory: pd.DataFrame, policy: Policy, as_of: datetime
) -> pd.DataFrame:
    """What the rules look at: the signals, the score and its gates, and one bool column for each word of the rules."""
    routing, start = policy.routing, pd.Timestamp(as_of)
    potential = potential_arr(signals, policy.value)
    closed = memory["state"].isin(TERMINAL)
    since = start - pd.Timedelta(days=routing.cooldown_days)
    quiet = start - pd.Timedelta(days=policy.handoff.silence_days)
    more = {
        "holdout": _share(signals["account_id"]) < routing.holdout_share,
        "converting": signals["checkout_state"].isin(["started", "stalled"]),
        "open_opportunity": signals["open_opportunities"].fillna(0) > 0,
        "handed_over": memory["state"].isin(ACTIVE),
        "touched": memory["touched_at"] > quiet,
        "cooling": memory["state"].isin(COOLING) & (memory["closed_at"] > since),
        "nothing_new": closed & ~_something_new(scores, memory, closed),
        "hand_raised": number(signals, "demo_requests_28d") > 0,
        "potential_arr": potential,
        "high_value": potential >= policy.value.floor,
        "engaged": np.logical_and.reduce([holds(signals, c) for c in routing.engaged]),
        "missing_context": _missing(signals, policy.handoff.required_context),
    }
    own = scores.drop(columns=["account_id", "reasons"])
    return pd.concat([signals, own, pd.DataFrame(more, index=signals.index)], axis=1)


def _memory(signals: pd.DataFrame, handoffs: pd.DataFrame, touches: pd.DataFrame) -> pd.DataFrame:
    """What was done to each account before: its latest handoff (state, closed_at, signals), its last touch."""
    accounts, of_crm = signals["account_id"], signals[["account_id", "crm_account_id"]].dropna()
    # A touch read before CRM and product were joined is kept under the CRM's name of the account.
    joined = dict(zip("crm:" + of_crm["crm_account_id"], of_crm["account_id"], strict=True))
    touches = touches.assign(account_id=touches["account_id"].replace(joined))
    last = touches.dropna(subset=["account_id"]).groupby("account_id")["at"].max()
    handoff = handoffs.set_index("account_id")[["handoff_id", "state", "closed_at", "signals"]]
    memory = handoff.reindex(accounts).reset_index(drop=True)
    memory["closed_at"] = pd.to_datetime(memory["closed_at"], utc=True).astype("datetime64[us, UTC]")
    memory["touched_at"] = pd.to_datetime(last.reindex(accounts).to_numpy(), utc=True).astype("datetime64[us, UTC]")
    return memory


def _something_new(scores: pd.DataFrame, memory: pd.DataFrame, closed: pd.Series) -> pd.Series:
    """Whether a signal earns points now that did not at the handoff; looked at where `closed`, else false."""
    pairs = zip(scores.loc[closed, "reasons"], memory.loc[closed, "signals"], strict=True)  # only of past handoffs
    found = [any(reason["signal"] not in set(then) for reason in now) for now, then in pairs]
    return pd.Series(found, index=scores.index[closed], dtype=bool).reindex(scores.index, fill_value=False)


def _missing(signals: pd.DataFrame, required: list[str]) -> pd.Series:
    """Names of the required fields each account does not have, separated by commas; empty when complete."""
    text = pd.Series("", index=signals.index, dtype="str")
    for field in required:
        if field not in signals:
            raise ValueError(f"handoff.required_context: {field}: no such column of signals")
        absent = signals[field].isna()
        if pd.api.types.is_string_dtype(signals[field].dtype):
            absent |= signals[field].eq("")
        text[absent] = text[absent] + ", " + field
    return text.str.removeprefix(", ")


def _share(account_ids: pd.Series) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each account, for ever the same: the control group is those under the policy's share."""
    hashes = pd.util.hash_array(account_ids.to_numpy(dtype=object), hash_key=HOLDOUT_KEY, categorize=False)
    return hashes / 2.0**64


def _ids(
    signals: pd.DataFrame, scores: pd.DataFrame, memory: pd.DataFrame, policy: Policy, as_of: datetime
) -> pd.Series:
    """First 24 hex digits of the SHA-256 of account, as_of, policy version and all the account's inputs as JSON."""
    inputs = pd.concat([signals, scores.drop(columns="account_id"), memory.add_prefix("memory_")], axis=1).sort_index(
        axis=1
    )
    table = pa.Table.from_pandas(inputs, preserve_index=False)
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("inputs", table)
        start = as_of.astimezone(UTC).isoformat()
        hashed = con.execute(
            "SELECT left(sha256(concat_ws(chr(10), account_id, ?, ?, to_json(inputs))), 24) AS id FROM inputs",
            [start, policy.version],
        ).df()
    return hashed["id"]


def _read(lake: Lake, *parts: str) -> pd.DataFrame:
    """A table of the lake as a frame that keeps lists in Arrow: a million lists of objects would not fit."""
    with lake.fs.open(lake.path(*parts), "rb") as file:
        table = pq.read_table(file)
    return table.to_pandas(types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_list(kind) else None)
