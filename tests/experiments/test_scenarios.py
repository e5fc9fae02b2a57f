"""The scenarios of docs/scenarios hold, and each would notice if its rule were gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onetouch.experiments.scenario_file import ScenarioError, read_scenarios
from onetouch.experiments.scenarios import Result, Staged, decide_scenarios, run_scenarios, stage_scenarios, without
from onetouch.policy import read_policy
from onetouch.routing import RULES, Rule

from tests.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "docs" / "scenarios").glob("*.yaml"))


@pytest.fixture(scope="module")
def staged() -> Staged:
    return stage_scenarios(*FILES, policy=read_policy())


def test_every_scenario_comes_out_as_it_says(staged: Staged) -> None:
    wrong = [result for result in decide_scenarios(staged) if not result.passed]
    assert not wrong, "\n".join(f"{r.file}: {r.name}: {r.differences}\n  {r.explained}" for r in wrong)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_without_its_rule_every_scenario_of_it_fails(staged: Staged, rule: Rule) -> None:
    """In what becomes of the account, not in the rule's name alone, unless another rule leads to the same action."""
    # Without the last rule nobody gets a task: who would have got it needs no look.
    scenarios = [scene.scenario for scene in staged.scenes if rule is not RULES[-1] or not scene.scenario.apart]
    theirs = {scenario.name for scenario in scenarios if scenario.rule == rule.name}
    assert theirs, f"no scenario is about {rule.name!r}"
    alone = [other.action for other in RULES].count(rule.action) == 1
    without_it = [r for r in decide_scenarios(staged, rules=without(rule.name), only=theirs) if r.rule == rule.name]
    unnoticed = [
        r.name for r in without_it if not {found.what for found in r.differences} - ({"rule"} if alone else set())
    ]
    assert len(without_it) >= len(theirs)
    assert not unnoticed


BASE = """
as_of: 2025-03-12T10:00:00Z
teams:
  team:
    account: {name: Acme, domain: acme.example, employees: 200}
    events: [{event: session_started, users: 3, on_days: 12}, {event: workspace_created, ago: 40d}]
scenarios:
"""


def written(tmp_path: Path, scenarios: str, name: str = "some.yaml") -> Path:
    file = tmp_path / name
    file.write_text(BASE + scenarios)
    return file


CALLED = """
    like: team
    policy: {assignment: {tasks_per_rep_per_day: 1}}
    events:
      - {event: data_imported, ago: 39d}
      - {event: report_created, ago: 38d}
      - {event: demo_requested, ago: 5h}
      - {event: feature_used, feature: alerts, ago: 2d}
"""
PLAYED = """
  - name: wrong in everything
    rule: sales now
    like: team
    events: [{event: pricing_viewed, ago: 1d, times: 2}, {event: feature_used, feature: alerts, ago: 2d}]
    expect: {action: sales_now, score: 50, obstacles: [score], reasons: {pricing_views: 3, users: 6},
             signals: {pricing_views: 2, activated: 1}, gates: {icp: true, activated: true}, due_at: 2h,
             dossier: [alerts, nonsense], says_nothing_of: [nonsense, alerts], owner: null}
  - name: right in everything
    like: team
    events: [{event: pricing_viewed, ago: 1d, times: 2}]
    expect: {action: nurture, owner: null, due_at: null, pql: false, signals: {pricing_views: 2}}
""" + "".join(
    f"  - name: {owner or 'own rep'} {n}{CALLED}    account: {{{owner and f'owner: {owner}@sales.example'}}}\n"
    f"    expect: {{action: sales_now, owner: {owner or f'rep-of-some-{n + 3:03}'}, assigned_by: owner}}\n"
    for owner, n in [("", 0), ("", 1), ("ana", 2), ("ana", 3)]
)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return run_scenarios(written(tmp_path_factory.mktemp("played"), PLAYED), policy=read_policy())


def test_a_scenario_that_is_wrong_says_what_came_out_and_why(played: list[Result]) -> None:
    wrong, right, *_ = played
    assert right.passed
    assert {found.what for found in wrong.differences} == {
        "rule", "action", "score", "obstacles", "reasons.pricing_views", "signals.activated", "gates.activated",
        "due_at", "dossier", "says_nothing_of",
    }  # fmt: skip
    assert wrong.explained.startswith("nurture by rule 'no PQL'; score ")
    assert "It has to activate" in wrong.explained
    told = json.loads(json.dumps(wrong.record()))
    assert (told["passed"], told["action"], told["differences"][0]["got"]) == (False, "nurture", "no PQL")


def test_scenarios_do_not_see_each_other(played: list[Result]) -> None:
    """Alone or among others, and whoever is named as owner: the same decision, though a rep takes one task a day."""
    assert [(r.name, r.differences) for r in played[2:] if not r.passed] == []


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("{name: a, expect: {action: sell}}", "expect.action: 'sell' is not known"),
        ("{name: a, expect: {aktion: nurture}}", "expect.aktion: unknown key; did you mean action?"),
        ("{name: a, expect: {reasons: {visits: 3}}}", "expect.reasons: 'visits' is not known"),
        ("{name: a, expect: {}}", "expect: is empty"),
        ("{name: a, like: nobody, expect: {pql: true}}", "like: 'nobody' is no team of the file; allowed: team"),
        ("{name: a, rule: cool down, expect: {pql: true}}", "'cool down' is not known; did you mean cooldown?"),
        ("{name: a, events: [{event: pricing_view, ago: 1d}], expect: {pql: true}}", "did you mean pricing_viewed?"),
        ("{name: a, events: [{event: pricing_viewed}], expect: {pql: true}}", "does not say when"),
        ("{name: a, events: [{event: pricing_viewed, ago: soon}], expect: {pql: true}}", "like 2h, 3d or 1d 12h"),
        ("{name: a, events: [{event: pricing_viewed, ago: 1d, used: 3}], expect: {pql: true}}", "has no used"),
        ("{name: a, history: {handoff: {state: gone}}, expect: {pql: true}}", "history.handoff.state: 'gone'"),
        ("{name: a, history: {handoff: {state: won, new: [x]}}, expect: {pql: true}}", "x: no such signal"),
        ("{name: a, like: team, without: [api_called], expect: {pql: true}}", "the team has no such event"),
        ("{name: a, account: {timezone: Mars}, expect: {pql: true}}", "an IANA time zone, like Europe/Berlin"),
        ("{name: a, when: now, expect: {pql: true}}", "when: unknown key"),
        ("{expect: {pql: true}}", "scenario 1: has no name"),
        ("{name: a, as_of: 2025-03-12T10:00:00, expect: {pql: true}}", "as_of"),
        ("{name: a, expect: {pql: true}}\n  - {name: a, expect: {pql: true}}", "named twice"),
    ],
)
def test_what_cannot_be_a_scenario_is_refused_with_its_place(tmp_path: Path, scenario: str, said: str) -> None:
    file = written(tmp_path, f"  - {scenario}\n")
    with pytest.raises(ScenarioError, match="some.yaml") as refused:
        read_scenarios(file)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("{name: a, policy: {value: {flor: 3}}, expect: {pql: true}}", "'a': policy.value.flor"),
        ("{name: a, policy: {extends: heavy}, expect: {pql: true}}", "policy.extends: 'heavy'"),
        ("{name: a, events: [{event: pricing_viewed, at: 2025-03-13T00:00:00Z}], expect: {pql: true}}", "not before"),
        ("{name: a, policy: {vocabulary: {pricing_viewed: null}}, events: [{event: pricing_viewed, ago: 1d}],"
         " expect: {pql: true}}", "no event of the policy's vocabulary"),
        ("{name: a, expect: {signals: {visits: 3}}}", "expect.signals: visits"),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_refused_with_its_scenario(tmp_path: Path, scenario: str, said: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        run_scenarios(written(tmp_path, f"  - {scenario}\n"), policy=read_policy())
    assert said in str(refused.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "  - {name: a, expect: {pql: false}}\n")
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", "  - {name: b, expect: {pql: false}}\n")
    for files in ((file, other), (file, file)):
        with pytest.raises(ScenarioError, match="some.yaml: named as another file"):
            run_scenarios(*files, policy=read_policy())
