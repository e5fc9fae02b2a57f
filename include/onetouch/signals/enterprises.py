"""The list of enterprises: domains in the policy (`signals.enterprise_domains`), and in a file (`enterprise_file`).

A run keeps what it has read of the file, so that its signals can be computed again later.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from onetouch.lake import Lake
from onetouch.ledger import Run
from onetouch.policy import Policy, PolicyError, entries_in, host_of, is_host

_KEY = "signals.enterprise_file"


def read_enterprises(folder: Path | None, policy: Policy) -> list[str]:
    """The domains in the policy's file, in its order; empty when it names none.

    `folder`: that of the policy's file (None: the working directory). Raises PolicyError when the file cannot be read
    as text, or a line holds something else than a domain: no company is left out by a slip of the pen.
    """
    name = policy.signals.enterprise_file
    if name is None:
        return []
    path = (folder or Path()) / name
    domains = []
    for entry in entries_in(path, _KEY):
        host = host_of(entry.entry)
        if "@" in entry.entry[1:] or not is_host(host):
            raise PolicyError(
                f"{_KEY}: {path}: line {entry.line}: {entry.entry!r} is no domain; give one like acme.example, or "
                "remove it"
            )
        domains.append(host)
    return list(dict.fromkeys(domains))


def keep_enterprises(lake: Lake, run: Run, domains: list[str]) -> None:
    """Keeps what a run has read of the file."""
    lake.write(pd.DataFrame({"domain": pd.Series(domains, dtype="str")}), *_place(run))


def with_enterprises(lake: Lake, policy: Policy, run: Run) -> Policy:
    """The policy with the domains that the run has read of the file, if the policy names one."""
    if policy.signals.enterprise_file is None or not lake.exists(*_place(run)):
        return policy
    both = [*policy.signals.enterprise_domains, *lake.read(*_place(run))["domain"]]
    return policy.changed(signals__enterprise_domains=both)


def _place(run: Run) -> tuple[str, str, str]:
    return "inputs", run.run_id, "enterprises.parquet"
