"""What a rep is given: only what is known, in words that fit, whatever the data holds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.crm.salesforce.fields import context_fields, task_fields
from onetouch.handoff import (
    AccountContext,
    account_context,
    alert,
    dossier,
    first_message,
    missing_context,
    plain,
    task_content,
)

from tests.handoff.former import former_policy

POLICY = former_policy()
AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
DECISION: dict[str, Any] = {
    "account_id": "org-1",
    "as_of": pd.Timestamp(AS_OF),
    "policy_version": "abc",
    "score": 72.5,
    "tier": "high",
    "motion": "sales_assist",
    "potential_arr": 12000.0,
    "reasons": np.array(
        [
            {"signal": "invites", "value": 3.0, "points": 15.0},
            {"signal": "limit_share", "value": 0.923, "points": 10.0},
        ],
        dtype=object,
    ),
    "due_at": AS_OF + timedelta(hours=2),
    "contact_at": AS_OF + timedelta(minutes=15),
}
SIGNALS: dict[str, Any] = {
    "account_id": "org-1",
    "name": "Acme",
    "domain": "acme.example",
    "industry": "Software",
    "employees": 120,
    "timezone": "Europe/Berlin",
    "users": 7.0,
    "active_users": 6.0,
    "integrations": 2.0,
    "features_used": 2.0,
    "features_used_list": np.array(["dashboards", "alerts"], dtype=object),
    "features_unused": np.array(["audit_log"], dtype=object),
    "premium_attempted": np.array(["sso"], dtype=object),
    "milestones_done": 4.0,
    "milestones_left": np.array(["teammate_invited"], dtype=object),
    "activated": 1.0,
    "activated_at": AS_OF - timedelta(days=36),
    "events": 1234.0,
    "failed_actions": 3.0,
    "pricing_views": 2.0,
    "invites": 3.0,
    "limit_share": 0.923,
    "limit_name": "api_calls",
    "limit_used": 9230.0,
    "limit_cap": 10000.0,
    "trend": "growing",
    "usual_hour": 9.0,
    "usual_weekday": 1.0,
    "top_user": "ann@acme.example",
}
NULLS = [None, float("nan"), pd.NaT, np.nan, "", [], np.array([], dtype=object), float("inf")]


def test_the_dossier_says_all_that_is_known() -> None:
    text = dossier(DECISION, SIGNALS, POLICY)
    for line in [
        "WHY NOW\n  At 92 % of the API calls limit (9,230 of 10,000)\n"
        "  Also: looked at pricing twice; team growing: invited 3 teammates; 7 users at work in the product\n"
        "  Score: 72.5 · high tier · sales-assist",
        "RECOMMENDED APPROACH\n  They are at 92 % of their plan's 10,000 API calls. Suggest the plan with more room",
        "WHEN\n  Best moment: Tue 18 Nov 2025, 11:15 CET (their time)",
        "Usually active: around 09:00, mostly on Tuesdays (their time)",
        "ACCOUNT OVERVIEW\n  Domain: acme.example\n  Industry: Software\n  Employees: 120",
        "Potential ARR: $12,000",
        "USAGE SUMMARY\n  Events in 28 days: 1,234",
        "Features used: dashboards and alerts",
        "ONBOARDING PROGRESS\n  Milestones: 4 of 5\n  Activated: yes\n  Left: teammate invited",
        "EXPANSION SIGNALS\n  Limit of API calls: 92 % used (9,230 of 10,000)\n  Tried without access: SSO",
        "TIMELINE\n  13 Oct 2025 (36 days ago): activated\n  Trend of use: growing",
        "TEAM\n  Users: 7",
        "COMMERCIAL SIGNALS\n  Pricing page views in 14 days: 2",
        "FRICTION\n  Failed actions in 28 days: 3",
        "NOT USED YET\n  audit log",
        "HOW THE SCORE ADDS UP\n  Invitations in 28 days: 3 → 15 points\n",
        "  Share of the plan limit in use: 92 % → 10 points\n  Not itemised → 47.5 points\n  Together 72.5 points",
    ]:
        assert line in text


@pytest.mark.parametrize("name", sorted(SIGNALS.keys() - {"account_id"}))
def test_what_is_unknown_is_not_said(name: str) -> None:
    for null in NULLS:
        said_without(SIGNALS | {name: null})


def said_without(row: dict[str, Any]) -> None:
    texts = [
        dossier(DECISION, row, POLICY),
        first_message(DECISION, row, POLICY),
        alert(DECISION, row, POLICY).text,
        json.dumps(said_of(account_context(DECISION, row, POLICY)), allow_nan=False),
        json.dumps(task_fields(task_content(DECISION, row, POLICY)), allow_nan=False),
    ]
    for text in texts:
        words = {word.strip(".,:;()[]'\"").lower() for word in text.split()}
        assert not words & {"nan", "none", "nat", "null", "inf", "<na>"}


def said_of(context: AccountContext) -> dict[str, Any]:
    """The fields that get a value; what an earlier episode has left is emptied by those that do not."""
    return {name: value for name, value in context_fields(context).items() if value is not None}


def test_an_account_known_by_its_id_alone_gets_a_whole_dossier_and_message() -> None:
    decision = {"account_id": "org-1", "as_of": AS_OF, "reasons": []}
    assert dossier(decision, {}, POLICY).startswith("This account\n\nWHY NOW\n  Steady use of the product")
    assert "your team at your company uses the product" in first_message(decision, {}, POLICY)


def test_the_first_message_names_usage_offers_help_and_presses_nobody() -> None:
    text = first_message(DECISION, SIGNALS, POLICY)
    assert "6 active users and 2 connected integrations, and uses dashboards and alerts." in text
    assert "You are at 92 % of your plan's 10,000 API calls." in text
    assert "personalized onboarding" in text
    assert "no obligation" in text
    assert len(text) < 800
    for word in ("demo", "pricing page", "score", "ann@", "hurry", "act now"):
        assert word not in text.lower()


def test_a_limit_already_reached_is_not_called_close() -> None:
    row = SIGNALS | {"limit_share": 1.04}
    assert "You have used up the 10,000 API calls of your plan" in first_message(DECISION, row, POLICY)
    assert "Help them past that today" in dossier(DECISION, row, POLICY)


def test_who_asked_for_a_person_comes_before_the_limit() -> None:
    reasons = [*DECISION["reasons"], {"signal": "demo_requests", "value": 1.0, "points": 20.0}]
    decision = DECISION | {"reasons": reasons}
    context = account_context(decision, SIGNALS | {"demo_requests": 1.0}, POLICY)
    assert "asked to talk to someone" in str(context.trigger)


def test_the_context_is_what_is_known() -> None:
    context = account_context(DECISION, SIGNALS, POLICY)
    assert replace(context, dossier=None) == AccountContext(
        account_id="org-1",
        score=72.5,
        tier="high",
        trigger="at 92 % of the API calls limit (9,230 of 10,000)",
        motion="sales_assist",
        activated=True,
        milestones="4 of 5",
        team_size=7.0,
        features_used="dashboards and alerts",
        usage=1234.0,
        limit_share=92.3,
        policy_version="abc",
        as_of=AS_OF,
    )
    assert account_context({"account_id": "org-1"}, {}, POLICY).as_of is None


def test_the_fields_are_the_ones_of_the_org_and_nulls_empty_those_of_an_episode_alone() -> None:
    fields = context_fields(account_context(DECISION, SIGNALS, POLICY))
    assert {k: v for k, v in fields.items() if k != "Onetouch_Dossier__c"} == {
        "Onetouch_Account_Id__c": "org-1",
        "Onetouch_Score__c": 72.5,
        "Onetouch_Tier__c": "high",
        "Onetouch_Trigger__c": "at 92 % of the API calls limit (9,230 of 10,000)",
        "Onetouch_Motion__c": "sales_assist",
        "Onetouch_Activated__c": True,
        "Onetouch_Milestones__c": "4 of 5",
        "Onetouch_Team_Size__c": 7.0,
        "Onetouch_Features_Used__c": "dashboards and alerts",
        "Onetouch_Usage_28d__c": 1234.0,
        "Onetouch_Limit_Share__c": 92.3,
        "Onetouch_Policy_Version__c": "abc",
        "Onetouch_As_Of__c": "2025-11-18T10:00:00Z",
    }
    poor = context_fields(
        account_context({"account_id": "x" * 300, "as_of": AS_OF}, {"activated": 0.0, "users": 1e12}, POLICY)
    )
    assert poor["Onetouch_Activated__c"] is False
    assert {"Onetouch_Account_Id__c", "Onetouch_Tier__c", "Onetouch_Score__c"}.isdisjoint(poor)
    assert (poor["Onetouch_Team_Size__c"], poor["Onetouch_Limit_Share__c"]) == (None, None)
    standing = context_fields(AccountContext(score=1.0, tier="high", trigger="at 92 %"))
    assert standing.keys() == {"Onetouch_Score__c", "Onetouch_Tier__c", "Onetouch_Trigger__c"}


def test_the_context_required_by_the_policy_is_named_when_missing() -> None:
    assert missing_context(SIGNALS, POLICY) == []
    assert missing_context(SIGNALS | {"name": "\u202e\x00 ", "users": float("nan")}, POLICY) == ["name", "users"]
    assert missing_context(SIGNALS | {"users": 0.0, "activated": 0.0}, POLICY) == []  # known to be none


def test_the_task_is_due_where_the_rep_works() -> None:
    decision = DECISION | {"due_at": datetime(2025, 11, 19, 3, tzinfo=UTC)}
    assert task_content(decision, SIGNALS, POLICY, "America/New_York").due_on == date(2025, 11, 18)
    assert task_content(decision, SIGNALS, POLICY).due_on == date(2025, 11, 19)
    for hostile in ("../../etc/passwd", "Mars/Olympus", "America", "\x00", "x" * 10_000):
        assert task_content(decision, SIGNALS, POLICY, hostile).due_on == date(2025, 11, 19)


def test_ten_megabytes_of_name_cost_nothing_and_stay_short() -> None:
    row = SIGNALS | {"name": "ab\u200b\n" * 2_500_000, "top_user": "\x07" * 10_000_000}
    fields = task_fields(task_content(DECISION, row, POLICY))
    assert len(fields["Subject"]) <= 255
    assert len(fields["Description"]) < 5_000


hostile_text = st.text(max_size=400) | st.sampled_from(
    ["\u202eevil\u202c", "a\r\nBcc: x", "\ud800", "\x00\x1b[31m", "<!channel>", "{{7*7}}", "=cmd()", "\u0301" * 300]
)


@settings(max_examples=60, deadline=None)
@given(
    name=hostile_text,
    lists=st.lists(hostile_text, max_size=40),
    share=st.floats() | st.none(),
    counts=st.floats(allow_nan=True) | st.integers(-5, 10**18) | st.none(),
    zone=hostile_text,
)
def test_whatever_the_data_holds_the_crm_takes_it(
    name: str, lists: list[str], share: float | None, counts: float | None, zone: str
) -> None:
    row = {k: counts if isinstance(v, float) else v for k, v in SIGNALS.items()} | {
        "name": name,
        "domain": name,
        "limit_name": name,
        "top_user": name,
        "trend": name,
        "timezone": zone,
        "limit_share": share,
        "features_used_list": lists,
        "milestones_left": lists,
        "premium_attempted": np.array(lists, dtype=object),
        "usual_hour": 9.0,
        "activated": 1.0,
    }
    task = task_fields(task_content(DECISION, row, POLICY, zone))
    fields = context_fields(account_context(DECISION, row, POLICY))
    message = first_message(DECISION, row, POLICY)
    json.dumps([task, fields], allow_nan=False).encode()
    assert 0 < len(task["Subject"]) <= 255
    assert "\n" not in task["Subject"]
    assert len(task["Description"]) <= 32_000
    assert len(fields["Onetouch_Dossier__c"]) <= 32_000
    assert len(fields.get("Onetouch_Features_Used__c") or "") <= 255
    assert len(message) < 1_500
    for text in (task["Subject"], task["Description"], fields["Onetouch_Trigger__c"]):
        text.encode()  # no lone surrogates
        assert not set(text) & {"\x00", "\x1b", "\r", "\u202e", "\u200b", "\x07"}


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=500), st.integers(2, 100))
def test_plain_text_is_one_short_visible_line_and_stays_as_it_is(text: str, limit: int) -> None:
    once = plain(text, limit)
    assert len(once) <= limit
    assert once == " ".join(once.split())
    assert plain(once, limit) == once


def test_plain_text_keeps_what_people_write() -> None:
    assert plain("Zoë's Café — 北京 (Pty) Ltd. & Co", 80) == "Zoë's Café — 北京 (Pty) Ltd. & Co"
    assert plain("abcdefgh", 5) == "abcd…"
