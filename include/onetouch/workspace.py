"""What every stage needs, opened once: policy, lake, ledger and the connections to other systems."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from onetouch import chat, consent, crm, lake, retention, routing, scoring, signals, sources
from onetouch.connections import Connection, from_environment
from onetouch.policy import Policy, preset_document, read_policy

if TYPE_CHECKING:
    from onetouch.lake import Lake
    from onetouch.ledger import Ledger


class NotConfigured(ValueError):
    """A setting that the run needs is missing or invalid. The message names the setting and the fix."""


@dataclass(frozen=True)
class Workspace:
    """One installation: where its data is stored and how it connects to other systems."""

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
    beside: Path | None = None
    """The folder of the policy's file, where the files that it names are."""

    def stopped(self) -> str | None:
        """Why nothing may be written outside now (`onetouch stop`, or the scheduler's switch); None: it is allowed."""
        return self.ledger.stopped() or self.stop_switch()

    def required_connection(self, conn_id: str) -> Connection:
        """The connection. Raises NotConfigured, naming the variable to set, if there is none."""
        found = self.connection(conn_id)
        if found is None:
            raise NotConfigured(
                f"connection {conn_id} is not set; add it in Airflow, for the command line set "
                f"AIRFLOW_CONN_{conn_id.upper()}"
            )
        return found


def usable_policy(file: Path | str | None) -> Policy:
    """The policy of the file (None: the default); its sources, scorer, rules, CRM and chat must be registered ones, its
    lists of enterprises and of whom never to contact readable, and its retention must keep what it reads.

    Raises PolicyError, with a line for each error.
    """
    policy = read_policy(file)
    sources.check_sources(policy, file or "policy")
    scoring.check_scorer(policy, file or "policy")
    crm.check_system(policy, file or "policy")
    chat.check_chat(policy, file or "policy")
    # Importing the rules takes a second, so they are imported only where the policy has other ones than the default.
    if policy.routing.rules != preset_document()["routing"]["rules"]:
        routing.rules_of(policy, where=str(file) if file else None)
    folder = Path(file).parent if file else None
    consent.read_listed(folder, policy)
    if policy.signals.enterprise_file is not None:
        signals.read_enterprises(folder, policy)
    if any(days is not None for _, days in policy.retention):
        retention.check_retention(policy, file or "policy")
    return policy


def home_of(home: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of an installation: the one given, else ONETOUCH_HOME, else .onetouch in the working directory."""
    return Path(home or environ.get("ONETOUCH_HOME") or ".onetouch").absolute()


def open_ledger(
    home: str | os.PathLike[str] | None = None, *, begin: bool = True, environ: Mapping[str, str] = os.environ
) -> Ledger:
    """The ledger of the installation at `home`, its schema brought up to date; ONETOUCH_LEDGER_URL moves it elsewhere.

    Raises NotConfigured when there is no ledger yet and `begin` is false.
    """
    from onetouch.ledger import Ledger  # checking a policy needs no database library

    root = home_of(home, environ=environ)
    elsewhere, file = environ.get("ONETOUCH_LEDGER_URL"), root / "ledger.db"
    if not (begin or elsewhere or file.exists()):
        raise NotConfigured(f"home: {root} holds no ledger; give another --home, or begin there with `onetouch run`")
    root.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(elsewhere or f"sqlite:///{file}")
    ledger.migrate()
    return ledger


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
    """Opens the installation at `home`; arguments not given come from ONETOUCH_* variables.

    ONETOUCH_HOME (default .onetouch) holds lake and ledger; ONETOUCH_LAKE and ONETOUCH_LEDGER_URL move either
    elsewhere; ONETOUCH_ENGINE names the engine that computes (default duckdb); ONETOUCH_POLICY,
    ONETOUCH_SHADOW_POLICY, ONETOUCH_EXPORTS and ONETOUCH_ACCOUNTS name files. The scheduler's `stop_switch` is called,
    besides the ledger, for a reason why nothing may be written outside. Brings the ledger's schema up to date. Raises
    PolicyError for an unusable policy, and NotConfigured for an unknown engine, or when there is no ledger yet and
    `begin` is false.
    """

    def given(value: str | os.PathLike[str] | None, name: str) -> Path | None:
        text = os.fspath(value) if value is not None else environ.get(name, "")
        return Path(text) if text else None

    root = home_of(home, environ=environ)
    engine = environ.get("ONETOUCH_ENGINE") or lake.DEFAULT_ENGINE
    if engine not in lake.ENGINES:
        raise NotConfigured(f"ONETOUCH_ENGINE: {engine!r} is not known; give one of {', '.join(sorted(lake.ENGINES))}")
    ledger = open_ledger(root, begin=begin, environ=environ)
    file = given(policy, "ONETOUCH_POLICY")
    return Workspace(
        home=root,
        policy=usable_policy(file),
        lake=lake.Lake(environ.get("ONETOUCH_LAKE") or root / "lake", engine),
        ledger=ledger,
        connection=connection or partial(from_environment, environ=environ),
        stop_switch=stop_switch,
        exports=given(exports, "ONETOUCH_EXPORTS"),
        accounts=given(accounts, "ONETOUCH_ACCOUNTS"),
        shadow=given(shadow, "ONETOUCH_SHADOW_POLICY"),
        beside=file.parent if file else None,
    )
