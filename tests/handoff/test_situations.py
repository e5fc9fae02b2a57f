"""Why now: the first situation that fits, in texts that hold nothing but what is known."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES, SNAPSHOT_COLUMNS
from onetouch.crm.salesforce.fields import context_fields, task_fields
from onetouch.handoff import account_context, alert, dossier, first_message, task_content
from onetouch.handoff.facts import known_facts
from onetouch.handoff.situations import why_now
from onetouch.handoff.words import clause, in_words, label
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.policy.schema import FACTS, FOR_CUSTOMER, PLAN_FACTS, Condition, Message, Situation

from tests.handoff.former import former_policy

POLICY = former_policy()
AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
LIMIT = {"limit_name": "api_calls", "limit_used": 9_200.0, "limit_cap": 10_000.0}

EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "hand raised": ({"demo_requests": 1.0}, {"demo_requests": 0.0}),
    "limit hit": ({**LIMIT, "limit_share": 1.0}, {"limit_share": 0.9999}),
    "outgrowing the plan": (
        {**LIMIT, "limit_share": 0.8, "limit_held_days": 14.0, "arr": 100.0},
        {"limit_held_days": 13.0},
    ),
    "limit near, with a date": ({**LIMIT, "limit_share": 0.8, "limit_days_left": 90.0}, {"limit_days_left": 90.5}),
    "limit near": ({**LIMIT, "limit_share": 0.8}, {"limit_share": 0.7999}),
    "premium attempt": ({"premium_attempts": 1.0, "premium_attempted": ["sso"]}, {"premium_attempted": []}),
    "premium attempt, unnamed": ({"premium_attempts": 1.0}, {"premium_attempts": 0.0}),
    "abandoned checkout": ({"checkouts_abandoned": 1.0}, {"checkouts_abandoned": 0.0}),
    "plan question": ({"plan_questions": 1.0}, {"plan_questions": 0.0}),
    "limit reached recently": ({"limits_reached": 1.0}, {"limits_reached": 0.0}),
    "security review": ({"admin_actions": 1.0}, {"admin_actions": 0.0}),
    "pricing": ({"pricing_views": 1.0}, {"pricing_views": 0.0}),
    "support tickets": ({"tickets": 2.0}, {"tickets": 1.0}),
    "failing actions": ({"failed_actions": 25.0}, {"failed_actions": 24.0}),
    "team growing": ({"invites": 2.0}, {"invites": 1.0}),
    "usage accelerating": ({"usage_growth_7d": 1.5}, {"usage_growth_7d": 1.49}),
    "developers building": ({"developer_days": 5.0}, {"developer_days": 4.0}),
    "integrations": ({"integrations": 3.0}, {"integrations": 2.0}),
    "team at work": ({"users": 5.0}, {"users": 4.0}),
    "steady use": ({}, {"users": 5.0}),
}
"""Each situation of the default policy: an account just inside it, and what moves that account just outside."""

NAMES = [situation.name for situation in POLICY.situations]


def message_with(**texts: Any) -> Message:
    """The message of the policy, with other texts."""
    return Message.model_validate(POLICY.message.model_dump() | texts)


def chosen(row: dict[str, Any], policy: Policy = POLICY) -> str:
    return why_now(known_facts({}, row), policy).situation


# ── the default table ────────────────────────────────────────────────────────────────────────────


def test_every_default_situation_has_an_example() -> None:
    assert list(EXAMPLES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_situation_begins_at_its_threshold(name: str) -> None:
    row, outside = EXAMPLES[name]
    assert chosen(row) == name
    assert chosen(row | outside) != name


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_the_first_that_fits_is_told(place: int) -> None:
    row: dict[str, Any] = {}
    for name in reversed(NAMES[place:]):
        row |= EXAMPLES[name][0]
    # What a text needs beyond its conditions may come from another example, or belong to one higher up.
    assert NAMES.index(chosen(row)) <= place
    assert chosen(EXAMPLES[NAMES[place]][0]) == NAMES[place]


def test_who_asked_comes_first_and_who_is_stopped_before_who_soon_will_be() -> None:
    everything: dict[str, Any] = {}
    for row, _ in EXAMPLES.values():
        everything |= row
    everything |= {"limit_share": 1.0}
    order = ["demo_requests", "limit_share", "premium_attempts", "checkouts_abandoned"]
    found = []
    for signal in order:
        found.append(chosen(everything))
        everything |= {signal: 0.0}
    assert found == ["hand raised", "limit hit", "premium attempt", "abandoned checkout"]


def test_what_a_text_would_claim_without_the_fact_is_not_told() -> None:
    row = EXAMPLES["limit near"][0]
    for fact in LIMIT:
        assert chosen(row | {fact: None}) == "steady use"
    assert chosen(EXAMPLES["outgrowing the plan"][0] | {"arr": None}) == "limit near"  # a customer? nobody knows
    assert chosen(EXAMPLES["outgrowing the plan"][0] | {"arr": 0.0}) == "limit near"


def test_what_else_fits_is_named_once_a_signal_and_never_the_one_that_fits_all() -> None:
    row = EXAMPLES["limit near, with a date"][0] | EXAMPLES["premium attempt"][0]
    row |= {"pricing_views": 2.0, "users": 9.0, "integrations": 4.0}
    told = why_now(known_facts({}, row), POLICY)
    assert told.also == ["tried SSO, not in the plan", "looked at pricing twice", "4 integrations connected"]
    assert "\n  Also: tried SSO, not in the plan; looked at pricing twice; 4 int" in dossier(
        {"account_id": "a"}, row, POLICY
    )
    assert why_now(known_facts({}, {"users": 9.0}), POLICY).also == []


def test_paying_asks_for_what_is_known_of_the_revenue() -> None:
    free = Situation(name="free", paying=False, headline="free", approach="a", offer="o")
    policy = POLICY.model_copy(update={"situations": [free, *POLICY.situations]})
    assert chosen({"arr": 0.0}, policy) == "free"
    assert chosen({"arr": 1.0}, policy) == "steady use"
    assert chosen({}, policy) == "steady use"


# ── words ────────────────────────────────────────────────────────────────────────────────────────

FULL: dict[str, Any] = {
    **{column.name: "Something" for column in SNAPSHOT_COLUMNS if column.fact and column.kind.is_text},
    **{column.name: 3.0 for column in SNAPSHOT_COLUMNS if column.fact and column.kind.is_number},
    **dict.fromkeys(SIGNAL_NAMES, 3.0),
    **{f"{name}_at": AS_OF for name in MOMENTS},
    **LIMIT,
    "limit_share": 0.92,
    "name": "Acme", "domain": "acme.example", "industry": "Software", "region": "EMEA", "plan": "team",
    "funding_stage": "Seed", "trend": "growing", "tier": "high", "score": 61.5, "employees": 1200, "seats": 1,
    "arr": 12_000.4, "potential_arr": 1_250_000.0, "timezone": "Europe/Berlin",
    "features_used_list": ["alerts", "api", "exports", "dashboards", "csv_export"], "features_unused": ["audit_log"],
    "premium_attempted": ["sso", "audit_log"], "milestones_left": ["teammate_invited"], "as_of": AS_OF,
    "failures": [{"name": "import", "times": 3}],
}  # fmt: skip
USED = {"features_by_use": [{"name": "api", "times": 12}, {"name": "alerts", "times": 1}]}


def test_every_fact_a_text_may_name_has_words() -> None:
    words = in_words(known_facts({}, FULL | USED), POLICY)
    assert set(words) | set(PLAN_FACTS) == set(FACTS)
    assert not [name for name, text in words.items() if "_" in text or not text]


def test_facts_in_words() -> None:
    words = in_words(known_facts({}, FULL), POLICY)
    expected = {
        "name": "Acme", "users": "3 users", "seats": "1 seat", "employees": "1,200 employees", "limit_share": "92 %",
        "limit_name": "API calls", "limit_used": "9,200", "arr": "$12,000", "potential_arr": "$1,250,000",
        "premium_attempted": "SSO and audit log", "features_used": "alerts, API, exports and 2 more",
        "milestones_left": "teammate invited", "limit_days_left": "3 days", "pricing_views": "3 times",
        "usage_growth_7d": "3 times", "developer_days": "3 of 28 days", "invites": "3 teammates",
        "invites_at": "Tue 18 Nov", "score": "61.5",
    }  # fmt: skip
    assert {name: words[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("users", 1.0, "1 user"),
        ("users", 1.04, "1 user"),  # as printed, so grammar follows the print
        ("invites", 2.0, "2 teammates"),
        ("pricing_views", 1.0, "once"),
        ("usage_growth_7d", 2.04, "twice"),
        ("usage_growth_7d", 2.53, "2.5 times"),
        ("limit_share", 0.996, "99 %"),  # not yet hit
        ("limit_share", 1.004, "100 %"),
        ("limit_days_left", 0.3, "1 day"),
        ("limit_days_left", 5.7, "6 days"),
        ("plan_questions", 2.0, "2 questions about plans"),
        ("invites", 0.0, None),
        ("limit_days_left", 0.0, None),
        ("limit_days_left", 91.0, None),
        ("users", -3.0, None),
    ],
)
def test_numbers_read_well_and_none_at_all_is_a_lack(name: str, value: float, said: str | None) -> None:
    assert in_words(known_facts({}, {name: value}), POLICY).get(name) == said


def test_a_foreign_word_stays_short_in_a_sentence() -> None:
    words = in_words(known_facts({}, {"name": "n" * 200, "plan": "p" * 200, "premium_attempted": ["x" * 200]}), POLICY)
    assert [len(words[name]) for name in ("name", "plan", "premium_attempted")] == [80, 80, 80]
    assert all(words[name].endswith("…") for name in ("name", "plan", "premium_attempted"))


def test_a_moment_is_told_in_the_customers_zone() -> None:
    late = datetime(2025, 11, 18, 23, 30, tzinfo=UTC)
    row = {"invites_at": late, "timezone": "Asia/Tokyo"}
    assert in_words(known_facts({}, row), POLICY)["invites_at"] == "Wed 19 Nov"


def test_every_signal_has_a_label_and_every_moment_a_clause() -> None:
    labels = {signal: label(signal, POLICY) for signal in SIGNAL_NAMES}
    assert not [name for name in labels.values() if "_" in name or re.search(r"\d\dd\b", name)]
    assert len(set(labels.values())) == len(SIGNAL_NAMES)
    clauses = {signal: clause(signal, POLICY) for signal in MOMENTS}
    assert not [signal for signal, text in clauses.items() if "_" in text or text == labels[signal]]


def test_a_policy_with_other_windows_is_not_told_the_usual_ones() -> None:
    windows = POLICY.signals.model_copy(update={"recent_days": 30, "engagement_days": 10, "lookback_days": 60})
    policy = POLICY.model_copy(update={"signals": windows})
    decision = {"account_id": "a", "as_of": AS_OF, "reasons": []}
    text = dossier(decision, FULL, policy) + first_message(decision, FULL, policy)
    assert not re.search(r"\b(28|14|90)\b", text)


# ── what a policy may say ────────────────────────────────────────────────────────────────────────


def refused(tmp_path: Path, **texts: Any) -> str:
    """What is said of a policy whose one situation besides the last has these texts."""
    mine = {"name": "mine", "headline": "h", "approach": "a", "offer": "o"} | texts
    last = {"name": "last", "headline": "h", "approach": "a", "offer": "o"}
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump({"situations": [mine, last]}))
    with pytest.raises(PolicyError) as error:
        read_policy(file)
    said = str(error.value)
    assert said.startswith(f"{file}: situations")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("field", ["headline", "approach", "offer"])
def test_an_unknown_fact_is_refused_when_the_policy_is_read(tmp_path: Path, field: str) -> None:
    said = refused(tmp_path, **{field: "at {limit_shar} of it"})
    assert f"{field} of situation 'mine': {{limit_shar}} may not be named here; did you mean {{limit_share}}?" in said
    assert "allowed: name, product, domain" in said


@pytest.mark.parametrize(
    "text",
    [
        "{", "}", "{}", "{0}", "{name!r}", "{name.__class__}", "{name[0]}", "{limit_share:.0%}", "{{name}}", "{ name }",
        "{Name}", "{name", "name}", "{% if name %}", "${name}}", "{näme}", "{na\nme}",
    ],
)  # fmt: skip
def test_braces_hold_the_name_of_a_fact_and_nothing_else(tmp_path: Path, text: str) -> None:
    assert "a brace that names no fact" in refused(tmp_path, offer=f"We {text} you")


@pytest.mark.parametrize("text", ["a\u202eb", "a\x00b", "a\u200bb", "\ue000"])
def test_a_text_holds_nothing_that_cannot_be_seen(text: str) -> None:
    with pytest.raises(ValueError, match="which cannot be seen; remove it"):
        Situation(name="mine", headline="h", approach="a", offer=text)


def test_a_blank_text_is_refused(tmp_path: Path) -> None:
    assert "headline of situation 'mine': is blank" in refused(tmp_path, headline=" \n")


@pytest.mark.parametrize("fact", sorted(set(FACTS) - set(FOR_CUSTOMER)))
def test_what_intrudes_is_never_told_to_the_customer(tmp_path: Path, fact: str) -> None:
    assert f"{{{fact}}} may not be named here" in refused(tmp_path, offer=f"I saw {{{fact}}}")
    Situation(name="n", headline=f"{{{fact}}}", approach=f"{{{fact}}}", offer="o")  # the rep may know
    for field in ("opening", "closing"):
        message = POLICY.message.model_dump() | {field: f"I saw {{{fact}}}"}
        with pytest.raises(ValueError, match=f"{field} of the message"):
            Message.model_validate(message)


def test_usage_is_the_openings_alone(tmp_path: Path) -> None:
    assert "{usage} may not be named here" in refused(tmp_path, offer="{usage}")
    with pytest.raises(ValueError, match="closing of the message: {usage}"):
        message_with(opening="{usage}", closing="{usage}", max_chars=500)


@pytest.mark.parametrize(
    "last",
    [
        {"when": [{"signal": "users", "at_least": 1}]},
        {"paying": True},
        {"paying": False},
        {"headline": "{users}"},
        {"approach": "{plan}"},
        {"offer": "{product}"},
    ],
)
def test_the_last_situation_must_fit_every_account(tmp_path: Path, last: dict[str, Any]) -> None:
    file = tmp_path / "policy.yaml"
    texts = {"name": "last", "headline": "{name}", "approach": "a", "offer": "o"}
    file.write_text(yaml.safe_dump({"situations": [texts | last]}))
    with pytest.raises(PolicyError, match=r"the last situation \(last\) must fit every account"):
        read_policy(file)
    file.write_text(yaml.safe_dump({"situations": [texts]}))
    assert read_policy(file).situations[0].facts == {"name"}


def test_two_situations_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "named twice: last" in refused(tmp_path, name="last")


# ── the first message ────────────────────────────────────────────────────────────────────────────


def test_a_sentence_that_names_what_is_not_known_is_left_out() -> None:
    message = message_with(opening="Hello {name}. You are on {plan}.", closing="Bye. See {plan}.", max_chars=400)
    policy = POLICY.model_copy(update={"message": message})
    decision = {"account_id": "a", "as_of": AS_OF}
    assert first_message(decision, {"name": "A"}, policy) == (
        "Hi,\n\nHello A. I can help with whatever you want to set up next.\n\nBye."
    )
    assert "You are on team." in first_message(decision, {"name": "A", "plan": "team"}, policy)


def test_a_long_message_says_less_of_the_usage_then_leaves_out_whole_sentences() -> None:
    decision, said = {"account_id": "a", "as_of": AS_OF}, []
    for limit in (600, 380, 300, 200):
        message = POLICY.message.model_copy(update={"max_chars": limit})
        said.append(first_message(decision, FULL, POLICY.model_copy(update={"message": message})))
        assert len(said[-1]) <= limit
        assert said[-1].endswith((".", "?", "!"))
    assert "connected integrations, and uses alerts" in said[0]
    assert said[0].endswith("there is no need to reply.")
    assert "uses alerts" not in said[1]
    assert [text.count(".") for text in said] == sorted((text.count(".") for text in said), reverse=True)


def test_no_message_is_longer_than_its_limit_and_each_step_says_as_much_as_fits() -> None:
    said = []
    for limit in range(200, 620):
        message = POLICY.message.model_copy(update={"max_chars": limit})
        policy = POLICY.model_copy(update={"message": message})
        said.append(first_message({"account_id": "a", "as_of": AS_OF}, FULL, policy))
        assert len(said[-1]) <= limit
    lengths = [len(text) for text in said]
    assert max(lengths) < 619, "the longest limit must hold it all"
    shown = {("connected integrations" in text, "uses alerts" in text, "no need to reply" in text) for text in said}
    assert shown >= {(True, True, True), (True, False, True), (False, False, True), (False, False, False)}


def test_a_name_with_full_stops_is_no_end_of_a_sentence() -> None:
    message = POLICY.message.model_copy(update={"max_chars": 200})
    row = FULL | {"name": "Acme Inc. Of Old. Town", "features_used_list": None, "integrations": 0, "users": 1}
    text = first_message({"account_id": "a"}, row, POLICY.model_copy(update={"message": message}))
    assert not text.endswith(("Inc.", "Old."))


def test_a_policy_whose_first_sentence_is_too_long_is_cut_at_a_word() -> None:
    message = message_with(opening="word " * 79 + "end.", closing="", max_chars=200)
    policy = POLICY.model_copy(update={"message": message})
    offer = POLICY.situations[-1].model_copy(update={"offer": ["longer " * 50 + "end."]})
    text = first_message({"account_id": "a"}, {}, policy.model_copy(update={"situations": [offer]}))
    assert len(text) <= 200
    assert text.endswith("word…")


# ── the dossier ──────────────────────────────────────────────────────────────────────────────────


def test_the_dossier_says_how_the_account_came_to_this_rep() -> None:
    at = AS_OF - timedelta(hours=3)
    row = FULL | {"invites_at": at, "pricing_views_at": at, "demo_requests": 2.0}
    decision = {"account_id": "a", "as_of": AS_OF, "score": 41.0, "score_before": 30.0, "score_trend": "rising"}

    def said(**more: Any) -> str:
        return dossier(decision | more, row, POLICY, "America/New_York")

    assert "Score trend: rising, from 30 at least 7 days earlier" in said()
    watched = "Was watched; then they looked at pricing and invited a teammate (Tue 18 Nov 2025, 08:00 CET)"
    assert watched in said(call="trigger", trigger_at=at)
    assert "Was watched until something new happened" in said(call="trigger")
    assert "Raised a hand: asked to talk to someone" in said(call="hand_raised")
    assert "A paying customer outgrowing the plan" in said(call="expansion")
    assert "Product-qualified" in said(call="pql")
    assert "You own the account in the CRM" in said(assigned_by="owner")
    assert "lies in your territory (DACH)\n" in said(assigned_by="territory DACH")
    assert "lies in your territory (DACH) and its score asks for a senior" in said(assigned_by="territory DACH, senior")
    assert "it was your turn" in said(assigned_by="round robin")
    assert "WHY YOU" not in said(assigned_by="")
    best = "Best moment: Tue 18 Nov 2025, 11:15 CET (their time, for you Tue 18 Nov 2025, 05:15 EST)"
    assert best in said(contact_at=AS_OF + timedelta(minutes=15))
    due = "First message due: Tue 18 Nov 2025, 07:00 EST (your time)"
    assert due in said(due_at=AS_OF + timedelta(hours=2))


@pytest.mark.parametrize(
    ("call", "tier", "said"),
    [
        ("hand_raised", "low", "High"), ("expansion", "low", "High"), ("pql", "high", "High"),
        ("trigger", "medium", "Medium"), ("trigger", "high", "Medium"), ("", "low", "Low"), (None, "high", "High"),
        (None, None, "Medium"),
    ],
)  # fmt: skip
def test_a_task_is_as_urgent_as_its_call(call: str | None, tier: str | None, said: str) -> None:
    decision = {"account_id": "a", "call": call, "tier": tier}
    task = task_content(decision, {"name": "Acme"}, POLICY)
    assert task.subject == f"[{said}] Acme — steady use of the product"
    assert task.priority == said.lower()
    assert alert(decision, {}, POLICY).text.startswith(f"{said} priority: " if call or tier else "this account —")


def test_without_reasons_nothing_is_added_up() -> None:
    assert "ADDS UP" not in dossier({"account_id": "a", "score": 3.0, "reasons": []}, {}, POLICY)


def test_what_was_tried_before_is_told_from_the_ledger_and_nothing_invented() -> None:
    decision = {"account_id": "a", "as_of": AS_OF}
    before = {
        "decided_at": AS_OF - timedelta(days=120), "touched_at": AS_OF - timedelta(days=119),
        "closed_at": AS_OF - timedelta(days=112), "state": "released", "signals": ["invites", "limit_share"],
    }  # fmt: skip
    text = dossier(decision, FULL, POLICY, before=before)
    assert (
        "TRIED BEFORE\n  Handed to sales: 21 Jul 2025\n  First message: 22 Jul 2025\n"
        "  Ended: 29 Jul 2025, they did not answer\n"
        "  What a rep was called for: Invitations in 28 days; Share of the plan limit in use\n"
    ) in text
    assert "First message:" not in dossier(decision, FULL, POLICY, before=before | {"touched_at": None})
    for nothing in (None, {}, {"state": "released"}):
        assert "TRIED BEFORE" not in dossier(decision, FULL, POLICY, before=nothing)


def test_the_timeline_runs_from_the_earliest_to_the_latest() -> None:
    row = {
        "timezone": "Asia/Tokyo", "signed_up_at": AS_OF - timedelta(days=36),
        "first_seen_at": AS_OF - timedelta(days=36), "tickets_at": AS_OF - timedelta(days=2),
        "invites_at": AS_OF - timedelta(hours=20),
        "activated_at": AS_OF - timedelta(days=30), "last_seen_at": AS_OF - timedelta(hours=1),
    }  # fmt: skip
    text = dossier({"account_id": "a", "as_of": AS_OF}, row, POLICY)
    assert (
        "TIMELINE\n  13 Oct 2025 (36 days ago): signed up\n  19 Oct 2025 (30 days ago): activated\n"
        "  16 Nov 2025 (2 days ago): last support ticket\n  17 Nov 2025 (yesterday): last teammate invited\n"
        "  18 Nov 2025 (today): last seen in the product"
    ) in text


def test_points_that_fade_say_when_it_last_happened() -> None:
    reasons = [
        {"signal": "invites", "value": 2.0, "points": 12.1},
        {"signal": "users", "value": 4.0, "points": 8.0},
    ]
    row = {"invites_at": AS_OF - timedelta(days=9)}
    decision = {"account_id": "a", "as_of": AS_OF, "score": 20.1, "usage_score": 18.1, "reasons": reasons}
    assert dossier(decision, row, POLICY).endswith(
        "HOW THE SCORE ADDS UP\n  Invitations in 28 days: 2 → 12.1 points (the last one 9 days ago)\n"
        "  Users: 4 → 8 points\n  Together 20.1 points\n  Of these from use, which alone decides the tier: 18.1 points"
    )


def test_every_reason_is_itemised_however_many_there_are() -> None:
    reasons = [{"signal": name, "value": 1.0, "points": 1.0} for name in SIGNAL_NAMES]
    text = dossier({"account_id": "a", "score": float(len(SIGNAL_NAMES)), "reasons": reasons}, {}, POLICY)
    assert text.count("→ 1 point") == len(SIGNAL_NAMES)
    assert "Not itemised" not in text


def printed(text: str) -> tuple[list[float], float]:
    """Points as the dossier prints them, and their sum as it prints it."""
    section = text.partition("HOW THE SCORE ADDS UP\n")[2]
    points = [float(said.replace(",", "")) for said in re.findall(r"→ (-?[\d.,]+) points?\b", section)]
    (together,) = re.findall(r"Together (-?[\d.,]+) points?\b", section)
    return points, float(together.replace(",", ""))


points = st.floats(-1e6, 1e6) | st.sampled_from([0.05, 0.15, 12.05, 1e-9])


@settings(max_examples=100)
@given(st.lists(points, min_size=1, max_size=20), st.floats(0, 1e6))
def test_the_points_add_up_as_printed(each: list[float], score: float) -> None:
    reasons = [{"signal": SIGNAL_NAMES[i], "value": float(i), "points": p} for i, p in enumerate(each)]
    text = dossier({"account_id": "a", "score": score, "reasons": reasons}, {}, POLICY)
    if "HOW THE SCORE" in text:
        itemised, together = printed(text)
        assert round(sum(itemised), 1) == pytest.approx(together, abs=1e-6)
        assert f"Score: {re.findall(r'Together (.*?) point', text)[0]}" in text


# ── whatever a policy says and the data holds ────────────────────────────────────────────────────

HOSTILE = [
    "{name}", "{0.__class__.__mro__}", "{{7*7}}", "{", "}", "%s%n", "${x}", "<!channel>", "a\r\nBcc: x", "\ud800",
    "\u202eevil", "\x00\x1b[31m", "x" * 100_000, "word " * 20_000, "\u0301" * 500, "Acme. Inc! Really? Yes.",
]  # fmt: skip
texts = st.text(max_size=60) | st.sampled_from(HOSTILE)
numbers = st.none() | st.floats() | st.integers(-5, 40) | st.sampled_from([0.8, 0.9999, 1.0, 1e14, True])
moments = st.none() | st.integers(-120, 20).map(lambda days: AS_OF + timedelta(days=days, hours=1))
names = st.none() | st.lists(texts, max_size=25) | st.lists(texts, max_size=3).map(lambda v: np.array(v, dtype=object))
anything = st.none() | numbers | texts | moments | names | st.just(pd.NaT) | st.just(pd.NA)

KINDS: dict[str, Any] = {
    **dict.fromkeys(SIGNAL_NAMES, numbers),
    **dict.fromkeys(["employees", "seats", "arr", "potential_arr", "limit_used", "limit_cap", "usual_hour"], numbers),
    **dict.fromkeys([f"{name}_at" for name in MOMENTS], moments),
    **dict.fromkeys(["signed_up_at", "activated_at", "first_seen_at", "last_seen_at"], moments),
    **dict.fromkeys(["name", "domain", "industry", "region", "plan", "funding_stage", "trend", "timezone"], texts),
    **dict.fromkeys(["limit_name", "top_user"], texts),
    **dict.fromkeys(["features_used_list", "features_unused", "premium_attempted", "milestones_left"], names),
    "usual_weekday": numbers,
}
decisions = st.fixed_dictionaries(
    {"account_id": texts, "as_of": moments},
    optional={
        "score": numbers, "usage_score": numbers, "score_before": numbers, "potential_arr": numbers,
        "tier": st.sampled_from(["high", "medium", "low", None]) | texts, "score_trend": texts, "motion": texts,
        "call": st.sampled_from(["pql", "hand_raised", "expansion", "trigger", ""]) | texts, "assigned_by": texts,
        "due_at": moments, "contact_at": moments, "trigger_at": moments, "policy_version": texts,
        "reasons": st.lists(
            st.fixed_dictionaries(
                {"signal": st.sampled_from(SIGNAL_NAMES) | texts, "value": numbers, "points": numbers}
            ),
            max_size=5,
        ) | anything,
    },
)  # fmt: skip
rows = st.fixed_dictionaries({}, optional={name: kind | anything for name, kind in KINDS.items()})

literal = st.text(st.characters(exclude_characters="{}", exclude_categories=["C", "Z"]), min_size=1, max_size=25)


def templates(facts: tuple[str, ...], longest: int) -> st.SearchStrategy[str]:
    """Texts a policy may hold."""
    piece = literal | st.sampled_from(facts).map(lambda fact: f"{{{fact}}}")
    return st.lists(piece, min_size=1, max_size=5).map(" ".join).filter(lambda text: 0 < len(text) <= longest)


conditions = st.builds(
    Condition, signal=st.sampled_from(SIGNAL_NAMES), at_least=st.sampled_from([-1.0, 0.0, 0.8, 1.0, 3.0])
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    def situation(place: int, facts: tuple[str, ...], customer: tuple[str, ...], **more: Any) -> Situation:
        return Situation(
            name=f"s{place}",
            headline=draw(templates(facts, 120)),
            approach=draw(templates(facts, 400)),
            offer=draw(templates(customer, 400)),
            **more,
        )

    table = [
        situation(
            place,
            FACTS,
            FOR_CUSTOMER,
            when=draw(st.lists(conditions, max_size=2)),
            paying=draw(st.sampled_from([None, None, True, False])),
        )
        for place in range(draw(st.integers(0, 4)))
    ]
    table.append(situation(99, ("name",), ("name",)))
    message = message_with(
        opening=draw(templates((*FOR_CUSTOMER, "usage"), 400)),
        closing=draw(templates(FOR_CUSTOMER, 400)),
        max_chars=draw(st.sampled_from([200, 201, 400, 1400, 4000])),
    )
    return POLICY.model_copy(update={"situations": table, "message": message})


COLUMN = {"features_used": "features_used_list"}


def held(row: dict[str, Any], fact: str) -> bool:
    """Whether the row holds that fact, looked at as simply as can be."""
    value = row.get(COLUMN.get(fact, fact))
    if isinstance(value, float | int):
        return value > 0  # NaN is not
    return value is not None and value is not pd.NaT and value is not pd.NA and len(str(value)) > 0


@settings(max_examples=300)
@given(policies(), decisions, rows, st.none() | texts)
def test_whatever_a_policy_says_and_the_data_holds(
    policy: Policy, decision: dict[str, Any], row: dict[str, Any], zone: str | None
) -> None:
    task = task_fields(task_content(decision, row, policy, zone, row))
    fields = context_fields(account_context(decision, row, policy))
    message = first_message(decision, row, policy)
    line = alert(decision, row, policy, zone).text
    json.dumps([task, fields, message, line], allow_nan=False).encode()

    assert 0 < len(task["Subject"]) <= 255
    assert "\n" not in task["Subject"] + line
    assert len(task["Description"]) <= 32_000
    assert len(fields["Onetouch_Dossier__c"]) <= 32_000
    assert len(fields["Onetouch_Trigger__c"]) <= 255
    assert message.startswith("Hi,")
    assert len(message) <= policy.message.max_chars
    assert len(line) <= 600

    both = row | decision
    told = why_now(known_facts(decision, row), policy)
    (situation,) = [s for s in policy.situations if s.name == told.situation]
    for fact in situation.facts - {"name", "product"}:
        assert held(both, fact), f"{fact} is claimed of {both.get(COLUMN.get(fact, fact))!r}"
    for condition in situation.when:
        assert both[condition.signal] >= condition.at_least
    for text in [task["Subject"], task["Description"], message, line, told.headline, told.approach, *told.offer]:
        assert not set(text) & {"\x00", "\x1b", "\r", "\u202e", "\ud800"}


@settings(max_examples=150)
@given(st.sampled_from(HOSTILE[:8]), st.sampled_from(["name", "plan", "limit_name", "premium_attempted"]))
def test_a_value_is_never_read_as_a_text(value: str, fact: str) -> None:
    mine = Situation(name="mine", headline=f"<{{{fact}}}>", approach="a", offer=f"[{{{fact}}}] {{users}}")
    policy = POLICY.model_copy(update={"situations": [mine, POLICY.situations[-1]]})
    row = {"users": 4.0, fact: [value] if fact == "premium_attempted" else value}
    told = why_now(known_facts({}, row), policy)
    shown = (
        value.replace("\r\n", " ").replace("\n", " ").replace("_", " " if fact != "name" and fact != "plan" else "_")
    )
    assert told.headline == f"<{shown if fact == 'name' else ' '.join(shown.replace('_', ' ').split())}>"
    assert told.offer[-1].endswith("] 4 users") or "4 users" in told.offer[0]


def test_ten_megabytes_are_read_in_no_time_and_told_in_a_few_words() -> None:
    row = FULL | {"name": "{name}" * 1_700_000, "plan": "a b" * 3_400_000, "premium_attempted": ["x" * 10_000_000] * 40}
    decision = {"account_id": "a" * 10_000_000, "as_of": AS_OF, "call": "b" * 10_000_000}
    started = datetime.now(UTC)
    task = task_content(decision, row, POLICY)
    assert len(task.subject) <= 255
    assert len(task.description) < 8_000
    assert datetime.now(UTC) - started < timedelta(seconds=2)
