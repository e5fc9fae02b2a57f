"""A small real run with a past in the ledger, and copies of it to erase from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch import stages
from onetouch.workspace import Workspace, open_workspace

from tests.sources.answers import answer, event, member, packed

AS_OF = datetime(2026, 3, 6, 14, tzinfo=UTC)
STAGES = ("extract_crm", "extract_events", "stage_events", "check_events", "build_signals", "score", "route")

COMPANIES = {
    "org_00003": "kestrel-0003.example",
    "org_00004": "delta-0004.example",
    "org_00005": "heron-0005.example",
}
NAMES = {"org_00003": "Kestrel Simulated", "org_00004": "Twice Simulated", "org_00005": "Twice Simulated"}


def called(user: str) -> str:
    """The name of a user, which does not hold the id."""
    return f"Anna Example{''.join(chr(ord('a') + int(digit)) for digit in user if digit.isdigit())}"


def row(number: int, user: str, email: str, organisation: str | None, hour: int = 10, **more: Any) -> dict[str, Any]:
    """What a user did on one of the last days."""
    at = f"2026-03-0{4 + number % 3} {hour:02}:00:00.000000"
    return event(
        number, user_id=user, user_properties={"email": email, "name": called(user), "title": "Head"}, event_time=at,
        client_event_time=at,
        server_upload_time=at, server_received_time=at, device_id=f"{user}R",
        groups={"organisation": [organisation]} if organisation else {}, **more,
    )  # fmt: skip


def rows() -> list[dict[str, Any] | bytes]:
    """Three companies with a consultant in two of them, one without a group, a lone user, and some broken rows."""
    people = [
        (f"u_{org[-5:]}_{n:02}", f"simulated.u.{org[-5:]}.{n:02}@{domain}", org)
        for org, domain in COMPANIES.items()
        for n in range(3)
    ]
    people += [(f"u_00009_{n:02}", f"simulated.u.00009.{n:02}@iris-0009.example", None) for n in range(2)]
    people += [("u_00006_00", "simulated.u.00006.00@gmail.com", None)]
    people += [("canary.person@gmail.com", "canary.person@gmail.com", None)]
    people += [("u_consultant", "simulated@consultants.example", org) for org in ("org_00003", "org_00004")]
    number, made = 0, []
    for user, email, org in people:
        for name in ("workspace_created", "report_created", *["feature_used"] * 4):
            number += 1
            made.append(row(number, user, email, org, event_type=name, event_properties={"feature": "alerts"}))
    invited = {"invited": "simulated.u.00003.01@kestrel-0003.example", "by": "u_00003_02", "of": "org_00003"}
    made.append(
        row(900, "u_00004_00", "simulated.u.00004.00@delta-0004.example", "org_00004", event_properties=invited)
    )
    made.append(
        row(901, "u_00003_00", "simulated.u.00003.00@kestrel-0003.example", "org_00003") | {"event_time": "soon"}
    )
    made.append(b'{"user_id": "u_00003_01", "broken')
    made.append(b'{"user_id": "u_00004_01", "broken')
    return made


@dataclass
class Home:
    """An installation, the vendor's answers and the file of accounts it reads."""

    workspace: Workspace
    exports: Path
    accounts: Path
    run_id: str

    def run(self, as_of: datetime) -> str:
        """Another run; returns its id."""
        return run_to_decisions(self.workspace, as_of)


def run_to_decisions(workspace: Workspace, as_of: datetime, keep: Callable[[Any], None] = lambda said: None) -> str:
    """Every stage but those that reach the outside; `keep` is given what each returns."""
    run_id = stages.begin(workspace, as_of, as_of)
    for name in STAGES:
        stage = getattr(stages, name)
        keep(stage(workspace, run_id, "amplitude") if name == "extract_events" else stage(workspace, run_id))
    return run_id


def opened(home: Path, exports: Path, accounts: Path, ledger_url: str | None = None) -> Workspace:
    environ = {"ONETOUCH_LEDGER_URL": ledger_url} if ledger_url else {}
    return replace(open_workspace(home, exports=exports, environ=environ), accounts=accounts)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """As it was built: read only."""
    return build(tmp_path_factory.mktemp("erasure"))


def build(folder: Path, ledger_url: str | None = None) -> Home:
    """Builds one in this folder, its ledger at that URL."""
    (folder / "answers").mkdir()
    hours = [AS_OF.replace(day=day, hour=10) for day in (4, 5, 6)]
    made: list[list[Any]] = [[], [], []]
    for place, one in enumerate(rows()):
        made[place % 3 if isinstance(one, bytes) else (one["event_id"] % 3)].append(one)
    answer(folder / "answers/2026-03.zip", [(member(h), packed(m)) for h, m in zip(hours, made, strict=True)])
    known = [{"domain": domain, "name": NAMES[org]} for org, domain in COMPANIES.items()]
    pd.DataFrame([*known, {"domain": "iris-0009.example", "name": "Iris Simulated"}]).to_csv(
        folder / "accounts.csv", index=False
    )
    workspace = opened(folder / "home", folder / "answers", folder / "accounts.csv", ledger_url)
    run_id = run_to_decisions(workspace, AS_OF)
    for account_id in ("org_00003", "org_00005"):
        hand_over(workspace, run_id, account_id)
    workspace.ledger.close()
    return Home(workspace, folder / "answers", folder / "accounts.csv", run_id)


def hand_over(workspace: Workspace, run_id: str, account_id: str) -> None:
    """A handoff whose task is open, with all that the ledger then says of an account."""
    ledger, run = workspace.ledger, workspace.ledger.run(run_id)
    crm_id = f"001Sim{account_id[-9:]}IAA"
    decision: dict[str, Any] = {
        "account_id": account_id, "crm_account_id": crm_id, "as_of": run.as_of, "owner_email": "rita@rep.example",
        "reasons": [{"signal": "users", "value": 3.0, "points": 5.0}], "score": 50.0,
    }  # fmt: skip

    def rows(handoff: Any) -> list[dict[str, Any]]:
        payload = {"account_id": account_id, "name": NAMES[account_id], "crm_account_id": crm_id}
        payload["dossier"] = f"TEAM\n  Write to {called(f'u_{account_id[-5:]}_00')}, Head: looked at pricing twice"
        return [
            {"key": f"{kind}:{handoff.handoff_id}", "destination": "salesforce", "kind": kind, "payload": payload}
            for kind in ("account_fields", "task")
        ]

    [handoff] = ledger.open_handoffs([decision], run, rows=rows)
    assert handoff is not None
    ledger.sending(f"account_fields:{handoff.handoff_id}")
    ledger.sent(f"account_fields:{handoff.handoff_id}", crm_id)
    ledger.move(handoff.handoff_id, "context_written", run.as_of)
    ledger.move(handoff.handoff_id, "task_open", run.as_of, f"for {account_id}", task_id="00T1")
    ledger.record_touches(
        [
            {
                "touch_id": f"00T{len(account_id)}{account_id[-1]}",
                "account_id": account_id,
                "at": run.as_of,
                "kind": "call",
            }
        ]
    )
    failed = [{"account_id": account_id, "reason": "not finished"}, {"account_id": "org_00004", "reason": "locked"}]
    ledger.finish_stage(run_id, "deliver_tasks", {"failed": failed})


@pytest.fixture
def home(built: Home, tmp_path: Path) -> Home:
    """One's own, to erase from."""
    shutil.copytree(built.workspace.home, tmp_path / "home")
    return replace(built, workspace=opened(tmp_path / "home", built.exports, built.accounts))
