"""What the default policy says to a customer: the strongest thing, in few words, true, and with one question."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.catalogue import MOMENTS, SIGNALS, Format
from onetouch.handoff import account_context, dossier, first_message, task_content
from onetouch.handoff.facts import first_name, known_facts
from onetouch.handoff.situations import why_now
from onetouch.handoff.words import since
from onetouch.policy import Policy, read_policy
from onetouch.policy.schema import Aside, Message, Situation
from onetouch.simulation import PLANS

POLICY = read_policy().changed(product__plans=[dict(plan) for plan in PLANS])
AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)  # a Tuesday
DAY = timedelta(days=1)
LIMIT = {"limit_name": "api_calls", "limit_used": 920.0, "limit_cap": 1_000.0, "limit_share": 0.92}
FULL_UP = LIMIT | {"limit_used": 1_000.0, "limit_share": 1.0}

TEAM: dict[str, Any] = {
    "account_id": "a", "name": "Prairie Software", "domain": "prairie.example", "plan": "free", "arr": 0.0,
    "active_users": 8.0, "timezone": "Europe/Berlin",
    "features_by_use": [
        {"name": "automations", "times": 212}, {"name": "api", "times": 87}, {"name": "alerts", "times": 1},
    ],
    "features_used_list": ["alerts", "api", "automations"],
}  # fmt: skip
"""An account in no situation but the last."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "hand raised": {"demo_requests": 1.0},
    "limit hit": FULL_UP,
    "outgrowing the plan": {**LIMIT, "limit_held_days": 14.0, "arr": 3600.0},
    "limit near, with a date": {**LIMIT, "limit_days_left": 9.0},
    "limit near": LIMIT,
    "premium attempt": {"premium_attempts": 1.0, "premium_attempted": ["sso"]},
    "premium attempt, unnamed": {"premium_attempts": 1.0},
    "abandoned checkout": {"checkouts_abandoned": 1.0},
    "plan question": {"plan_questions": 1.0},
    "limit reached recently": {"limits_reached": 1.0},
    "security review": {"admin_actions": 1.0},
    "pricing": {"pricing_views": 3.0},
    "demo watched": {"demos_watched": 1.0},
    "support tickets": {"tickets": 2.0},
    "failing actions": {"failed_actions": 25.0, "failed_share": 0.1},
    "team growing": {"invites": 2.0},
    "usage accelerating": {"usage_growth_7d": 1.5},
    "developers building": {"developer_days": 5.0},
    "integrations": {"integrations": 3.0},
    "team at work": {"users": 5.0},
    "steady use": {},
}
UNLOCKED = {
    "limit hit": "Team", "outgrowing the plan": "Team", "limit near, with a date": "Team", "limit near": "Team",
    "premium attempt": "Business", "abandoned checkout": "Team", "plan question": "Team", "pricing": "Team",
    "limit reached recently": "Team", "team at work": "Team",
}  # fmt: skip
"""The situations of a free account that a plan unlocks, and that plan."""

SAYS_WHEN = {"hand raised", "premium attempt", "premium attempt, unnamed", "plan question", "limit reached recently",
             "security review", "support tickets", "failing actions", "team growing"}  # fmt: skip


def decided(**more: Any) -> dict[str, Any]:
    return {"account_id": "a", "as_of": AS_OF} | more


def earned(**points: float) -> list[dict[str, Any]]:
    return [{"signal": signal, "value": 1.0, "points": worth} for signal, worth in points.items()]


def told(row: dict[str, Any], policy: Policy = POLICY, **decision: Any) -> str:
    return why_now(known_facts(decided(**decision), row), policy).situation


def ago(days: float, *signals: str) -> dict[str, Any]:
    return {f"{signal}_at": AS_OF - days * DAY for signal in signals}


def moments_of(row: dict[str, Any], days: float) -> dict[str, Any]:
    return ago(days, *(signal for signal in MOMENTS if signal in row))


# ── every message of every situation ─────────────────────────────────────────────────────────────


def check(message: str, name: str) -> None:
    """What every first message has to be, whatever the account."""
    assert len(message.split()) <= 120, message
    assert message.count("?") == 1, message
    assert not re.search(r"[{}]|\bnan\b|None|null|  |\.\.|u_\d", message), message
    assert not re.search(r"\b(demo|score|points|hurry|urgent|discount|pricing)\b", message), message
    assert message.split("\n")[0] == f"Hello to the team at {name}," or message.startswith("Hi "), message


def test_every_default_situation_has_an_example() -> None:
    assert list(EXAMPLES) == [situation.name for situation in POLICY.situations]
    assert all(situation.question for situation in POLICY.situations)


@pytest.mark.parametrize("days", [0, 1, 5, 12, 26])
@pytest.mark.parametrize("name", EXAMPLES)
def test_each_message_is_short_true_and_asks_one_thing(name: str, days: int) -> None:
    row = TEAM | EXAMPLES[name] | moments_of(EXAMPLES[name], days)
    message = first_message(decided(), row, POLICY)
    assert told(row) == name
    check(message, "Prairie Software")
    assert "8 active users" in message
    assert "has used automations 212 times, the API 87 times and alerts once in the last 28 days" in message
    assert (UNLOCKED.get(name, "") in message) and (name in UNLOCKED or "plan holds" not in message)
    said = since(AS_OF - days * DAY, AS_OF, ZoneInfo("Europe/Berlin"))
    assert (said in message) is (name in SAYS_WHEN)
    if days:
        assert not re.search(r"\btoday\b", message)


def test_a_person_is_greeted_by_first_name_and_a_team_as_a_team() -> None:
    assert first_message(decided(), TEAM | {"contact_name": "Dr. Ana María Ruiz"}, POLICY).startswith("Hi Ana,\n\n")
    assert first_message(decided(), TEAM, POLICY).startswith("Hello to the team at Prairie Software,\n\n")
    assert first_message(decided(), {}, POLICY).startswith("Hello,\n\n")
    assert first_message(decided(), {"name": "ana@mail.example"}, POLICY).startswith("Hello,\n\n")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Ana Ruiz", "Ana"), ("Prof. Dr. José-Luis Peña", "José-Luis"), ("RUIZ, ANA", "Ana"), ("ana ruiz", "Ana"),
        ("Ruiz, Ana", "Ana"), ("O'Neil Brown", "O'Neil"), ("McKenna", "McKenna"), ("北京", "北京"),
        ("u_00348_01", None), ("ana@x.example", None), ("A. Ruiz", None), ("", None), (None, None), ("Bot 7", None),
        (7, None), ("<!channel>", None),
    ],
)  # fmt: skip
def test_a_first_name_is_taken_from_a_full_name_or_not_at_all(name: Any, first: str | None) -> None:
    assert first_name({} if name is None else {"contact_name": name}) == first


def test_the_rep_reads_a_persons_name_nowhere_in_headline_or_alert() -> None:
    for field in ("headline", "approach", "offer", "unlock", "opening", "question", "closing"):
        with pytest.raises(ValueError, match="first_name} may not be named here"):
            Situation.model_validate(
                {"name": "n", "headline": "h", "approach": "a", "offer": "o"} | {field: "{first_name}?"}
            )


def test_who_finished_the_onboarding_is_offered_none() -> None:
    row = TEAM | EXAMPLES["limit near"]
    assert "onboarding" not in first_message(decided(), row, POLICY)
    assert "personalized onboarding for the two steps" in first_message(
        decided(), row | {"milestones_left": ["teammate_invited", "data_imported"]}, POLICY
    )
    for name in ("hand raised", "support tickets", "failing actions"):
        row = TEAM | EXAMPLES[name] | {"milestones_left": ["teammate_invited"]}
        assert "onboarding" not in first_message(decided(), row, POLICY)


# ── random accounts ──────────────────────────────────────────────────────────────────────────────

counts = st.sampled_from([0.0, 1.0, 2.0, 5.0, 30.0, 1_234.0])
amounts = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["api", "alerts", "audit_log", "bulk exports"]), "times": st.integers(1, 9_999)}
    ),
    max_size=4, unique_by=lambda item: item["name"],
)  # fmt: skip
rows = st.fixed_dictionaries(
    {"name": st.sampled_from(["Acme", "A B C D E F G H I J K L", "Ümläut & Söhne GmbH", "x" * 79])},
    optional={
        **{signal.name: counts for signal in SIGNALS if signal.format is not Format.SHARE},
        **{f"{name}_at": st.integers(0, 27 * 24).map(lambda hours: AS_OF - timedelta(hours=hours)) for name in MOMENTS},
        "failed_share": st.sampled_from([0.02, 0.5]), "limit_share": st.sampled_from([0.3, 0.8, 0.92, 1.0, 1.3]),
        "limit_held_days": st.integers(0, 90).map(float), "limit_used": st.just(920.0), "limit_cap": st.just(1_000.0),
        "limit_name": st.sampled_from(["api_calls", "seats", "storage"]), "arr": st.sampled_from([0.0, 9_000.0]),
        "plan": st.sampled_from(["free", "Team", "business", "enterprise", "legacy 2019"]),
        "contact_name": st.sampled_from(["Ana Ruiz", "u_1", "Ann-Kathrin von und zu der Mühle"]),
        "timezone": st.sampled_from(["Europe/Berlin", "Asia/Tokyo", "America/Los_Angeles"]),
        "features_by_use": amounts, "failures": amounts, "features_used_list": st.just(["alerts", "api"]),
        "premium_attempted": st.sampled_from([["sso"], ["custom_roles", "sso"], ["bulk"]]),
        "milestones_left": st.lists(st.sampled_from(POLICY.product.milestones), max_size=3, unique=True),
    },
)  # fmt: skip
reasons = st.dictionaries(st.sampled_from([s.name for s in SIGNALS]), st.floats(0, 25), max_size=8).map(
    lambda points: earned(**points)
)


@settings(max_examples=400, deadline=None)
@given(rows, reasons, st.integers(0, 96))
def test_every_message_of_every_account_keeps_the_list(
    row: dict[str, Any], points: list[dict[str, Any]], wait: int
) -> None:
    decision = decided(reasons=points, contact_at=AS_OF + timedelta(hours=wait))
    message = first_message(decision, row, POLICY)
    check(message, row["name"])
    facts = known_facts(decision, row)
    why = why_now(facts, POLICY)
    if by_use := facts.get("features_by_use"):
        most = by_use[0]
        name = {"api": "the API"}.get(most["name"], most["name"].replace("_", " "))
        assert f"{name} " in message
        assert f"{most['times']:,}" in message or most["times"] < 3
    for fact in ("room_plan", "seats_plan", "feature_plan", "next_plan"):
        (situation,) = [s for s in POLICY.situations if s.name == why.situation]
        if fact in why.words and any(f"{{{fact}}}" in text for text in situation.unlock):
            assert why.words[fact] in message
    read_at, where = AS_OF + timedelta(hours=wait), ZoneInfo(row.get("timezone", "UTC"))
    if "today" in message:
        today = read_at.astimezone(where).date()
        assert any(row.get(f"{name}_at", AS_OF - 99 * DAY).astimezone(where).date() == today for name in MOMENTS)


# ── the strongest first ──────────────────────────────────────────────────────────────────────────


def test_the_weakest_reason_is_no_longer_the_headline() -> None:
    row = TEAM | EXAMPLES["security review"] | EXAMPLES["team growing"] | ago(26, "admin_actions") | ago(1, "invites")
    points = earned(admin_actions=4.2, invites=14.6)
    assert told(row, reasons=points) == "team growing"
    assert told(row, POLICY.changed(message__order="listed"), reasons=points) == "security review"


def test_of_intent_that_is_fresh_the_one_that_earned_most_is_told() -> None:
    row = TEAM | EXAMPLES["premium attempt"] | EXAMPLES["pricing"] | ago(1, "premium_attempts", "pricing_views")
    assert told(row, reasons=earned(premium_attempts=19.0, pricing_views=11.4)) == "premium attempt"
    assert told(row, reasons=earned(premium_attempts=9.0, pricing_views=11.4)) == "pricing"


def test_intent_of_three_days_comes_before_what_earned_more_long_ago() -> None:
    row = TEAM | EXAMPLES["pricing"] | EXAMPLES["premium attempt"] | ago(9, "premium_attempts")
    points = earned(pricing_views=11.0, premium_attempts=12.8)
    assert told(row | ago(1, "pricing_views"), reasons=points) == "pricing"
    assert told(row | ago(3, "pricing_views"), reasons=points) == "pricing"
    assert told(row | ago(3.1, "pricing_views"), reasons=points) == "premium attempt"


def test_a_limit_that_is_near_now_is_as_fresh_as_can_be() -> None:
    row = TEAM | LIMIT | EXAMPLES["team growing"] | ago(0, "invites")
    assert told(row, reasons=earned(limit_share=10.0, invites=15.0)) == "limit near"


def test_equal_points_go_by_what_happened_last_then_by_the_list() -> None:
    row = TEAM | EXAMPLES["plan question"] | EXAMPLES["security review"] | ago(2, "plan_questions")
    points = earned(plan_questions=7.6, admin_actions=8.3)  # the same in whole points
    assert told(row | ago(1, "admin_actions"), reasons=points) == "security review"
    assert told(row | ago(2, "admin_actions"), reasons=points) == "plan question"


def test_friction_comes_first_and_then_who_asked() -> None:
    everything = (
        TEAM | {k: v for row in EXAMPLES.values() for k, v in row.items()} | moments_of(dict.fromkeys(MOMENTS), 1)
    )
    points = earned(limit_share=50.0, premium_attempts=99.0)
    assert told(everything, reasons=points) == "support tickets"
    assert told(everything | {"tickets": 1.0}, reasons=points) == "failing actions"
    calm = everything | {"tickets": 1.0, "failed_share": 0.04}
    assert told(calm, reasons=points) == "hand raised"
    assert told(calm | {"demo_requests": 0.0}, reasons=points) == "premium attempt"
    assert told(everything | ago(14, "tickets"), reasons=points) == "failing actions"  # the latest of the two
    assert told(everything | ago(15, "tickets", "failed_actions"), reasons=points) == "hand raised"
    long_ago = ago(15, "tickets", "failed_actions", "demo_requests")
    assert told(everything | long_ago, reasons=points) == "premium attempt"


def test_the_next_two_are_also_and_each_signal_is_told_once() -> None:
    row = TEAM | LIMIT | EXAMPLES["premium attempt"] | EXAMPLES["pricing"] | EXAMPLES["team growing"] | {"users": 9.0}
    row |= moments_of(row, 1)
    points = earned(premium_attempts=19.0, limit_share=10.0, pricing_views=11.4, invites=14.6, users=10.0)
    why = why_now(known_facts(decided(reasons=points), row), POLICY)
    assert why.headline == "tried SSO, not in the plan"
    assert why.also == ["looked at pricing 3 times", "at 92 % of the API calls limit (920 of 1,000)"]
    subject = task_content(decided(reasons=points), row, POLICY).subject
    assert subject == "[Medium] Prairie Software — tried SSO, not in the plan"


# ── words ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (0, "today"), (1, "yesterday"), (2, "on Sunday"), (6, "on Wednesday"), (7, "a week ago"),
        (9, "about a week ago"), (12, "about two weeks ago"), (14, "two weeks ago"), (20, "about three weeks ago"),
        (26, "about a month ago"), (45, "about two months ago"), (89, "about three months ago"),
    ],
)  # fmt: skip
def test_how_long_ago_is_told_as_people_say_it(days: int, said: str) -> None:
    assert since(AS_OF - days * DAY, AS_OF, UTC) == said


def test_it_is_told_as_of_the_moment_the_message_is_for() -> None:
    row = TEAM | EXAMPLES["hand raised"] | {"demo_requests_at": AS_OF - timedelta(hours=1)}
    assert "You asked today to talk" in first_message(decided(), row, POLICY)
    assert "You asked yesterday to talk" in first_message(decided(contact_at=AS_OF + DAY), row, POLICY)
    assert "You asked on Tuesday to talk" in first_message(decided(contact_at=AS_OF + 3 * DAY), row, POLICY)


def test_what_failed_is_named_with_how_often() -> None:
    failures = [{"name": "import", "times": 30}, {"name": "api_sync", "times": 1}]
    row = TEAM | EXAMPLES["failing actions"] | {"failures": failures} | ago(1, "failed_actions")
    message = first_message(decided(), row, POLICY)
    assert "failed (import 30 times and API sync once), the last time yesterday." in message
    assert message.endswith("Is it still failing?\n\nI am not writing to sell you anything.")
    assert "What failed: import (30) and API sync (1)" in dossier(decided(), row, POLICY)


# ── public news ──────────────────────────────────────────────────────────────────────────────────


def test_news_is_woven_in_while_it_is_news_and_nothing_stands_in_their_way() -> None:
    row, words = TEAM | {"fundings": 1.0}, "Congratulations on your funding round."
    assert words in first_message(decided(), row | ago(30, "fundings"), POLICY)
    assert words not in first_message(decided(), row | ago(31, "fundings"), POLICY)
    failing = row | EXAMPLES["failing actions"] | ago(1, "fundings", "failed_actions")
    assert words not in first_message(decided(), failing, POLICY)
    both = first_message(decided(), row | ago(1, "fundings", "hirings"), POLICY)
    assert words in both and "hiring" not in both


def test_an_aside_is_about_what_anybody_can_read() -> None:
    with pytest.raises(ValueError, match=r"pricing_views is not public news; allowed: fundings, hirings"):
        Aside(signal="pricing_views", within_days=3, text="t")
    with pytest.raises(ValueError, match="asks something"):
        Aside(signal="fundings", within_days=3, text="Well?")


# ── what a policy may say ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("question", ["Tell me.", "One? Two?", "Is it? Yes."])
def test_a_question_is_one_question(question: str) -> None:
    mine = {"name": "n", "headline": "h", "approach": "a", "offer": "o", "question": question}
    with pytest.raises(ValueError, match="is not one question"):
        Situation.model_validate(mine)
    with pytest.raises(ValueError, match="is not one question"):
        Message.model_validate(POLICY.message.model_dump() | {"question": question})


def test_a_situation_without_a_question_asks_the_messages_own() -> None:
    last = Situation(name="last", headline="h", approach="a", offer="o.")
    message = POLICY.message.model_copy(update={"question": ["What do you need at {domain}?", "What do you need?"]})
    policy = POLICY.model_copy(update={"situations": [last], "message": message})
    assert "\n\nWhat do you need at prairie.example?\n\n" in first_message(decided(), TEAM, policy)
    assert "\n\nWhat do you need?\n\n" in first_message(decided(), TEAM | {"domain": None}, policy)


def test_the_last_greeting_fits_everybody() -> None:
    with pytest.raises(ValueError, match="the last one greets everybody else"):
        Message.model_validate(POLICY.message.model_dump() | {"greeting": ["Hello {name},"]})


def test_however_few_words_there_is_room_for_the_question_stays() -> None:
    row, said = TEAM | {"integrations": 4.0} | EXAMPLES["limit near, with a date"], []
    for words in range(40, 121, 4):
        policy = POLICY.model_copy(update={"message": POLICY.message.model_copy(update={"max_words": words})})
        said.append(first_message(decided(), row, policy))
        assert len(said[-1].split()) <= words
        assert "Would it help to have that settled before it stops anyone?" in said[-1]
        assert "212 times" in said[-1]
    assert [len(text.split()) for text in said] == sorted(len(text.split()) for text in said)


# ── task and record ──────────────────────────────────────────────────────────────────────────────


def test_task_and_record_repeat_nothing_and_together_hold_all() -> None:
    row = TEAM | EXAMPLES["limit near"] | {"users": 8.0, "events": 588.0}
    decision = decided(score=72.5, tier="high", reasons=earned(limit_share=10.0), contact_at=AS_OF, due_at=AS_OF + DAY)
    task = task_content(decision, row, POLICY, "Europe/Berlin").description
    record = str(account_context(decision, row, POLICY).dossier)
    titles = re.compile(r"^[A-Z ]{4,}$", re.MULTILINE)
    on_both = set(titles.findall(task)) & set(titles.findall(record))
    assert on_both == set()
    lines = [line for line in task.splitlines()[1:] if len(line) > 3 and line in record.splitlines()]
    assert lines == ["Prairie Software"]
    whole = dossier(decision, row, POLICY, "Europe/Berlin")
    assert set(titles.findall(whole)) <= set(titles.findall(task)) | set(titles.findall(record))
    both = POLICY.changed(handoff__task_notes="whole")
    assert whole in task_content(decision, row, both, "Europe/Berlin").description
    assert "WHEN\n" in str(account_context(decision, row, both).dossier)


def test_who_fills_their_seats_is_offered_seats_and_not_a_plan() -> None:
    row = TEAM | {"plan": "team", "arr": 2_340.0, "limit_name": "seats", "limit_used": 12.0, "limit_cap": 13.0}
    message = first_message(decided(), row | {"limit_share": 0.92}, POLICY)
    assert "You have used 12 of your plan's 13 seats. Your Team plan takes more seats, one at a time." in message
    assert "Business" not in message
    assert "  More seats: Team, their own plan, takes them\n" in dossier(decided(), row, POLICY)


def test_a_plan_is_not_said_to_add_what_they_use() -> None:
    row = TEAM | EXAMPLES["plan question"] | {"plan": "team", "arr": 900.0}
    assert "it adds SSO." in first_message(decided(), row, POLICY)
    used = first_message(decided(), row | {"features_used_list": ["sso"]}, POLICY)
    assert "The plan above yours is Business, at $360 a seat a year. I can tell you" in used


def test_the_rep_is_told_which_plan_unlocks_it() -> None:
    row = TEAM | LIMIT | EXAMPLES["premium attempt"]
    text = dossier(decided(), row, POLICY)
    assert "  More room: Team holds 20,000 API calls\n  What they tried comes with: Business\n" in text
    assert "  The plan above theirs: Team, adds audit log, $180 a seat a year\n" in text
    assert "plan above theirs" not in dossier(decided(), row | {"plan": "legacy"}, POLICY)
