"""The diagnosis table of S0, S1 and S4: each row of it, and that chance is no finding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.metrics import Diagnosis, Revenue, WeekCount, WeeklyMetrics, rate
from onetouch.metrics.diagnosis import diagnose
from onetouch.policy import read_policy

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
SINCE = MONDAY - timedelta(days=56)
POLICY = read_policy()
SOUND = {
    "touched": (90, 100),
    "replied": (45, 100),
    "pql_to_opportunity": (30, 100),
    "pql_to_close": (22, 100),
    "meeting": (35, 100),
    "sla_adherence": (95, 100),
}
STEPS = ("touched", "replied", "pql_to_opportunity", "pql_to_close")


def figures(*, share=0.5, without=0.45, load=20.0, pqls=100, **counts: tuple[int, int]) -> WeeklyMetrics:
    def of(name):
        benchmarks = POLICY.report.benchmarks
        n = (SOUND | counts)[name]
        return rate(name, *n, SINCE, MONDAY, benchmarks.get(name), benchmarks.get(f"{name}_alarm"))

    return WeeklyMetrics(
        week="2025-W09",
        since=MONDAY - timedelta(days=7),
        until=MONDAY,
        as_of=MONDAY,
        policy_version="0" * 12,
        pqls=[WeekCount(week="2025-W09", n=pqls)],
        pqls_per_rep_month=load,
        reps=4,
        steps=[of(name) for name in STEPS],
        meeting=of("meeting"),
        sla=of("sla_adherence"),
        revenue=Revenue(
            assisted=1, assisted_deals=1, self_serve=1, self_serve_upgrades=1, other_sales=0, without_amount=0,
            share=share, share_without_largest=without, since=SINCE, until=MONDAY,
        ),
        actions={},
        actions_as_of=None,
        diagnosis=Diagnosis(finding="", decide=""),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "finding", "decide"),
    [
        ({}, "22 of 100 (22 %) closed; nothing is out of its range.", "Change nothing: keep"),
        ({"pqls": 0}, "No PQL was handed to sales", "Nothing to judge yet"),
        ({"pql_to_close": (0, 0)}, "Too few to judge the close rate (n=0).", "Change nothing yet"),
        ({"pql_to_close": (1, 5)}, "Too few to judge the close rate (n=5).", "Change nothing yet"),
        ({"sla_adherence": (70, 100)}, "Slow response: 70 of 100 (70 %)", "Fix routing"),
        ({"replied": (5, 100)}, "Few replies: 5 of 100 (5 %)", "Rework the first message"),
        (
            {"pql_to_opportunity": (8, 100), "meeting": (5, 100)},
            "Replies but few meetings: 45 of 100 (45 %) answered, 5 of 100 (5 %) met.",
            "Change timing or channel",
        ),
        ({"pql_to_close": (4, 100)}, "PQLs are too loose: 4 of 100 (4 %) closed, under 10 %.", "Tighten"),
        (
            {"pql_to_opportunity": (8, 100), "pql_to_close": (0, 0)},
            "PQLs are too loose: 8 of 100 (8 %) became opportunities.",
            "Tighten",
        ),
        ({"pql_to_close": (60, 100)}, "PQLs are too tight: 60 of 100 (60 %) closed, over 40 %.", "Widen"),
        ({"pql_to_close": (60, 100), "load": 60.0}, "Reps already carry 60 PQLs a month each.", "Add a rep"),
        ({"share": 0.8, "without": 0.75}, "80 % of new revenue is sales-assisted, over 70 %.", "Protect self-serve"),
    ],
)
def test_each_row_of_the_table(given, finding, decide):
    found = diagnose(figures(**given), POLICY)
    assert finding in found.finding
    assert found.decide.startswith(decide)


@pytest.mark.parametrize(
    "given",
    [
        {"sla_adherence": (3, 4)},
        {"replied": (1, 10)},
        {"pql_to_opportunity": (1, 8)},
        {"share": 0.8, "without": 0.5},
    ],
)
def test_what_chance_explains_is_no_finding(given):
    assert "nothing is out of its range" in diagnose(figures(**given), POLICY).finding


def test_what_comes_first_spoils_what_comes_after():
    everything = {"sla_adherence": (10, 100), "replied": (5, 100), "pql_to_close": (1, 100)}
    assert "Slow response" in diagnose(figures(**everything), POLICY).finding
    del everything["sla_adherence"]
    assert "Few replies" in diagnose(figures(**everything), POLICY).finding


counts = st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(st.fixed_dictionaries({name: counts for name in SOUND}), st.none() | st.floats(0, 1), st.integers(0, 50))
def test_there_is_always_one_thing_to_decide(given, share, pqls):
    found = diagnose(figures(share=share, without=share, pqls=pqls, **given), POLICY)
    assert found.finding and found.decide
