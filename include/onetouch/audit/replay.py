"""Exact replay: a past decision made again from its stored inputs and the policy it was made under.

Nothing of the present is asked: signals, the scores compared with, and what ledger and CRM said are files of the run;
the policy is the ledger's copy of the version that decided. Scores are computed anew, and compared like the decisions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.audit.stored import earlier, of_run
from onetouch.lake import Lake
from onetouch.ledger import PSEUDONYM, Ledger
from onetouch.routing import DECISION, decide
from onetouch.routing.inputs import kept
from onetouch.scoring import kept_artefact, score_frame

DIFFERENCES = ("decision_id", "account_id", "column", "stored", "again")
"""Columns of what `replay` returns; `stored` and `again` are canonical JSON, null for a row that is not there."""


@dataclass(frozen=True)
class Found:
    """Where a decision is kept."""

    run_id: str
    decision_id: str
    account_id: str


def find(lake: Lake, decision_id: str) -> Found:
    """The latest run that made this decision. Raises ValueError when none did."""
    files = lake.list("decisions")
    if files:
        with lake.engine() as con:
            rows = con.execute(
                """
                SELECT parse_filename(filename, true) AS run_id, account_id
                FROM read_parquet($files, filename = true, union_by_name = true)
                WHERE decision_id = $decision ORDER BY as_of DESC, run_id DESC LIMIT 1
                """,
                {"files": files, "decision": decision_id},
            ).fetchall()
        if rows:
            return Found(rows[0][0], decision_id, rows[0][1])
    raise ValueError(f"decision {decision_id}: no run of this lake made it; `onetouch decisions --json` lists ids")


def replay(lake: Lake, ledger: Ledger, run_id: str, decision_ids: Collection[str] | None = None) -> pd.DataFrame:
    """What differs between a run's stored decisions (None: all) and the same ones made again: DIFFERENCES.

    Empty when every column of every decision, and of its score, is the same in canonical JSON. Decisions on accounts
    that were forgotten (`forgotten_in`) are left out: what they were made from is erased. Raises FileNotFoundError
    naming the input that is gone, NotInLedger for an unknown run, ValueError for a decision that is not of the run,
    or of a forgotten account.
    """
    run = ledger.run(run_id)
    policy = ledger.policy(run.policy_version)
    stored = of_run(lake, "decisions", run_id)
    ids = stored["decision_id"]
    if decision_ids is not None:
        chosen = pc.is_in(ids, pa.array(list(decision_ids), pa.string()))
        if missing := sorted(set(decision_ids) - set(ids.filter(chosen).to_pylist())):
            raise ValueError(f"decision {missing[0]}: not of run {run_id}; `onetouch replay {missing[0]}` looks for it")
        stored = stored.filter(chosen)
        if (erased := _forgotten(stored)).num_rows:
            raise ValueError(
                f"decision {erased['decision_id'][0]}: is about an account that was forgotten; what it was made from "
                "is erased, so it can't be made again"
            )
    stored = stored.filter(pc.invert(pc.starts_with(stored["account_id"], PSEUDONYM)))
    inputs = kept(lake, run_id)
    artefact = kept_artefact(lake, run_id, policy)
    scores = score_frame(inputs.signals, policy, run.as_of, earlier(lake, run_id), artefact)
    decisions = decide(replace(inputs, scores=scores), policy, run.as_of)
    decisions["inputs_ref"] = f"signals/{run_id}"
    again = pa.Table.from_pandas(decisions[list(DECISION)], preserve_index=False)
    scored = of_run(lake, "scores", run_id)
    scored = scored.filter(pc.invert(pc.starts_with(scored["account_id"], PSEUDONYM)))
    scored_again = pa.Table.from_pandas(scores, preserve_index=False)
    if decision_ids is not None:
        again, scored, scored_again = (_about(stored, rows) for rows in (again, scored, scored_again))
    found = [_differences(lake, stored, again), _differences(lake, scored, scored_again, "score: ")]
    different = pd.concat(found, ignore_index=True)
    of_account = dict(zip(stored["account_id"].to_pylist(), stored["decision_id"].to_pylist(), strict=True))
    different.insert(0, "decision_id", different["account_id"].map(of_account).astype("str"))
    return different[list(DIFFERENCES)]


def forgotten_in(lake: Lake, run_id: str) -> int:
    """How many decisions of the run are about accounts that were forgotten since.

    Where such an account had taken a rep's room, another's decision may come out otherwise without it.
    """
    rows: int = _forgotten(of_run(lake, "decisions", run_id)).num_rows
    return rows


def _forgotten(decisions: pa.Table) -> pa.Table:
    return decisions.filter(pc.starts_with(decisions["account_id"], PSEUDONYM))


def _about(chosen: pa.Table, rows: pa.Table) -> pa.Table:
    """The rows of the accounts of `chosen`."""
    return rows.filter(pc.is_in(rows["account_id"], chosen["account_id"].combine_chunks()))


def _differences(lake: Lake, stored: pa.Table, again: pa.Table, prefix: str = "") -> pd.DataFrame:
    """account_id, column, stored, again: one row a value that is not the same, as canonical JSON."""
    columns = list(dict.fromkeys([*stored.column_names, *again.column_names]))
    with lake.engine() as con:
        for name, table in (("stored", stored), ("again", again)):
            lacking = {c: pa.nulls(table.num_rows) for c in columns if c not in table.column_names}
            for column, nulls in lacking.items():
                table = table.append_column(column, nulls)
            con.register(f"{name}_rows", table.replace_schema_metadata())
            texts = ", ".join(f'to_json("{column}")::VARCHAR AS "{column}"' for column in columns)
            con.execute(f"CREATE TEMP TABLE {name} AS SELECT account_id AS account, {texts} FROM {name}_rows")
        parts = [
            f"""SELECT coalesce(s.account, a.account) AS account_id, {_literal(prefix + column)} AS "column",
                s."{column}" AS stored, a."{column}" AS again
            FROM stored s FULL JOIN again a ON s.account = a.account
            WHERE s."{column}" IS DISTINCT FROM a."{column}" """
            for column in columns
        ]
        return con.execute(f"{' UNION ALL '.join(parts)} ORDER BY ALL").df().astype("str")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
