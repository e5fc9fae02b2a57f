"""Every rule, every number and every contradiction has a scenario, and the index says which."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from onetouch.experiments.scenario_file import Scenario, read_scenarios
from onetouch.routing import RULES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def index() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "scenarios.py"))


@pytest.fixture(scope="module")
def files(index: dict[str, Any]) -> dict[str, list[Scenario]]:
    assert sorted(index["FILES"]) == sorted(path.stem for path in (DOCS / "scenarios").glob("*.yaml"))
    return {file: read_scenarios(DOCS / "scenarios" / f"{file}.yaml") for file in index["FILES"]}


def test_the_index_is_up_to_date(index: dict[str, Any]) -> None:
    assert index["PAGE"].read_text(encoding="utf-8") == index["render"](), "run: python docs/scenarios.py"


def test_every_rule_has_a_scenario(files: dict[str, list[Scenario]]) -> None:
    shown = {scenario.rule for scenarios in files.values() for scenario in scenarios}
    assert {rule.name for rule in RULES} - shown == set()


def test_every_scenario_names_its_source_and_where_a_rule_decides_the_rule(files: dict[str, list[Scenario]]) -> None:
    for scenarios in files.values():
        for scenario in scenarios:
            assert re.search(r"\b(S[0-4]|ours)\b", scenario.source), scenario.name
            assert scenario.rule or scenario.expect.action is None, scenario.name


def test_every_number_of_the_index_is_shown(index: dict[str, Any], files: dict[str, list[Scenario]]) -> None:
    for number, _, file, beginnings in index["NUMBERS"]:
        for beginning in re.split(r"\|(?![^(]*\))", beginnings):
            assert index["named"](files[file], beginning), f"{number}: no scenario in {file} begins with {beginning!r}"


def test_every_contradiction_is_shown_in_both_readings(index: dict[str, Any], files: dict[str, list[Scenario]]) -> None:
    contradictions = runpy.run_path(str(DOCS / "policy.py"))["CONTRADICTIONS"]
    assert set(index["READINGS"]) == {key for contradiction in contradictions for key in contradiction.keys}
    for contradiction in contradictions:
        shown = [
            s for key in contradiction.keys for s in index["named"](files["contradictions"], index["READINGS"][key])
        ]
        assert any(not s.policy for s in shown), f"{contradiction.keys}: the default is not shown"
        if "not offered" not in contradiction.other:
            assert any(_set(s.policy, key) for s in shown for key in contradiction.keys), contradiction.keys


def _set(policy: dict[str, Any], key: str) -> bool:
    """Whether the policy says something of the key."""
    head, _, rest = key.partition(".")
    return head in policy and (not rest or _set(policy[head], rest))
