"""Plans: which an account has, what comes after, what unlocks what, and what a list of plans cannot mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.policy import (
    Policy,
    cost_nothing,
    limits_of_plans,
    plan_title,
    plan_with_features,
    plan_with_room,
    plan_with_seats,
    plans_after,
    plans_of,
    read_policy,
    seat_price,
    unknown_plans,
)
from onetouch.policy.review import review_policy
from pydantic import ValidationError

POLICY = read_policy()
FREE: dict[str, Any] = {"name": "Free", "seat_price_year": 0, "limits": {"rows": 10, "seats": 3}, "next": "Team"}
TEAM: dict[str, Any] = {"name": "Team", "seat_price_year": 180, "limits": {"rows": 99, "seats": 25},
                        "features": ["audit_log"], "next": "Business"}  # fmt: skip
BUSINESS: dict[str, Any] = {"name": "Business", "features": ["audit_log", "sso", "custom_roles"]}
START: dict[str, Any] = {"name": "Start", "product": "Insights", "limits": {"boards": 2, "rows": 50}, "next": "Team"}
ITS_TEAM: dict[str, Any] = {"name": "Team", "product": "Insights", "seat_price_year": 60, "features": ["maps"]}


def sold(*plans: dict[str, Any]) -> Policy:
    return POLICY.changed(product__plans=list(plans))


ALL = sold(FREE, TEAM, BUSINESS, START, ITS_TEAM).product


def names(text: str | None) -> list[tuple[str | None, str]]:
    return [(plan.product, plan.name) for plan in plans_of(text, ALL)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("team", [(None, "Team")]), (" BUSINESS ", [(None, "Business")]), ("insights  team", [("Insights", "Team")]),
        ("Free; Insights Start", [(None, "Free"), ("Insights", "Start")]), ("Gold", []), ("", []), (None, []),
        ("Gold, team", [(None, "Team")]), ("start | free", [("Insights", "Start"), (None, "Free")]),
    ],
)  # fmt: skip
def test_a_plan_is_known_by_its_name_or_by_product_and_name(text: str | None, found: list[Any]) -> None:
    assert names(text) == found


def test_a_name_may_hold_a_comma_and_what_is_unknown_is_named() -> None:
    product = sold({"name": "Team, yearly"}, FREE | {"next": None}).product
    assert [plan.name for plan in plans_of("team, yearly", product)] == ["Team, yearly"]
    assert unknown_plans("Free; Gold ; team", product) == ["Gold", "team"]
    assert unknown_plans("free", product) == []


def test_what_comes_after_stays_within_the_product() -> None:
    (free,), (start,), (business,) = (plans_of(name, ALL) for name in ("free", "start", "business"))
    assert [plan.name for plan in plans_after(free, ALL)] == ["Team", "Business"]
    assert [(plan.product, plan.name) for plan in plans_after(start, ALL)] == [("Insights", "Team")]
    assert plans_after(business, ALL) == []


@pytest.mark.parametrize(
    ("plan", "price"),
    [("free", 180), ("team", 180), ("business", None), ("insights team", 60), ("free, start", 240), ("gold", None)],
)
def test_a_seat_costs_what_the_next_plan_asks_else_the_own(plan: str, price: float | None) -> None:
    assert seat_price(plans_of(plan, ALL), ALL) == price


def test_the_next_plans_price_comes_before_the_own() -> None:
    product = sold(FREE, TEAM, BUSINESS | {"seat_price_year": 360}).product
    assert [seat_price(plans_of(name, product), product) for name in ("free", "team", "business")] == [180, 360, 360]


def test_what_is_free_is_known_to_be() -> None:
    assert cost_nothing(plans_of("free", ALL))
    assert not any(cost_nothing(plans_of(plan, ALL)) for plan in ("team", "business", "gold", "free, start"))


def test_limits_of_several_products_are_taken_together() -> None:
    assert limits_of_plans(plans_of("free; start", ALL)) == {"rows": 50, "seats": 3, "boards": 2}


@pytest.mark.parametrize(
    ("plan", "tried", "found"),
    [
        ("free", ["audit_log"], "Team"), ("free", ["sso", "audit_log"], "Business"), ("free", ["SSO"], "Business"),
        ("business", ["sso"], None), ("free", ["maps"], "Insights Team"), ("free", ["boats"], None), ("free", [], None),
        ("gold", ["sso"], None),
    ],
)  # fmt: skip
def test_the_first_plan_that_holds_all_that_was_tried(plan: str, tried: list[str], found: str | None) -> None:
    unlocking = plan_with_features(tried, plans_of(plan, ALL), ALL)
    assert (None if unlocking is None else plan_title(unlocking, ALL)) == found


@pytest.mark.parametrize(
    ("plan", "limit", "cap", "used", "found"),
    [
        ("free", "rows", 10, 9, "Team"), ("free", "rows", 10, 120, "Business"), ("team", "rows", 99, 99, "Business"),
        ("free", "rows", 500, 9, "Business"),  # the CRM gave them more than Team holds
        ("team", "rows", 500, 400, "Business"), ("business", "rows", 1, 1, None),
        ("start", "boards", 2, 2, "Insights Team"),
        ("free", "seats", 3, 3, "Team"), ("team", "seats", 13, 11, None), ("team", "seats", 25, 25, "Business"),
        ("business", "seats", 25, 25, None), ("free", "trees", 3, 3, None),
    ],
)  # fmt: skip
def test_the_first_plan_with_more_room(plan: str, limit: str, cap: float, used: float, found: str | None) -> None:
    roomy = plan_with_room(limit, cap, used, plans_of(plan, ALL), ALL)
    assert (None if roomy is None else plan_title(roomy, ALL)) == found


@pytest.mark.parametrize(
    ("plan", "cap", "used", "found"),
    [
        ("free", 3, 3, None),
        ("team", 13, 13, "Team"),
        ("team", 25, 25, None),
        ("business", 9, 12, "Business"),
        ("x", 1, 1, None),
    ],
)
def test_the_own_plan_takes_more_seats_up_to_its_cap(plan: str, cap: float, used: float, found: str | None) -> None:
    own = plan_with_seats(cap, used, plans_of(plan, ALL))
    assert (None if own is None else own.name) == found


@given(st.text(max_size=40))
def test_whatever_a_crm_calls_a_plan(text: str) -> None:
    assert {plan.name for plan in plans_of(text, ALL)} <= {plan.name for plan in ALL.plans}
    assert all(part.strip() for part in unknown_plans(text, ALL))


@pytest.mark.parametrize(
    ("plans", "said"),
    [
        ([FREE], "Free.next: 'Team': no plan of it is called that"),
        ([FREE | {"next": "Taem"}, TEAM | {"next": None}], "did you mean Team?"),
        ([FREE | {"next": "free"}], "`next` leads back to Free"),
        ([FREE, TEAM | {"next": "free"}], "`next` leads back to"),
        ([TEAM | {"next": None}, TEAM | {"next": None, "name": "TEAM"}], "named twice: TEAM, Team"),
        ([START | {"next": "Free"}, FREE | {"next": None}], "no plan of it is called that"),
        ([FREE | {"seat_price_year": -1}], "greater than or equal to 0"),
        ([FREE | {"limits": {"rows": 0}}], "greater than 0"),
        ([FREE | {"price": 3}], "Extra inputs"),
    ],
)
def test_a_list_of_plans_that_cannot_be_is_refused(plans: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        sold(*plans)


@pytest.mark.parametrize(
    ("plans", "said"),
    [
        ([{"name": "Pro", "features": ["audit_log", "sso", "custom_rules"]}],
         "product.plans.0.features: custom_rules is no feature of the product; did you mean custom_roles?"),
        ([FREE, TEAM | {"limits": {"rows": 10}}, BUSINESS],
         "product.plans.1.limits.rows: 10 holds no more than the plan before"),
        ([FREE, TEAM | {"features": ["sso", "audit_log"]}, BUSINESS | {"features": ["custom_roles", "sso"]}],
         "product.plans.2.features: audit_log lacks what the plan before it holds (Team); add them to Business"),
        ([FREE, TEAM, BUSINESS | {"features": ["audit_log"]}],
         "product.premium_features: sso, custom_roles are in no plan"),
    ],
)  # fmt: skip
def test_the_check_names_plans_that_unlock_nothing(plans: list[dict[str, Any]], said: str) -> None:
    assert [str(found) for found in review_policy(sold(*plans)) if said in str(found)]
    assert review_policy(sold(FREE, TEAM, BUSINESS)) == []
