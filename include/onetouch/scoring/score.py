"""Turns a scorer's points into scores, tiers and reasons, computed on whole columns."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from onetouch.catalogue import FIRMOGRAPHIC_SIGNALS
from onetouch.columns import Numbers, number, places, words
from onetouch.events import by_todays_ids
from onetouch.lake import Lake, read_table
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.scoring.artefacts import keep_artefact
from onetouch.scoring.gates import GATES, gates
from onetouch.scoring.scorers import scorer_named, scorer_of
from onetouch.scoring.scorers.protocol import TENTHS, Artefact, Earned, Tenths

REASONS = pa.list_(pa.struct([("signal", pa.string()), ("value", pa.float64()), ("points", pa.float64())]))
"""Type of `reasons`: the signals that earned points, most points first, then in the scorer's order."""

EARLIER = ("account_id", "score")
"""Columns of `inputs/{run_id}/earlier.parquet`: the earlier scores that the run's scores are compared with."""

ROWS = 65_536
"""Accounts scored in one batch; the memory of a batch is reused for the next."""

TREND_SHARE, TREND_POINTS = 10, 1
"""A score is rising or falling if it differs from the earlier score by at least a tenth of it and one point (ours)."""


def score(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, object]:
    """Writes `scores/{run_id}.parquet` from the run's signals; returns `scored`, `tiers` {tier: n}, `pql`.

    The earlier scores are stored as `inputs/{run_id}/earlier.parquet`, and the id of the scorer's artefact as
    `inputs/{run_id}/artefact.parquet`, so that a replay uses the same ones.
    """
    artefact = scorer_of(policy).artefact(policy, lake)
    keep_artefact(lake, run.run_id, artefact)
    wanted = _needed(policy, artefact)
    signals = read_table(lake, "signals", f"{run.run_id}.parquet", columns=wanted).to_pandas()
    earlier = by_todays_ids(_earlier(lake, ledger, policy, run), signals["account_id"])
    lake.write(earlier, "inputs", run.run_id, "earlier.parquet")
    scores = score_frame(signals, policy, run.as_of, earlier, artefact)
    # Pandas' own metadata is dropped, because it cannot describe a list of structs.
    table = pa.Table.from_pandas(scores, preserve_index=False).replace_schema_metadata()
    lake.write(table, "scores", f"{run.run_id}.parquet")
    tiers = scores["tier"].value_counts()
    return {
        "scored": len(scores),
        "tiers": {tier: int(tiers.get(tier, 0)) for tier in ("high", "medium", "low")},
        "pql": int(scores["pql"].sum()),
    }


def score_frame(
    signals: pd.DataFrame,
    policy: Policy,
    as_of: datetime,
    earlier: pd.DataFrame | None = None,
    artefact: Artefact | None = None,
) -> pd.DataFrame:
    """One row per account of `signals`, in its order; `as_of` is the moment from which the age of points is counted.

    Columns: account_id · score (points) · usage_score (points without those of FIRMOGRAPHIC_SIGNALS) · tier · the gates
    · pql · reasons (Arrow list of structs, REASONS; their points add up to the score) · score_before · score_trend
    (rising, steady or falling compared with `earlier`, a frame of account_id and score; null for an account that is not
    in it). Points are multiples of 0.1 and never negative.

    `artefact`: what the points are computed from, with its scorer (None: the artefact that the policy defines, which
    must not need a lake).

    `signals` needs account_id, account_basis, domain, employees, industry, every signal that the policy's gates name,
    and the columns the scorer reads. Raises ValueError naming a missing column.
    """
    artefact = artefact or scorer_of(policy).artefact(policy, None)
    missing = [name for name in _needed(policy, artefact) if name not in signals]
    if missing:
        raise ValueError(f"signals: no column {', '.join(missing)}; build the run's signals again")
    parts = [_points(signals.iloc[at : at + ROWS], as_of, artefact) for at in range(0, max(len(signals), 1), ROWS)]
    total = np.concatenate([part.tenths for part in parts])
    of_usage = np.concatenate([part.of_usage for part in parts])
    reasons = pd.arrays.ArrowExtensionArray(pa.chunked_array([part.reasons for part in parts]))
    counted = (total if policy.scoring.firmographics == "combine" else of_usage) / TENTHS
    high, medium = counted >= policy.scoring.tiers.high, counted >= policy.scoring.tiers.medium
    passed = gates(signals, policy)
    before = _before(signals["account_id"], earlier)
    return pd.DataFrame(
        {
            "account_id": signals["account_id"],
            "score": total / TENTHS,
            "usage_score": of_usage / TENTHS,
            "tier": words(np.select([high, medium], [0, 1], 2), ["high", "medium", "low"]).set_axis(signals.index),
            **{gate: passed[gate] for gate in GATES},
            "pql": passed.all(axis=1) & high,
            "reasons": pd.Series(reasons, index=signals.index),
            "score_before": before,
            "score_trend": _trend(total, before).set_axis(signals.index),
        }
    )


class _Points(NamedTuple):
    """The points of some accounts: in total, from usage signals alone, and by signal."""

    tenths: Tenths
    of_usage: Tenths
    reasons: pa.ListArray


def _points(signals: pd.DataFrame, as_of: datetime, artefact: Artefact) -> _Points:
    earned = scorer_named(artefact.scorer).earned(signals, as_of, artefact)
    usage = [signal not in FIRMOGRAPHIC_SIGNALS for signal in earned.signals]
    return _Points(earned.tenths.sum(axis=1), earned.tenths[:, usage].sum(axis=1), _reasons(earned))


def _before(account_ids: pd.Series, earlier: pd.DataFrame | None) -> Numbers:
    """The earlier score of each account, NaN where there is none."""
    if earlier is None or earlier.empty:
        return np.full(len(account_ids), np.nan)
    place = places(account_ids, earlier["account_id"])
    return np.where(place < 0, np.nan, number(earlier, "score")[place])


def _trend(tenths: Tenths, before: Numbers) -> pd.Series:
    """rising, steady or falling; null where there is no earlier score."""
    known = ~np.isnan(before)
    then = np.rint(np.where(known, before, 0.0) * TENTHS).astype(np.int64)
    change = tenths - then
    moved = (np.abs(change) * TREND_SHARE >= then) & (np.abs(change) >= TREND_POINTS * TENTHS)
    place = np.where(moved, np.sign(change), 0) + 1
    return words(np.where(known, place, -1), ["falling", "steady", "rising"])


def _reasons(by_signal: Earned) -> pa.ListArray:
    """The points of each account as a list of structs, computed on whole columns."""
    names, values, tenths = by_signal
    # Points and the scorer's order are combined into one sort key, which is far faster than sorting by two keys.
    keys = np.sort(-tenths * len(names) + np.arange(len(names)), axis=1)
    earned = keys < 0
    row, key = np.nonzero(earned)[0], keys[earned]
    place = key % len(names)
    signal = pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32)), pa.array(list(names), pa.string()))
    reason = pa.StructArray.from_arrays(
        [
            signal.dictionary_decode(),
            pa.array(values[row, place]),
            pa.array((place - key) // len(names) / TENTHS),
        ],
        fields=list(REASONS.value_type),
    )
    offsets = np.concatenate([[0], np.cumsum(earned.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), reason)


def _earlier(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> pd.DataFrame:
    """account_id and score of the latest run that is at least `trend_days` older and has the same `scoring` section.

    Empty if there is none. Scores under another `scoring` section are not comparable: a change of policy is no trend.
    """
    until = run.as_of - timedelta(days=policy.scoring.trend_days)
    comparable: dict[
        str, bool
    ] = {}  # version → whether it scores alike; a change of points leaves many runs that do not
    for other in reversed(ledger.runs()):
        if other.as_of > until:
            continue
        version = other.policy_version
        if version not in comparable:
            comparable[version] = ledger.policy(version).scoring == policy.scoring
        if comparable[version] and lake.exists("scores", f"{other.run_id}.parquet"):
            earlier: pd.DataFrame = read_table(lake, "scores", f"{other.run_id}.parquet", columns=EARLIER).to_pandas()
            return earlier
    return pd.DataFrame({"account_id": pd.Series(dtype="str"), "score": pd.Series(dtype="float64")})


def _needed(policy: Policy, artefact: Artefact) -> list[str]:
    """Every column that the gates and the scorer read, each once."""
    gated = sorted({"activated", *(c.signal for c in (*policy.gates.engagement, *policy.gates.intent))})
    scored = scorer_named(artefact.scorer).columns(artefact)
    return list(dict.fromkeys(["account_id", "account_basis", "domain", "employees", "industry", *gated, *scored]))
