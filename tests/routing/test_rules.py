"""A rule is one object: what knows the rules derives from their list, and each has all that is asked of it."""

from __future__ import annotations

import inspect
import runpy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from onetouch.catalogue import ACTIONS, Action, actions
from onetouch.catalogue.actions import HOLD_CONTEXT, NURTURE
from onetouch.columns import Mask, number
from onetouch.policy import Policy, PolicyError, read_policy, read_stored
from onetouch.policy.read import preset_document
from onetouch.policy.schema import Part
from onetouch.routing import RULES, Known, Rule, decide, rules, rules_of, sentence
from onetouch.routing.rule import Facts, Obstacle
from onetouch.workspace import open_workspace
from pydantic import Field
from typer.testing import CliRunner

from tests.routing.world import AS_OF, POLICY, PQL, accounts, inputs

DOCS = Path(__file__).parents[2] / "docs"


def test_every_action_is_listed_once_and_says_what_it_means() -> None:
    declared = [value for value in vars(actions).values() if isinstance(value, Action)]
    assert Counter(declared) == Counter(ACTIONS) == Counter(set(ACTIONS))
    assert all(action.meaning.endswith(".") for action in ACTIONS)
    assert all(action.hold == action.startswith("hold_") for action in ACTIONS)
    assert not any(action.hold and action.sales_touch for action in ACTIONS)


def test_names_of_rules_and_of_their_sections_are_their_own() -> None:
    assert max(Counter(rule.name for rule in RULES).values()) == 1
    assert max(Counter(rule.section for rule in RULES).values()) == 1
    assert {rule.action for rule in RULES} <= set(ACTIONS)


BEFORE_RULES_HAD_PARAMETERS = {
    "holdout",
    "never interrupt",
    "open opportunity",
    "one touch",
    "cooldown",
    "value floor",
    "matrix: low value, engaged",
    "matrix: low value, not engaged",
    "matrix: high value, not engaged",
    "tier medium",
    "no PQL",
    "queue expired",
    "never without context",
    "capacity",
    "sales now",
}
"""The rules that every stored policy has, whatever its document says. The set is closed: nothing is added to it."""


def test_a_rule_of_today_has_parameters_so_that_stored_policies_decide_as_they_did() -> None:
    always = {rule.name for rule in RULES if rule.parameters is None and rule.under is None}
    added = always - BEFORE_RULES_HAD_PARAMETERS
    then = read_stored({key: value for key, value in POLICY.document().items() if key != "routing"} | {
        "format": 3, "routing": {k: v for k, v in POLICY.document()["routing"].items() if k not in
                                 ("returns", "fresh_intent_hours", "rules")},
        "delivery": {k: v for k, v in POLICY.document()["delivery"].items() if k != "offer_again_hours"}})  # fmt: skip
    assert {rule.name for rule in rules_of(then)} == always
    assert not added, (
        f"{added}: give the rule `parameters`, if only an empty model; without them it "
        "would decide in replays of runs made before it existed (routing/rule.py)"
    )


def test_every_file_of_the_folder_is_a_rule_of_the_list() -> None:
    here = {inspect.getmodule(rule.applies) for rule in RULES}
    files = {path.stem for path in Path(rules.__file__).parent.glob("*.py")} - {"__init__"}
    assert {module.__name__.rpartition(".")[2] for module in here if module} == files
    assert all(inspect.getdoc(module) for module in here)


def test_the_last_rule_takes_all_and_those_that_look_at_reps_stand_together_at_the_end() -> None:
    assigned = [rule.assigned for rule in RULES]
    assert assigned == sorted(assigned)
    assert assigned[-1]


def test_no_two_rules_add_the_same_column_or_put_the_same_obstacle_into_words() -> None:
    given = inputs(accounts(PQL))
    facts = rules_facts(given)
    added = Counter(name for rule in rules_of(POLICY) for name in rule.columns(facts, given, POLICY, AS_OF))
    assert max(added.values()) == 1
    assert max(Counter(name for rule in RULES for name in rule.sentences).values()) == 1


def rules_facts(given: Any) -> Facts:
    from onetouch.routing.known import known_facts

    return known_facts(given, POLICY, AS_OF)


def test_every_obstacle_can_be_put_into_words_whatever_its_figures() -> None:
    for name in (name for rule in rules_of(POLICY) for name in rule.sentences):
        for has, needs in ((None, None), (3.0, 7.0), (float("nan"), 7.0)):
            assert sentence(name, has, needs, POLICY).endswith("."), name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_keys_a_rule_reads_exist(rule: Rule) -> None:
    for key in rule.reads:
        place: Any = POLICY.document()
        for step in key.split("."):
            assert step in place, f"{rule.name}: {key}"
            place = place[step]


def test_the_page_of_rules_is_up_to_date_and_names_every_parameter_of_the_default() -> None:
    docs = runpy.run_path(str(DOCS / "rules.py"))
    page = docs["PAGE"].read_text(encoding="utf-8")
    assert page == docs["render"](), "run: python docs/rules.py"
    own = preset_document()["routing"]["rules"]
    assert [s for s, given in own.items() for key in given if f"`routing.rules.{s}.{key}`" not in page] == []


# ── A rule with parameters of its own ────────────────────────────────────────────────────────────────────────────────


class Parameters(Part):
    """Who has as many users as that needs no rep."""

    at_least: Annotated[int, Field(gt=0)]


def _applies(facts: Facts, policy: Policy) -> Mask:
    return number(facts, "users") >= CROWDED.own(policy).at_least


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("crowd", _applies(facts, policy), number(facts, "users"))


def _says(known: Known, policy: Policy) -> str:
    return f"{known['users']:g} users, {CROWDED.own(policy).at_least} are a crowd"


CROWDED: Rule[Parameters] = Rule(
    name="crowded: yes",
    action=HOLD_CONTEXT,
    applies=_applies,
    why=_says,
    why_not=_says,
    obstacles=_obstacles,
    parameters=Parameters,
)
PLAIN = tuple(rule for rule in RULES if rule.parameters is None)
WITH = (PLAIN[0], CROWDED, *PLAIN[1:])


def crowded(given: Any) -> Policy:
    """The default policy with these parameters of rules and no others."""
    return POLICY.changed(routing__rules=given)


BARE = crowded({})


def test_a_policy_has_a_rule_with_parameters_only_if_it_gives_them() -> None:
    assert rules_of(BARE, WITH) == PLAIN
    assert rules_of(crowded({"crowded_yes": {"at_least": 5}}), WITH) == WITH
    assert rules_of(crowded({"crowded_yes": None}), WITH) == PLAIN


def test_a_policy_without_parameters_of_rules_is_the_policy_it_was_before_there_were_any() -> None:
    assert "rules" not in BARE.document()["routing"]
    assert crowded({"crowded_yes": None}).version == BARE.version
    given = crowded({"crowded_yes": {"at_least": 5}})
    assert given.version not in (BARE.version, crowded({"crowded_yes": {"at_least": 6}}).version)
    assert Policy.model_validate(given.document()) == given


def test_a_rule_of_the_policy_decides_and_one_that_is_not_changes_nothing() -> None:
    given = inputs(accounts({**PQL, "users": 6}, {**PQL, "users": 4}))
    policy = crowded({"crowded_yes": {"at_least": 5}})
    got = decide(given, policy, AS_OF, WITH)
    assert got["rule"].tolist() == ["crowded: yes", "sales now"]
    assert [[o["obstacle"] for o in found] for found in got["would_change"]] == [["crowd"], []]
    assert decide(given, BARE, AS_OF, WITH).equals(decide(given, BARE, AS_OF))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"crowded_yes": {}}, "policy default: routing.rules.crowded_yes.at_least: {} is not allowed; Field required"),
        ({"crowded_yes": {"at_least": 0}}, "routing.rules.crowded_yes.at_least: 0 is not allowed; Input should be"),
        ({"crowded_yes": {"at_leest": 1, "at_least": 1}}, "at_leest: unknown key (value 1); did you mean at_least?"),
        ({"crowded_yse": {}}, "routing.rules.crowded_yse: no such rule; did you mean crowded_yes?"),
        ({"zzz": {}}, "routing.rules.zzz: no such rule; allowed: crowded_yes"),
        ({"cooldown": {}}, "routing.rules.cooldown: this rule has no parameters of its own; remove it"),
    ],
)
def test_parameters_that_are_not_allowed_are_named(given: Any, said: str) -> None:
    policy = crowded(given)
    with pytest.raises(PolicyError) as refused:
        decide(inputs(accounts(PQL)), policy, AS_OF, WITH)
    assert said in str(refused.value)


def test_a_policy_file_is_refused_at_the_door(tmp_path: Path) -> None:
    from onetouch.cli import app

    file = tmp_path / "mine.yaml"
    file.write_text("routing: {rules: {open_tickts: {at_least: 3}, cooldown: {}}}")
    read_policy(file)  # the policy's room knows no rules
    with pytest.raises(PolicyError, match=r"mine.yaml: routing.rules.open_tickts: no such rule"):
        open_workspace(tmp_path / "home", file)
    said = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert said.exit_code == 1
    assert "mine.yaml: routing.rules.cooldown: this rule has no parameters" in said.stderr


def test_a_rule_that_is_left_out_leaves_its_accounts_to_the_others() -> None:
    """Also the last but one: whom no rule takes before the reps are looked at is assigned all the same."""

    def nobody(facts: Facts, policy: Policy) -> Mask:
        return np.zeros(len(facts), dtype=bool)

    given = inputs(accounts({**PQL, "premium_attempts": 0, "invites": 0}))
    assert decide(given, POLICY, AS_OF)["rule"].tolist() == ["tier medium"]
    without = tuple(replace(rule, applies=nobody) if rule.name == "tier medium" else rule for rule in RULES)
    got = decide(given, POLICY, AS_OF, without)
    assert (got["rule"].tolist(), got["action"].tolist()) == (["no PQL"], [NURTURE])
