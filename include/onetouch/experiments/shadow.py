"""Shadow mode: a second policy decides on the same inputs as the live one, without any effect.

Its decisions are stored as `shadow/{run_id}/{version}.parquet`; handoffs, outbox and the run itself do not change.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from onetouch.experiments.difference import Difference, beside, decisions, names, of_the_known
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, stored
from onetouch.routing import DECISION

ACCOUNTS_TOLD = 20
"""Maximum number of accounts named in the stage's summary; the file holds all of them."""


def shadow(lake: Lake, ledger: Ledger, other: Policy, run: Run) -> dict[str, Any]:
    """Writes what `other` would have decided in this run; returns the difference to the live decisions.

    Raises FileNotFoundError when the run has not decided yet.
    """
    difference = beside(lake, ledger, other, run)
    decided = difference.after.assign(inputs_ref=f"signals/{run.run_id}")
    table = pa.Table.from_pandas(decided[list(DECISION)], preserve_index=False)
    # The policy is stored with the decisions, because the ledger holds only policies of runs.
    lake.write(table.replace_schema_metadata({"policy": json.dumps(stored(other))}), *_place(run, other))
    told = difference.record(accounts=ACCOUNTS_TOLD)
    for change in told["changes"]:  # the summary goes to log and XCom, where ids are enough
        del change["name"]
    return {"policy": other.name, "version": other.version} | told


def read_shadow(lake: Lake, ledger: Ledger, run: Run) -> Difference:
    """The difference between the run's decisions and those of its shadow. Raises ValueError without a shadow."""
    ledger.require_run_files(run.run_id)
    said = ledger.stage_summary(run.run_id, "shadow") or {}
    if "version" not in said:
        raise ValueError(
            f"run {run.run_id} had no shadow policy; give ONETOUCH_SHADOW_POLICY or `onetouch run --shadow FILE`"
        )
    version = said["version"]
    after = of_the_known(lake.read("shadow", run.run_id, f"{version}.parquet"))
    versions = run.policy_version, version
    return Difference(
        run.run_id, versions, decisions(lake, run), after, names(lake, run), said["signals_computed_anew"]
    )


def _place(run: Run, policy: Policy) -> tuple[str, str, str]:
    return "shadow", run.run_id, f"{policy.version}.parquet"
