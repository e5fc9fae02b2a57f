"""Explain: every rule says why, from what was stored; the panel reads well."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from onetouch import audit
from onetouch.cli import screen
from onetouch.ledger import NotInLedger, Run
from onetouch.routing import rules_of
from onetouch.workspace import Workspace
from rich.console import Console

from tests.audit.company import AS_OF, FIRST, SIDES, decided


def explained(workspace: Workspace, run: Run, account_id: str) -> audit.Explanation:
    return audit.explain(workspace.lake, workspace.ledger, run, account_id)


@pytest.mark.parametrize("account_id", SIDES)
def test_rules_stand_in_order_and_the_stored_one_decided(company: Workspace, last: Run, account_id: str) -> None:
    found = explained(company, last, account_id)
    assert [said.rule for said in found.rules] == [rule.name for rule in rules_of(company.policy)]
    verdicts = [said.verdict for said in found.rules]
    place = verdicts.index("decided")
    assert found.rules[place].rule == found.decision["rule"]
    assert set(verdicts[:place]) <= {"did not apply"}
    assert set(verdicts[place + 1 :]) <= {"not asked"}
    assert all(said.why for said in found.rules[: place + 1])
    assert sum(r["points"] for r in found.decision["reasons"]) == pytest.approx(found.decision["score"])
    assert bool(found.would_change) == (found.decision["action"] != "sales_now")
    assert json.loads(json.dumps(found.record())) == found.record()


@pytest.mark.parametrize(
    ("account_id", "rule", "why"),
    [
        ("called", "holdout", "there is no control group"),
        ("called", "never interrupt", "no checkout in progress"),
        ("called", "one touch", "never handed over, no touch in 7 days"),
        ("called", "value floor", "worth $9,600, floor $5,000"),
        ("called", "capacity", "ana@sales.example has room"),
        ("called", "sales now", "it is a product-qualified lead and engaged"),
        ("newly keen", "sales now", "it is a product-qualified lead and engaged"),
        ("gave up", "never interrupt", "its checkout is over: abandoned"),
        ("converting", "never interrupt", "a checkout is in progress: started, last step 2025-03-12"),
        ("called first", "one touch", "it is handed over already: touched"),
        ("quiet", "one touch", "a rep was in contact 2 days ago"),
        ("with a deal", "open opportunity", "a colleague has an open opportunity there"),
        ("nameless", "never without context", "its record lacks name"),
        ("small", "value floor", "worth $1,200, under the floor of $5,000"),
        ("small hero", "matrix: low value, engaged", "and engaged: working_days_share 1, team_days 14"),
        (
            "small and quiet",
            "matrix: low value, not engaged",
            "and not engaged: working_days_share 0 of 0.8, team_days 0",
        ),
        ("watched", "tier medium", "watched until its next trigger event"),
        ("not activated", "no PQL", "gate not passed: activated, intent, low tier"),
        ("small hero", "value floor", "worth $1,200 is under the floor, but nothing calls for a person"),
        ("small and quiet", "matrix: low value, engaged", "not engaged: working_days_share 0 of 0.8, team_days 0 of 6"),
        ("watched", "matrix: high value, not engaged", "engaged: working_days_share 1, team_days 14"),
        ("not activated", "tier medium", "its tier is low"),
        ("nameless", "queue expired", "has not waited 72 hours for a rep"),
    ],
)
def test_the_reason_is_the_account_s_own(company: Workspace, last: Run, account_id: str, rule: str, why: str) -> None:
    found = explained(company, last, account_id)
    [said] = [said for said in found.rules if said.rule == rule]
    assert why in said.why


def test_a_past_moment_is_explained_by_the_run_of_then(company: Workspace) -> None:
    lake, ledger = company.lake, company.ledger
    then = audit.run_of(lake, ledger, as_of=AS_OF - timedelta(seconds=1))
    assert then.as_of == FIRST
    assert audit.run_of(lake, ledger, as_of=AS_OF).as_of == AS_OF
    assert audit.run_of(lake, ledger, then.run_id) == then
    assert explained(company, then, "newly keen").decision["action"] == "monitor"
    with pytest.raises(ValueError, match="give a later moment"):
        audit.run_of(lake, ledger, as_of=FIRST - timedelta(hours=1))
    with pytest.raises(NotInLedger):
        audit.run_of(lake, ledger, "no run")


def test_an_explanation_is_of_the_policy_that_decided(copy: Workspace, last: Run) -> None:
    before = explained(copy, last, "called").record()
    document = copy.policy.document()
    document["value"]["floor"] = 50_000
    decided(copy, type(copy.policy).model_validate(document), AS_OF + timedelta(days=1), like=last)
    assert explained(copy, last, "called").record() == before


def test_an_account_is_found_by_its_name_or_domain_too(copy: Workspace, last: Run) -> None:
    path = f"{last.run_id}.parquet"
    signals = copy.lake.read("signals", path)
    signals["name"] = signals["account_id"].map({"called": "Acme Paper", "quiet": "Twin", "small": "twin"})
    signals["domain"] = signals["account_id"].map({"called": "acme.example"})
    copy.lake.write(signals, "signals", path)
    for said in ("called", "ACME paper", "acme.example"):
        assert explained(copy, last, said).decision["account_id"] == "called"
    with pytest.raises(ValueError, match="2 are called so; give one's id: quiet, small"):
        explained(copy, last, "Twin")


def test_an_unknown_account_is_answered_with_near_ones(company: Workspace, last: Run) -> None:
    with pytest.raises(ValueError, match="did you mean called"):
        explained(company, last, "caled")


@pytest.mark.parametrize("account_id", SIDES)
def test_the_panel_fits_100_columns_and_holds_what_matters(company: Workspace, last: Run, account_id: str) -> None:
    found = explained(company, last, account_id)
    console = Console(file=io.StringIO(), width=100)
    console.print(screen.explanation(found))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 100
    for rule in rules_of(company.policy):
        assert rule.name in text
    for reason in found.decision["reasons"]:
        assert reason["signal"] in text
    assert f"{found.decision['score']:g}" in text
    assert "…" not in text


def test_the_reps_day_adds_up(company: Workspace, last: Run) -> None:
    reps, tasks = audit.assigned(company.lake, company.ledger, last)
    assert dict(zip(reps["owner_email"], reps["new"], strict=True)) == {"ana@sales.example": 2, "ben@sales.example": 3}
    assert dict(zip(tasks["account_id"], tasks["assigned_by"], strict=True)) == {
        "called": "owner", "called too": "round robin", "expanding": "owner", "gave up": "round robin",
        "newly keen": "round robin",
    }  # fmt: skip
