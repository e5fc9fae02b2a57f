"""The artefact a run was scored with: its id is stored with the run's inputs, its content once in the lake."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from onetouch.lake import Lake, read_table
from onetouch.policy import Policy
from onetouch.scoring.scorers import scorer_of
from onetouch.scoring.scorers.protocol import Artefact

ROOM = "artefacts"
"""`artefacts/{id}.parquet`, one row: scorer, content (bytes)."""


def keep_artefact(lake: Lake, run_id: str, artefact: Artefact) -> None:
    """Writes the artefact unless the lake has it, and `inputs/{run_id}/artefact.parquet` (scorer, artefact_id)."""
    if not lake.exists(ROOM, f"{artefact.id}.parquet"):
        content = {"scorer": [artefact.scorer], "content": pa.array([artefact.content], pa.binary())}
        lake.write(pa.table(content), ROOM, f"{artefact.id}.parquet")
    named = {"scorer": [artefact.scorer], "artefact_id": [artefact.id]}
    lake.write(pa.table(named), "inputs", run_id, "artefact.parquet")


def kept_artefact(lake: Lake, run_id: str, policy: Policy) -> Artefact:
    """The artefact that the run was scored with; `policy`: the policy of the run.

    For a run of a release that did not store artefacts yet, it is derived from the policy. Raises FileNotFoundError
    naming a file that is missing, ValueError for a file whose content does not match its id.
    """
    if not lake.exists("inputs", run_id, "artefact.parquet"):
        return scorer_of(policy).artefact(policy, lake)
    [named] = _rows(lake, "inputs", run_id, "artefact.parquet")
    name = f"{named['artefact_id']}.parquet"
    if not lake.exists(ROOM, name):
        raise FileNotFoundError(f"{ROOM}/{name}: is gone from the lake; restore it")
    [found] = _rows(lake, ROOM, name)
    artefact = Artefact(found["scorer"], found["content"])
    if artefact.id != named["artefact_id"]:
        raise ValueError(f"{ROOM}/{name}: its content is that of {artefact.id}; restore the file")
    return artefact


def _rows(lake: Lake, *parts: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(lake, *parts).to_pylist()
    return rows
