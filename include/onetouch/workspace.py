"""What every stage needs, opened once: policy, lake, ledger and the connections to the outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onetouch.connections import Connection, from_environment
from onetouch.lake import DEFAULT_ENGINE, ENGINES, Lake
from onetouch.ledger import Ledger
from onetouch.policy import Policy, read_policy
from onetouch.sources import check_sources


class NotConfigured(ValueError):
    """Something the run needs was not given. The message names it and how to give it."""


@dataclass(frozen=True)
class Workspace:
    """One installation: where its data lives and how it reaches the outside."""

    home: Path
    policy: Policy
    lake: Lake
    ledger: Ledger
    connection: Callable[[str], Connection | None]
    stop_switch: Callable[[], str | None] = lambda: None
    exports: Path | None = None
    accounts: Path | None = None
    sources: tuple[str, ...] | None = None
    shadow: Path | None = None

    def stopped(self) -> str | None:
        """Why nothing may be written outside now, by `onetouch stop` or by the scheduler's own switch; None: it may."""
        return self.ledger.stopped() or self.stop_switch()

    def required_connection(self, conn_id: str) -> Connection:
        """The connection, or NotConfigured naming the variable that would give it."""
        found = self.connection(conn_id)
        if found is None:
            raise NotConfigured(
                f"connection {conn_id} is not set; add it in Airflow, for the command line set "
                f"AIRFLOW_CONN_{conn_id.upper()}"
            )
        return found


def open_workspace(
    home: str | os.PathLike[str] | None = None,
    policy: str | os.PathLike[str] | None = None,
    *,
    connection: Callable[[str], Connection | None] | None = None,
    stop_switch: Callable[[], str | None] = lambda: None,
    exports: str | os.PathLike[str] | None = None,
    accounts: str | os.PathLike[str] | None = None,
    shadow: str | os.PathLike[str] | None = None,
    begin: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Workspace:
    """Opens the installation at `home`; what is not given comes from ONETOUCH_* variables.

    ONETOUCH_HOME (default .onetouch) holds lake and ledger; ONETOUCH_LAKE and ONETOUCH_LEDGER_URL move either
    elsewhere; ONETOUCH_ENGINE names the engine that computes (default duckdb); ONETOUCH_POLICY,
    ONETOUCH_SHADOW_POLICY, ONETOUCH_EXPORTS and ONETOUCH_ACCOUNTS name files. The scheduler's `stop_switch` is asked,
    beside the ledger, why nothing may be written outside. Brings the ledger's schema up to date. Raises PolicyError for
    a policy that cannot be used, and NotConfigured for an engine that is not known, or when nothing is there yet and
    `begin` is false.
    """

    def given(value: str | os.PathLike[str] | None, name: str) -> Path | None:
        text = os.fspath(value) if value is not None else environ.get(name, "")
        return Path(text) if text else None

    root = (given(home, "ONETOUCH_HOME") or Path(".onetouch")).absolute()
    elsewhere, file = environ.get("ONETOUCH_LEDGER_URL"), root / "ledger.db"
    if not (begin or elsewhere or file.exists()):
        raise NotConfigured(f"home: {root} holds no ledger; give another --home, or begin there with `onetouch run`")
    engine = environ.get("ONETOUCH_ENGINE") or DEFAULT_ENGINE
    if engine not in ENGINES:
        raise NotConfigured(f"ONETOUCH_ENGINE: {engine!r} is not known; give one of {', '.join(sorted(ENGINES))}")
    root.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(elsewhere or f"sqlite:///{file}")
    ledger.migrate()
    file_of_policy = given(policy, "ONETOUCH_POLICY")
    rules = read_policy(file_of_policy)
    check_sources(rules, file_of_policy or "policy")
    return Workspace(
        home=root,
        policy=rules,
        lake=Lake(environ.get("ONETOUCH_LAKE") or root / "lake", engine),
        ledger=ledger,
        connection=connection or partial(from_environment, environ=environ),
        stop_switch=stop_switch,
        exports=given(exports, "ONETOUCH_EXPORTS"),
        accounts=given(accounts, "ONETOUCH_ACCOUNTS"),
        shadow=given(shadow, "ONETOUCH_SHADOW_POLICY"),
    )
