"""Why an account may not be contacted is told, and decided the same again whatever becomes of lists and people."""

from __future__ import annotations

from pathlib import Path

import pytest
from onetouch import scoring, stages
from onetouch.audit import explain, replay
from onetouch.crm_sync import people_of
from onetouch.forget import forget
from onetouch.ledger import Run
from onetouch.policy import PolicyError
from onetouch.workspace import Workspace, open_workspace

from tests.audit.company import AS_OF

OUT = {"do_not_call": True, "email_opt_out": True}
PEOPLE = [
    {"contact_id": "p1", "crm_account_id": "crm-newly keen", "email": "ada@acme.example", "name": "Ada", **OUT},
    {"contact_id": "p2", "crm_account_id": "crm-expanding", "email": "bob@acme.example", "do_not_call": True},
    {"contact_id": "p3", "crm_account_id": None, "email": "eve@elsewhere.example", **OUT},
]


@pytest.fixture
def workspace(copy: Workspace, tmp_path: Path) -> Workspace:
    (tmp_path / "policy.yaml").write_text("never_contact: {file: never.csv, accounts: ['called too, our reseller']}\n")
    (tmp_path / "never.csv").write_text("who,reason\ncalled, a partner\nnobody.example\n")
    return open_workspace(copy.home, tmp_path / "policy.yaml", environ={})


@pytest.fixture
def run(workspace: Workspace, last: Run) -> Run:
    """A run of the same accounts, routed as a stage."""
    lake, ledger = workspace.lake, workspace.ledger
    run = ledger.begin_run(AS_OF, workspace.policy, False)
    for room in ("accounts", "reps"):
        lake.write(lake.read("crm", last.run_id, f"{room}.parquet"), "crm", run.run_id, f"{room}.parquet")
    lake.write(people_of(PEOPLE), "crm", run.run_id, "contacts.parquet")
    lake.write(lake.read("signals", f"{last.run_id}.parquet"), "signals", f"{run.run_id}.parquet")
    scoring.score(lake, ledger, workspace.policy, run)
    stages.route(workspace, run.run_id)
    return run


WHY = {
    "called": "called is on line 2 of never_contact.file (a partner)",
    "called too": "called too is on never_contact.accounts (our reseller)",
    "newly keen": "nobody there can be contacted: contact p1 opted out of calls and of e-mail",
}


@pytest.mark.parametrize("account_id", WHY)
def test_which_list_which_entry_and_which_contact_is_told(workspace: Workspace, run: Run, account_id: str) -> None:
    told = explain(workspace.lake, workspace.ledger, run, account_id)
    assert told.decision["action"] == "hold_never_contact"
    assert (told.rules[0].rule, told.rules[0].verdict, told.rules[0].why) == (
        "never contact",
        "decided",
        WHY[account_id],
    )
    assert told.would_change[0] == f"It may not be contacted: {WHY[account_id]}. That has to end first."
    assert "@" not in str(told.record()["rules"])


def test_nobody_else_is_held_and_it_is_said_why_not(workspace: Workspace, run: Run) -> None:
    decisions = workspace.lake.read("decisions", f"{run.run_id}.parquet")
    assert set(decisions.loc[decisions["rule"] == "never contact", "account_id"]) == set(WHY)
    told = explain(workspace.lake, workspace.ledger, run, "expanding")
    assert (told.decision["action"], told.rules[0].verdict) == ("sales_now", "did not apply")


def test_a_replay_needs_neither_the_list_nor_the_people(workspace: Workspace, run: Run) -> None:
    assert workspace.beside is not None
    (workspace.beside / "never.csv").write_text("newly keen\nexpanding\n")
    assert replay(workspace.lake, workspace.ledger, run.run_id).empty
    (workspace.beside / "never.csv").unlink()
    assert replay(workspace.lake, workspace.ledger, run.run_id).empty
    with pytest.raises(PolicyError, match=r"never_contact\.file"):
        stages.route(workspace, run.run_id)


def test_a_forgotten_person_is_nowhere_and_the_decision_is_made_again(workspace: Workspace, run: Run) -> None:
    found = forget(workspace, "user", "ada@acme.example", AS_OF)["found"]
    assert found == []
    left = workspace.lake.read("crm", run.run_id, "contacts.parquet")
    assert left["contact_id"].tolist() == ["p2", "p3"]
    assert replay(workspace.lake, workspace.ledger, run.run_id).empty


def test_a_run_of_a_former_release_is_replayed_without_them(workspace: Workspace, last: Run) -> None:
    for name in ("contacts", "people", "listed"):
        workspace.lake.remove("inputs", last.run_id, f"{name}.parquet")
    assert replay(workspace.lake, workspace.ledger, last.run_id).empty
