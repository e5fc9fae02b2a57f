"""The report of given figures: honest when empty, within Slack's limits whatever the texts, the same twice."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.chat.slack.blocks import blocks_of, text_of
from onetouch.lake import Lake
from onetouch.metrics import Diagnosis, Rate, Revenue, WeekCount, WeeklyMetrics, iso_week, rate
from onetouch.policy import Policy, read_policy
from onetouch.policy.schema import Benchmark
from onetouch.report import Report, build, keep_charts
from onetouch.report import message as words
from PIL import Image

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
WEEK = timedelta(days=7)
POLICY = read_policy()
HOSTILE = "<!channel> & <https://evil.example|click> *bold* $x^{2$ \u202e \x00 \n" + "x" * 4000


def metrics(
    counts=(9, 12, 11, 14, 10, 13, 12, 17), *, empty=False, source="S0", text="Nothing to change.", actions=None
) -> WeeklyMetrics:
    def of(name: str, numerator: int, denominator: int, hours: float | None = None) -> Rate:
        known = POLICY.report.benchmarks.get(name)
        benchmark = known and Benchmark(low=known.low, high=known.high, source=source)
        found = rate(name, 0 if empty else numerator, 0 if empty else denominator, MONDAY - 8 * WEEK, MONDAY, benchmark)
        return found.model_copy(update={"within_hours": hours})

    weeks = [MONDAY - (len(counts) - i) * WEEK for i in range(len(counts))]
    return WeeklyMetrics(
        week="2025-W09",
        since=MONDAY - WEEK,
        until=MONDAY,
        as_of=MONDAY,
        policy_version=POLICY.version,
        pqls=[WeekCount(week=iso_week(w), n=0 if empty else n) for w, n in zip(weeks, counts, strict=True)],
        pqls_per_rep_month=None if empty else 11.2,
        reps=0 if empty else 4,
        steps=[
            of("touched", 81, 88, 72),
            of("replied", 41, 80, 240),
            of("pql_to_opportunity", 22, 76, 336),
            of("pql_to_close", 13, 60, 720),
        ],
        meeting=of("meeting", 30, 80, 240),
        sla=of("sla_adherence", 87, 97),
        revenue=Revenue(
            assisted=0 if empty else 126_000,
            assisted_deals=0 if empty else 13,
            self_serve=0 if empty else 171_000,
            self_serve_upgrades=0 if empty else 41,
            other_sales=0 if empty else 5_000,
            without_amount=0 if empty else 2,
            share=None if empty else 126 / 297,
            share_without_largest=None if empty else 0.34,
            since=MONDAY - 8 * WEEK,
            until=MONDAY,
        ),
        actions={} if empty else actions or {"sales_now": 4, "nurture": 1_190},
        actions_as_of=None if empty else MONDAY - timedelta(hours=1),
        diagnosis=Diagnosis(finding=text, decide=text),
    )


def texts(report: Report) -> list[str]:
    """Everything Slack reads as markup."""
    found = [text_of(report.details)]
    for block in blocks_of(report.message):
        if block["type"] == "section":
            found.append(block["text"]["text"])
        elif block["type"] == "context":
            found += [element["text"] for element in block["elements"]]
    return found


def assert_postable(report: Report) -> None:
    """Within Slack's limits; `report` may be without pictures."""
    images = len(report.charts)
    assert len(blocks_of(report.message)) + images <= 50
    assert len(text_of(report.details)) < 12_000
    for block in blocks_of(report.message):
        if block["type"] == "header":
            assert block["text"]["type"] == "plain_text" and len(block["text"]["text"]) <= 150
        elif block["type"] == "section":
            assert 0 < len(block["text"]["text"]) <= 3_000
        elif block["type"] == "context":
            assert len(block["elements"]) <= 10
        else:
            assert block == {"type": "divider"}
    shown = sum(len(text) for text in texts(report)[1:]) + sum(len(c.title) + len(c.alt) for c in report.charts)
    assert shown < 12_000
    for text in texts(report):
        assert "<" not in text and ">" not in text
    for chart in report.charts:
        assert 0 < len(chart.title) <= 2_000 and 0 < len(chart.alt) <= 2_000
        with Image.open(io.BytesIO(chart.png)) as image:
            assert image.size == (1200, 900)


@pytest.fixture(scope="module")
def report() -> Report:
    return build(metrics(), POLICY)


def test_figures_carry_denominator_interval_benchmark_and_source(report):
    assert_postable(report)
    body = "\n".join(texts(report)[1:])
    assert "*Closed won, 30 days* 22 %, 13 of 60 [13–34 %]; benchmark 15–30 % (S0)" in body
    assert "$126K of $297K (n=54); benchmark 40–60 % (S0)" in body
    assert "*Decide:* Nothing to change." in body
    assert body.index("Decide") < body.index("PQLs to sales"), "what to decide comes first"
    assert text_of(report.message).startswith("Product-led sales 2025-W09: 17 PQLs.")
    assert "sales_now 4, nurture 1,190" in text_of(report.details)
    assert len(report.charts) >= 3


def test_what_sales_is_credited_with_by_policy_is_told_apart():
    figures = metrics()
    revenue = figures.revenue.model_copy(update={"credited": 26_000.0, "credited_upgrades": 6})
    report = build(figures.model_copy(update={"revenue": revenue}), POLICY)
    assert_postable(report)
    credited = "In the first: $26K that customers once handed to sales added by upgrading themselves (n=6)."
    assert credited in text_of(report.details)
    assert "$126K of $297K (n=60)" in "\n".join(texts(report))
    assert "In the first" not in text_of(build(figures, POLICY).details)


def test_no_data_is_said_and_still_drawn():
    report = build(metrics(empty=True), POLICY)
    assert_postable(report)
    assert "nothing to judge yet (n=0)" in texts(report)[2]
    assert [chart.title for chart in report.charts] == [
        "0 PQLs went to sales this week",
        "No PQL has had its 30 days to close yet",
        "No new revenue to split yet",
    ]


def test_the_same_figures_give_the_same_report_and_others_another_picture(report):
    again, other = build(metrics(), POLICY), build(metrics((9, 12, 11, 14, 10, 13, 12, 40)), POLICY)
    assert again == report
    assert [mine.png == theirs.png for mine, theirs in zip(report.charts, other.charts, strict=True)] == [
        False,
        True,
        True,
    ]


def test_every_picture_shows_a_figure(report):
    for chart in report.charts:
        with Image.open(io.BytesIO(chart.png)) as image:
            colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
        assert (0, 0x72, 0xB2) in {colour for _, colour in colours}, chart.name


def test_alt_text_tells_what_the_picture_shows(report):
    alts = {chart.name: chart.alt for chart in report.charts}
    assert "W09 17" in alts["pqls_by_week"]
    assert "Closed won, 30 days: 22 % (13 of 60" in alts["conversion"]
    assert "$126K (13 deals)" in alts["revenue_split"]


def hostile_policy() -> Policy:
    benchmarks = {
        name: Benchmark(low=b.low, high=b.high, source=HOSTILE) for name, b in POLICY.report.benchmarks.items()
    }
    return POLICY.model_copy(update={"report": POLICY.report.model_copy(update={"benchmarks": benchmarks})})


def test_hostile_texts_stay_texts():
    actions = {f"{HOSTILE}{i}": i for i in range(100)}
    report = build(metrics(source=HOSTILE, text=HOSTILE, actions=actions), hostile_policy())
    assert_postable(report)
    assert "&lt;!channel&gt; &amp;" in text_of(report.details)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.text(max_size=60), st.text(max_size=500))
def test_any_text_can_be_posted(text, source, promises):
    figures = metrics(text=text, source=source)
    assert_postable(Report(words.message(figures, POLICY), words.details(figures, POLICY, promises), []))


def test_the_thread_says_what_an_audit_found():
    promises = "12 tasks, 0 duplicates, 0 lost since 2025-11-18"
    assert f"Tasks in the CRM*: {promises}." in text_of(words.details(metrics(), POLICY, promises))
    assert "Tasks in the CRM" not in text_of(words.details(metrics(), POLICY))


@pytest.mark.parametrize("weeks", [1, 26])
def test_other_numbers_of_weeks_can_be_drawn(weeks):
    assert_postable(build(metrics(tuple(range(1, weeks + 1))), POLICY))


def test_a_policy_without_benchmarks_gives_a_report_without_them():
    policy = POLICY.model_copy(update={"report": POLICY.report.model_copy(update={"benchmarks": {}})})
    bare = metrics()
    bare = bare.model_copy(
        update={"steps": [s.model_copy(update={"benchmark": None, "verdict": "none"}) for s in bare.steps]}
    )
    assert_postable(build(bare, policy))


def test_charts_are_kept_by_week_and_name(report, tmp_path):
    lake = Lake(tmp_path)
    assert keep_charts(report, lake, "2025-W09") == keep_charts(report, lake, "2025-W09") == len(report.charts)
    kept = lake.list("reports", ".png")
    assert len(kept) == len(report.charts)
    assert lake.fs.cat_file(lake.path("reports", "2025-W09", "pqls_by_week.png")) == report.charts[0].png
