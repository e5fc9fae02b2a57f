"""Which rep got which task in a run, and why, from the run's stored files and the policy it was made under."""

from __future__ import annotations

import pandas as pd

from onetouch.audit.stored import of_run
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.routing import assignments, kept, team


def assigned(lake: Lake, ledger: Ledger, run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reps and the tasks of the run, as `routing.assignment.assignments` returns them.

    Raises FileNotFoundError when a file of the run is missing.
    """
    ledger.require_run_files(run.run_id)
    inputs, policy = kept(lake, run.run_id), ledger.policy(run.policy_version)
    people = team(inputs.signals, inputs.reps, policy, run.as_of)
    return assignments(of_run(lake, "decisions", run.run_id).to_pandas(), inputs.rep_load, people)
