"""A policy document of any released shape becomes today's, and means what it meant, whatever signals were called."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from onetouch.catalogue import RENAMED as FORMER
from onetouch.cli import app
from onetouch.experiments.scenario_file import Scenario, read_scenarios
from onetouch.policy import Policy, PolicyError, read_policy, upgrade
from onetouch.policy.naming import Replaced, new_name, replace_names
from onetouch.policy.read import PRESETS, preset_document
from onetouch.policy.review import former_names, review_policy
from typer.testing import CliRunner

DEFAULT = Policy.model_validate(preset_document())
ADDED = {1: upgrade._THEN, 2: upgrade._THEN_2, 3: upgrade._THEN_3}
THEN = {key: value for keys in ADDED.values() for key, value in keys.items()}
KEYS = sorted(THEN)


def section(document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds the last key of a path, and that key."""
    *sections, key = path.split(".")
    for step in sections:
        document = document[step]
    return document, key


def without(*paths: str) -> dict[str, Any]:
    """The default's document as a release wrote it that did not know these keys."""
    document = DEFAULT.document()
    for path in sorted(paths, reverse=True):  # what is within a section before the section itself
        place, key = section(document, path)
        del place[key]
    return document


def meant_then(key: str) -> Any:
    """What a key meant that was not there; of a section with what later formats added to it."""
    within = {path.removeprefix(f"{key}."): then for path, then in THEN.items() if path.startswith(f"{key}.")}
    return {**THEN[key], **within} if within else THEN[key]


def test_a_policy_is_kept_with_its_format_and_read_as_it_was() -> None:
    kept = json.loads(json.dumps(upgrade.stored(DEFAULT)))
    assert kept["format"] == upgrade.FORMAT
    assert upgrade.read_stored(kept, DEFAULT.version) == DEFAULT


def test_a_format_of_a_later_release_is_refused() -> None:
    for number in (upgrade.FORMAT + 1, 0, "2"):
        with pytest.raises(ValueError, match=f"format {number} is not known here"):
            upgrade.read_stored({**upgrade.stored(DEFAULT), "format": number})


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_was_not_there_means_what_was_done_then(key: str) -> None:
    expected = DEFAULT.document()
    place, last = section(expected, key)
    place[last] = meant_then(key)
    assert upgrade.read_stored(without(key)) == Policy.model_validate(expected)


@pytest.mark.parametrize(("number", "key"), [(number, key) for number, keys in ADDED.items() for key in sorted(keys)])
def test_a_key_that_a_format_lacked_means_what_was_done_then(number: int, key: str) -> None:
    expected = DEFAULT.document()
    place, last = section(expected, key)
    place[last] = meant_then(key)
    assert upgrade.read_stored({**without(key), "format": number}) == Policy.model_validate(expected)


def test_a_document_of_the_first_release_is_read_whole() -> None:
    document = without(*KEYS)
    document["signals"]["limit_held_days"] = 14
    document["assignment"]["reps"] = [
        {"email": "ana@v.com", "regions": ["EMEA"]}, {"email": "ben@v.com", "regions": []},
        {"email": "cem@v.com", "regions": ["APAC", "EMEA"]},
    ]  # fmt: skip
    policy = upgrade.read_stored(document, "0123456789ab")
    assert [(t.name, t.regions, t.reps) for t in policy.assignment.territories] == [
        ("apac", ["apac"], ["ben@v.com", "cem@v.com"]), ("emea", ["emea"], ["ana@v.com", "ben@v.com", "cem@v.com"]),
    ]  # fmt: skip
    assert policy.version == "0123456789ab"
    assert policy.delivery.approval_above is policy.slack.quiet_from is policy.assignment.senior_score is None


@pytest.mark.parametrize(("former", "today"), [(True, "match"), (False, "never")])
def test_whether_the_task_names_a_contact_means_what_it_meant(tmp_path: Path, former: bool, today: str) -> None:
    stored = {**without("crm.contacts"), "format": 3}
    stored["crm"]["link_contact"] = former
    assert upgrade.read_stored(stored).crm.contacts == today
    assert "link_contact" not in upgrade.upgraded(stored)["crm"]
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({"crm": {"link_contact": former}}))
    assert read_policy(file).crm.contacts == today


def test_the_version_is_the_one_it_was_kept_under_until_something_is_changed() -> None:
    kept = upgrade.read_stored(without("crm.automation"), "0123456789ab")
    assert kept.version == "0123456789ab"
    assert kept.model_copy().version == "0123456789ab"
    assert kept.changed(value__floor=1.0).version == DEFAULT.changed(value__floor=1.0).version
    assert upgrade.read_stored(DEFAULT.document(), DEFAULT.version)._kept_as is None


# ── Names of signals ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", PRESETS)
def test_no_former_name_is_left_anywhere_in_a_policy(preset: str) -> None:
    then = {today: former for former, today in FORMER.items()}
    document, _ = replace_names(preset_document(preset), Policy, then)
    document["product"]["name"] = "events_28d"  # no name of a signal, though spelled like one
    document["vocabulary"]["invites_28d"] = {"as": "teammate_invited", "detail": "shares_28d"}
    before = copy.deepcopy(document)
    today, found = upgrade.renamed(document, Policy, FORMER)
    assert document == before
    assert today["product"] == before["product"]
    assert today["vocabulary"] == before["vocabulary"]
    rest = json.dumps(
        {name: part for name, part in today.items() if name not in ("product", "vocabulary")}, default=str
    )
    assert not re.search(rf"\b({'|'.join(FORMER)})(_at)?\b", rest)
    assert Replaced("handoff.required_context.4", "events_28d", "events") in found
    assert {"routing.triggers.0", "routing.motion.enterprise_signals.0", "gates.engagement.1.signal"} <= {
        replaced.field for replaced in found
    }
    assert all(new_name(replaced.old, FORMER) == replaced.new for replaced in found)
    again, nothing = upgrade.renamed(today, Policy, FORMER)
    assert (again, nothing) == (today, [])


def test_a_name_is_followed_into_columns_obstacles_and_braces() -> None:
    given = ("events_28d_at", "context:events_28d", "events_7d", "events_28d_on")
    assert [new_name(name, FORMER) for name in given] == ["events_at", "context:events", "events_7d", "events_28d_on"]
    part = {"message": {"opening": "{name} {invites_28d} {invites_28d_at} invites_28d"}, "routing": {"triggers": 7}}
    today, found = upgrade.renamed(part, Policy, FORMER)
    assert today == {"message": {"opening": "{name} {invites} {invites_at} invites_28d"}, "routing": {"triggers": 7}}
    assert [str(replaced.field) for replaced in found] == ["message.opening"] * 2


def test_what_does_not_fit_the_model_is_left_to_whoever_reads_it() -> None:
    for odd in (
        {"gates": []},
        {"situations": {"when": 1}},
        {"scoring": {"points": [None, "x", {"signal": 3}]}},
        {"x": 1},
    ):
        assert upgrade.renamed(odd, Policy, FORMER) == (odd, [])


def test_a_scenario_goes_by_the_names_of_then() -> None:
    raw = {
        "policy": {"extends": "weighted", "routing": {"triggers": ["invites_28d"]}},
        "history": {"handoff": {"signals": ["users", "events_28d"], "new": ["shares_28d"]}},
        "beside": [{"history": {"handoff": {"signals": ["tickets_28d"]}}}],
        "expect": {
            "reasons": {"invites_28d": 15}, "signals": {"invites_28d_at": "x", "trend": "growing"},
            "obstacles": ["active_days_14d", "context:events_28d", "new_signal"], "message": "{invites_28d}",
        },
    }  # fmt: skip
    today, _ = replace_names(raw, Scenario, FORMER)
    assert today == {
        "policy": {"extends": "weighted", "routing": {"triggers": ["invites"]}},
        "history": {"handoff": {"signals": ["users", "events"], "new": ["shares"]}},
        "beside": [{"history": {"handoff": {"signals": ["tickets"]}}}],
        "expect": {
            "reasons": {"invites": 15}, "signals": {"invites_at": "x", "trend": "growing"},
            "obstacles": ["active_days", "context:events", "new_signal"], "message": "{invites_28d}",
        },
    }  # fmt: skip


@pytest.fixture
def called_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of today's signals had other names in a former release."""
    monkeypatch.setattr(upgrade, "RENAMED", {"logins_7d": "active_days_7d", "questions": "plan_questions"})


@pytest.mark.usefixtures("called_otherwise")
def test_a_policy_file_with_former_names_is_read_and_the_check_names_them(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    text = yaml.dump(
        {"routing": {"triggers": ["questions"]}, "gates": {"engagement": [{"signal": "logins_7d", "at_least": 3}]}}
    )
    old.write_text(text)
    new.write_text(text.replace("questions", "plan_questions").replace("logins", "active_days"))
    assert read_policy(old) == read_policy(new)
    assert former_names(new) == []
    assert [str(found) for found in former_names(old)] == [
        "routing.triggers.0: questions is called plan_questions now; write plan_questions",
        "gates.engagement.0.signal: logins_7d is called active_days_7d now; write active_days_7d",
    ][::-1]
    said = CliRunner().invoke(app, ["policy", "check", str(old), "--json"])
    assert (said.exit_code, json.loads(said.stdout)["problems"]) == (0, [])
    assert any("logins_7d is called active_days_7d now" in line for line in json.loads(said.stdout)["warnings"])
    assert CliRunner().invoke(app, ["policy", "check", str(old), "--strict"]).exit_code == 1
    assert [f.severity for f in review_policy(read_policy(old))] == [
        f.severity for f in review_policy(read_policy(new))
    ]


@pytest.mark.usefixtures("called_otherwise")
def test_a_stored_policy_with_former_names_is_read() -> None:
    document = json.loads(json.dumps(DEFAULT.document()).replace("active_days_7d", "logins_7d"))
    assert upgrade.read_stored(document).document() == DEFAULT.document()


@pytest.mark.usefixtures("called_otherwise")
def test_a_scenario_file_with_former_names_is_read(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "as_of: 2025-03-12T10:00:00Z\nscenarios:\n"
        "- name: one\n  expect: {reasons: {questions: 8}, obstacles: [logins_7d]}\n"
    )
    [scenario] = read_scenarios(file)
    assert (scenario.expect.reasons, scenario.expect.obstacles) == ({"plan_questions": 8.0}, ["active_days_7d"])


def test_a_file_that_is_no_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        former_names(tmp_path / "gone.yaml")
