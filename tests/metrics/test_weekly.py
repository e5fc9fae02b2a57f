"""The week's figures on small ledgers counted by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.metrics import keep, rate, read, weekly
from onetouch.policy import read_policy
from onetouch.policy.schema import Benchmark

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def figures(company, as_of=MONDAY + 7 * HOUR):
    if company.deals:
        company.write_deals()
    return weekly(company.lake, company.ledger, company.policy, as_of)


def counted(rate):
    return rate.numerator, rate.denominator


def test_nothing_at_all_is_said_honestly(company):
    found = figures(company)
    assert found.week == "2025-W09"
    assert (found.since, found.until) == (MONDAY - 7 * DAY, MONDAY)
    assert [week.n for week in found.pqls] == [0] * 8
    assert all(step.rate is None and step.verdict == "none" for step in found.steps)
    assert (found.revenue.share, found.reps, found.pqls_per_rep_month, found.actions) == (None, 0, None, {})
    assert "No PQL" in found.diagnosis.finding


def test_pqls_are_counted_in_the_iso_week_they_were_decided(company):
    company.handoff("sunday", MONDAY - HOUR)
    company.handoff("monday_before", MONDAY - 7 * DAY)
    company.handoff("week_before", MONDAY - 7 * DAY - timedelta(seconds=1))
    company.handoff("this_week", MONDAY)
    company.handoff("too_long_ago", MONDAY - 57 * DAY)
    found = figures(company)
    assert [(w.week, w.n) for w in found.pqls][-2:] == [("2025-W08", 1), ("2025-W09", 2)]
    assert sum(w.n for w in found.pqls) == 3


def test_the_report_done_over_later_in_the_week_says_the_same(company):
    company.handoff("a", MONDAY - 20 * DAY, touched=MONDAY - 20 * DAY + HOUR, replied=MONDAY + HOUR)
    company.deal("a", MONDAY - 10 * DAY, won=MONDAY + DAY)
    early, late = figures(company, MONDAY), figures(company, MONDAY + 6 * DAY)
    assert early.model_copy(update={"as_of": late.as_of}) == late
    assert early.step("replied").numerator == 0, "the reply came after the week"
    assert early.revenue.assisted == 0, "so did the deal"


def test_only_matured_cohorts_count(company):
    """72 h for a touch, 10 days for a reply, 14 for an opportunity, 30 for a deal."""
    for age in (1, 5, 12, 20, 40):
        decided = MONDAY - age * DAY
        company.handoff(f"age{age}", decided, touched=decided + HOUR, replied=decided + 2 * HOUR)
        company.deal(f"age{age}", decided + 3 * HOUR, won=decided + 4 * HOUR)
    found = figures(company)
    assert {step.name: counted(step) for step in found.steps} == {
        "touched": (4, 4),
        "replied": (3, 3),
        "pql_to_opportunity": (2, 2),
        "pql_to_close": (1, 1),
    }


def test_a_handoff_has_matured_at_exactly_its_time(company):
    company.handoff("just", MONDAY - 30 * DAY - timedelta(seconds=1))
    company.handoff("not_yet", MONDAY - 30 * DAY)
    assert counted(figures(company).step("pql_to_close")) == (0, 1)


def test_what_came_too_late_does_not_count(company):
    decided = MONDAY - 50 * DAY
    company.handoff("slow", decided, touched=decided + 73 * HOUR, replied=decided + 11 * DAY)
    company.deal("slow", decided + 15 * DAY, won=decided + 31 * DAY)
    company.handoff("quick", decided + HOUR, touched=decided + 73 * HOUR, replied=decided + 10 * DAY)
    company.deal("quick", decided + 14 * DAY, won=decided + 30 * DAY)
    assert [counted(step) for step in figures(company).steps] == [(1, 2)] * 4


def test_an_opportunity_belongs_to_the_last_handoff_before_it(company):
    first, second = MONDAY - 80 * DAY, MONDAY - 40 * DAY
    company.handoff("again", first, touched=first + HOUR, released=first + 8 * DAY)
    company.handoff("again", second, touched=second + HOUR)
    company.deal("again", first - DAY, won=first + DAY)
    company.deal("again", second + DAY, won=second + 9 * DAY)
    company.deal("nobody", second + DAY, won=second + 9 * DAY, amount=500.0)
    found = figures(company)
    assert counted(found.step("pql_to_close")) == (1, 2)
    assert (found.revenue.assisted, found.revenue.assisted_deals, found.revenue.other_sales) == (10_000, 1, 500)


def test_a_handoff_without_a_crm_id_meets_its_deal_by_our_id(company):
    run = company.ledger.begin_run(MONDAY - 40 * DAY, company.policy, False)
    company.ledger.open_handoff({"account_id": "a"}, run)
    company.deal("a", MONDAY - 39 * DAY, won=MONDAY - 35 * DAY)
    assert counted(figures(company).step("pql_to_close")) == (1, 1)


def test_sla_counts_what_was_due_and_forgives_what_was_withdrawn_before(company):
    decided, due = MONDAY - 3 * DAY, 2 * HOUR
    company.handoff("in_time", decided, due=due, touched=decided + due)
    company.handoff("late", decided, due=due, touched=decided + due + timedelta(seconds=1))
    company.handoff("never", decided, due=due)
    company.handoff("bought", decided, due=due, withdrawn=decided + HOUR)
    company.handoff("bought_late", decided, due=due, withdrawn=decided + 3 * HOUR)
    company.handoff("not_due_yet", MONDAY - HOUR, due=due)
    company.handoff("no_due_time", decided)
    found = figures(company)
    assert counted(found.sla) == (1, 4)
    assert found.sla.verdict == "below"
    assert found.diagnosis.finding == "Slow response: 1 of 4 (25 %) were touched in time."


def test_revenue_is_split_by_motion_and_no_upgrade_counts_twice(company):
    decided = MONDAY - 30 * DAY
    company.handoff("sold", decided)
    company.deal("sold", decided + DAY, won=decided + 10 * DAY, amount=6_000.0)
    company.handoff("unpriced", decided)
    company.deal("unpriced", decided + DAY, won=decided + 10 * DAY, amount=None)
    company.upgrades(
        [
            ("sold", decided + 11 * DAY, 6_000.0),  # the same sale, seen in the product
            ("own", decided + 5 * DAY, 3_000.0),
            ("own", decided + 9 * DAY, 4_000.0),  # 1,000 more
            ("own", decided + 12 * DAY, 2_500.0),  # a smaller plan adds nothing
            ("old", MONDAY - 70 * DAY, 1_000.0),
            ("old", MONDAY - 2 * DAY, 3_000.0),  # 2,000 more than before the weeks shown
            ("late", MONDAY, 9_000.0),  # after the week
            ("silent", MONDAY - DAY, None),
        ]
    )
    revenue = figures(company).revenue
    assert (revenue.assisted, revenue.self_serve) == (6_000, 6_000)
    assert (revenue.assisted_deals, revenue.self_serve_upgrades, revenue.without_amount) == (2, 4, 2)
    assert revenue.share == 0.5
    assert revenue.share_without_largest == 0


@pytest.mark.parametrize(
    ("credit", "assisted", "own", "other", "deals"),
    [("assisted", 6_000, 5_500, 9_000, 1), ("all", 16_500, 1_000, 3_000, 2)],
)
def test_who_is_credited_with_what_sales_did_not_touch(company, credit, assisted, own, other, deals):
    """S0: the product; S3: sales, with all new revenue of accounts it ever had; neither counts a sale twice."""
    report = company.policy.report.model_copy(update={"sales_credit": credit})
    company.policy = company.policy.model_copy(update={"report": report})
    decided = MONDAY - 30 * DAY
    for account in ("sold", "early", "quiet"):
        company.handoff(account, decided)
    company.deal("sold", decided + DAY, won=decided + 10 * DAY, amount=6_000.0)
    company.deal("early", decided - DAY, won=decided + 10 * DAY, amount=6_000.0)  # its deal is older than the handoff
    company.deal("stranger", decided, won=decided + 10 * DAY, amount=3_000.0)
    company.upgrades(
        [
            ("sold", decided + 11 * DAY, 6_000.0),
            ("quiet", decided + 11 * DAY, 4_500.0),
            ("own", decided + 11 * DAY, 1_000.0),
        ]
    )
    revenue = figures(company).revenue
    assert (revenue.assisted, revenue.self_serve, revenue.other_sales) == (assisted, own, other)
    assert revenue.assisted_deals == deals
    assert (revenue.credited, revenue.credited_upgrades) == ((4_500, 1) if credit == "all" else (0, 0))
    assert revenue.sales == (3 if credit == "assisted" else 4)
    assert revenue.share_without_largest == (0 if credit == "assisted" else pytest.approx(10_500 / 11_500))


def test_a_policy_of_more_touches_gives_an_answer_more_time(company):
    decided = MONDAY - 20 * DAY
    company.handoff("slow", decided, touched=decided + HOUR, replied=decided + 16 * DAY)
    assert counted(figures(company).step("replied")) == (0, 1)
    handoff = company.policy.handoff.model_copy(update={"touches": 2})
    company.policy = company.policy.model_copy(update={"handoff": handoff})
    assert counted(figures(company).step("replied")) == (1, 1)


def test_actions_are_those_of_the_last_live_run_of_the_time(company):
    for run_id, action in [
        ("20250302T230000Z-0123456789ab", "nurture"),
        ("20250302T220000Z-0123456789ab", "monitor"),
        ("20250302T233000Z-0123456789ab-dry", "sales_now"),
        ("20250303T010000Z-0123456789ab", "sales_now"),
    ]:
        company.lake.write(pd.DataFrame({"action": [action] * 3}), "decisions", f"{run_id}.parquet")
    found = figures(company)
    assert found.actions == {"nurture": 3}
    assert found.actions_as_of == datetime(2025, 3, 2, 23, tzinfo=UTC)


def test_kept_figures_read_back_equal(company):
    decided = MONDAY - 40 * DAY
    company.handoff("a", decided, due=HOUR, touched=decided + HOUR)
    company.deal("a", decided + DAY, won=decided + 2 * DAY)
    found = figures(company)
    assert keep(found, company.lake) == "2025-W09"
    assert read(company.lake, "2025-W09") == found


def test_reps_fill_is_measured_from_the_first_week_with_a_pql(company):
    for i in range(12):
        company.handoff(f"a{i}", MONDAY - 10 * DAY, owner=("Ana@vendor.example", "bo@vendor.example")[i % 2])
    found = figures(company)
    assert found.reps == 2
    assert found.pqls_per_rep_month == pytest.approx(12 / 2 * (52 / 12) / 2)


@pytest.mark.parametrize(
    ("numerator", "denominator", "verdict"),
    [
        (0, 0, "none"),
        (1, 4, "too_few"),
        (50, 200, "in_range"),
        (5, 100, "below"),
        (60, 100, "above"),
        (1, 3, "too_few"),
    ],
)
def test_a_verdict_needs_the_interval_on_its_side(numerator, denominator, verdict):
    benchmark = Benchmark(low=0.15, high=0.30, source="S0")
    assert rate("close", numerator, denominator, MONDAY, MONDAY, benchmark).verdict == verdict


def test_the_interval_is_wilsons():
    found = rate("close", 12, 48, MONDAY, MONDAY)
    assert (found.low, found.high) == (pytest.approx(0.1492, abs=1e-4), pytest.approx(0.3878, abs=1e-4))


@given(st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_every_rate_lies_within_its_interval_and_both_within_0_and_1(counts):
    found = rate("any", *counts, MONDAY, MONDAY, read_policy().report.benchmarks["pql_to_close"])
    if counts[1] == 0:
        assert (found.rate, found.low, found.high) == (None, None, None)
    else:
        assert 0 <= found.low <= found.rate <= found.high <= 1


def test_an_interval_within_the_alarm_limits_is_enough():
    """13 of 60 may lie anywhere in 15–30 %, but is neither too loose (10 %) nor too tight (40 %)."""
    benchmarks = read_policy().report.benchmarks
    close, alarm = benchmarks["pql_to_close"], benchmarks["pql_to_close_alarm"]
    assert rate("close", 13, 60, MONDAY, MONDAY, close).verdict == "too_few"
    assert rate("close", 13, 60, MONDAY, MONDAY, close, alarm).verdict == "in_range"
    assert rate("close", 2, 10, MONDAY, MONDAY, close, alarm).verdict == "too_few"
