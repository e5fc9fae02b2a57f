"""What a valid policy cannot have meant: each check with one policy that it finds wrong; the shipped ones are clean."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from onetouch.cli import app
from onetouch.experiments.scenarios import stage_scenarios
from onetouch.policy import Policy, read_policy
from onetouch.policy.read import PRESETS, overlay, preset_document
from onetouch.policy.review import CHECKS, COLUMNS, review_policy
from typer.testing import CliRunner

DEFAULT = preset_document()
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "policy-open-source.yaml"

FALLBACK = {"name": "any", "headline": "use", "approach": "Ask.", "offer": "I can help."}
LAST = {**FALLBACK, "name": "last"}
TRIED = {**FALLBACK, "name": "tried", "when": [{"signal": "premium_attempts", "at_least": 1}]}
TRIED_OFTEN = {**FALLBACK, "name": "often", "when": [{"signal": "premium_attempts", "at_least": 3}]}
NAMED = {**TRIED, "name": "named", "approach": "They tried {premium_attempted}."}
ANA, BEN = {"email": "ana@v.com", "senior": True}, {"email": "ben@v.com"}
AWAY = {**BEN, "leave": [{"first": "2025-01-01", "last": "2099-12-31"}]}


def territory(name: str, rep: str = "ana@v.com", **asked: object) -> dict[str, object]:
    return {"name": name, "reps": [rep], **asked}


EMEA, EVERYONE = territory("EMEA", regions=["EMEA"]), territory("everyone")
EMEA_SMALL = territory("EMEA small", regions=["emea"], max_employees=499)
EMEA_LARGE = territory("EMEA large", regions=["emea"], min_employees=500)
SOFTWARE = territory("software", industries=["Software"])


def team(*reps: object, territories: tuple[object, ...] = ()) -> dict[str, object]:
    return {"assignment": {"reps": list(reps), "territories": list(territories)}}


def one(path: str, value: object) -> dict[str, object]:
    *parents, last = path.split(".")
    document: dict[str, object] = {last: value}
    for parent in reversed(parents):
        document = {parent: document}
    return document


def condition(signal: str, at_least: float, **more: object) -> list[dict[str, object]]:
    return [{"signal": signal, "at_least": at_least, **more}]


POINTS = DEFAULT["scoring"]["points"]
WEST = territory("west", "BEN@v.com", regions=["west"])

ERRORS: list[tuple[dict[str, object], str]] = [
    # Thresholds out of reach.
    (one("scoring.tiers.high", 178), "scoring.tiers.high: 178 is out of reach: all signals that count earn 177"),
    (one("routing.engaged", condition("active_days", 20)), "routing.engaged.0.at_least: 20 is out of reach"),
    (one("gates.intent", condition("return_days", 29)), "gates.intent.0.at_least: 29 is out of reach"),
    (one("routing.hand_raised", condition("demo_completion", 101)), "routing.hand_raised.0.at_least: 101 is out"),
    (
        one("scoring.points", [*POINTS, *condition("milestones_done", 6, points=1)]),
        "scoring.points.26.at_least: 6 is out of reach: milestones_done is never more than 5",
    ),
    (
        one("situations", [{**FALLBACK, "when": condition("limit_held_days", 91)}, LAST]),
        "situations.0.when.0.at_least: 91 is out of reach",
    ),
    (one("signals.engagement_days", 91), "signals.engagement_days: 91 is longer than lookback_days (90)"),
    (one("signals.abandoned_barrier_hours", 672), "signals.abandoned_barrier_hours: 672 is past recent_days (28)"),
    # Rules that are never reached.
    (one("routing.holdout_share", 1), "routing.holdout_share: 1 holds every account back"),
    (one("routing.engaged", condition("enterprise_domain", 1)), "routing.engaged: enterprise_domain looks at the comp"),
    (one("gates.icp.max_employees", 4), "gates.icp.min_employees: 5 is more than max_employees (4)"),
    (
        one("gates.icp", {"industries": ["Retail"], "excluded_industries": ["retail", "mining"]}),
        "gates.icp.industries: Retail are all excluded",
    ),
    (
        one("gates.icp.max_employees", 20) | one("value.floor", 4801),
        "value.floor: 4801 is out of reach: 20 seats at $240 a year are $4,800; set it to 4800 or less",
    ),
    (one("vocabulary.data_imported", None), "product.activation: data_imported is meant by no event"),
    (
        one("situations", [FALLBACK, TRIED, LAST]) | one("message.order", "listed"),
        "situations.1: “tried” is never reached: “any” above",
    ),
    (one("situations", [TRIED, TRIED_OFTEN, LAST]), "situations.1: “often” is never reached: “tried” above"),
    # Territories and reps.
    (
        team(ANA, territories=(EMEA_SMALL, EMEA_LARGE, EMEA)),
        "assignment.territories.2: EMEA is never reached: those above fit whatever it fits",
    ),
    (team(ANA, territories=(EVERYONE, EMEA)), "assignment.territories.1: EMEA is never reached"),
    (
        team(ANA, territories=(territory("odd", min_employees=9, max_employees=8), EVERYONE)),
        "assignment.territories.0: odd is never reached: its sizes contradict each other",
    ),
    (team(ANA, AWAY, territories=(WEST, EVERYONE)), "assignment.territories.0.reps: west has no rep with room (BEN@"),
    (team({**ANA, "tasks_per_day": 0}), "assignment.reps: ana@v.com never have room, and there is nobody else"),
    # Clocks and context.
    (one("handoff.sla_hours.medium", 73), "handoff.sla_hours.medium: 73 is longer than expires_hours (72)"),
    (
        one("handoff.required_context", [*DEFAULT["handoff"]["required_context"], "industri"]),
        "handoff.required_context: industri is no field of an account; did you mean industry?",
    ),
]

WARNINGS: list[tuple[dict[str, object], str]] = [
    (
        {"product": {"plans": [{"name": "Free", "limits": {"api_calls": 100}}]}}
        | one("signals.limit_resets", {"api_call": "month"}),
        "signals.limit_resets: api_call is a limit of no plan; did you mean api_calls?",
    ),
    (
        one("report.benchmarks", {"sla_adherance": {"low": 0.9, "high": 1, "source": "ours"}}),
        "report.benchmarks: sla_adherance is compared with no figure; did you mean sla_adherence?",
    ),
    (
        one("scoring.points", condition("invites", 3, points=50)) | one("routing.triggers", ["invites"]),
        "scoring.tiers.medium: 30 is a tier nobody is in: no sum of points lies from it to below high (50)",
    ),
    (one("assignment.senior_score", 185), "assignment.senior_score: 185 is out of reach: all signals earn 184 points"),
    (
        one("scoring.points", [*POINTS, *condition("milestones_done", 3, full_at=10, points=1)]),
        "scoring.points.26.full_at: 10 is out of reach: milestones_done is never more than 5; write 5",
    ),
    (
        one("routing.expansion.when", condition("limit_share", 80)),
        "routing.expansion.when.0.at_least: 80 is more than the whole limit",
    ),
    (one("gates.intent", condition("tickets", 0)), "gates.intent.0.at_least: 0 asks nothing"),
    (one("signals.checkout_stalled_hours", 72), "signals.checkout_stalled_hours: 72 is not before checkout_abandoned"),
    (one("routing.engaged", condition("active_days", 5)), "routing.engaged: active_days 5 asks no more than"),
    (
        one("routing.expansion.when", [*condition("limit_share", 0.6), *condition("limit_held_days", 14)]),
        "routing.expansion.when: limit_share 0.6 is less than signals.limit_near (0.8)",
    ),
    (one("routing.triggers", []), "routing.triggers: [] are none: a monitored account is watched and never called"),
    (one("routing.triggers", ["invites", "tickets"]), "routing.triggers: tickets earn no points"),
    (one("value.assist", 5000), "value.assist: 5000 is not above floor (5000)"),
    (
        one("routing.motion.sales_assist_employees", 500),
        "routing.motion.sales_assist_employees: 500 is not below sales_led_employees (500)",
    ),
    (
        one("routing.large_not_engaged", "sales") | one("gates.icp.max_employees", 499),
        "routing.large_not_engaged: sales never applies: gates.icp.max_employees is 499",
    ),
    (
        one("product.plans", [{"name": "Pro", "features": ["sso", "custom_roles"]}]),
        "product.premium_features: audit_log are in no plan",
    ),
    (
        one("situations", [{**TRIED, "offer": "Can I help?", "question": "With what?"}, LAST]),
        "situations.0: “Can I help?” asks something besides the question",
    ),
    (one("vocabulary.teammate_invited", None), "product.milestones: teammate_invited is meant by no event"),
    (one("vocabulary.checkout_started", None), "vocabulary: (29 events) has no event that means checkout_started"),
    (
        team(ANA, territories=(EMEA, SOFTWARE)),
        "assignment.territories.1: software overlaps with EMEA, which wins: an account of EMEA, Software fits both",
    ),
    (
        team(ANA, territories=(EMEA_LARGE, {**SOFTWARE, "max_employees": 600})),
        "assignment.territories.1: software overlaps with EMEA large, which wins: an account of emea, Software, 500 em",
    ),
    (
        team(ANA, territories=(EMEA, {**EVERYONE, "name": "EMEA"})),
        "assignment.territories: EMEA is the name of two territories",
    ),
    (team(ANA, {**BEN, "tasks_per_day": 0}), "assignment.reps.1: ben@v.com never has room"),
    (team(ANA, BEN, territories=(EVERYONE,)), "assignment.reps.1: ben@v.com is in no territory"),
    (team(BEN), "assignment.senior_score: 80 prefers a senior rep, and none is senior"),
    (one("assignment.tasks_per_day", 7), "assignment.tasks_per_rep_per_day: 8 never binds"),
    (team({**ANA, "tasks_per_day": 201}), "assignment.reps.0.tasks_per_day: 201 never binds"),
    (one("handoff.sla_hours.high", 25), "handoff.sla_hours.high: 25 is longer than medium (24)"),
    (one("assignment.queue_hours", 73), "assignment.queue_hours: 73 is longer than handoff.expires_hours (72)"),
    (
        one("handoff.required_context", ["name", "users", "activated"]),
        "handoff.required_context: (3 fields) leaves out features_used, events",
    ),
    (one("quality.max_duplicate_rate.critical", 0.05), "quality.max_duplicate_rate.warning: 0.1 is milder than crit"),
    (one("quality.min_volume_ratio.critical", 0.6), "quality.min_volume_ratio.warning: 0.5 is milder than critical"),
]

FOUND = [(c, "error", t) for c, t in ERRORS] + [(c, "warning", t) for c, t in WARNINGS]


@pytest.mark.parametrize(("change", "severity", "begins"), FOUND, ids=[text[:60] for _, _, text in FOUND])
def test_each_mistake_is_found_with_field_value_and_fix(change: dict[str, object], severity: str, begins: str) -> None:
    found = review_policy(Policy.model_validate(overlay(DEFAULT, change)))
    fitting = [f for f in found if f.severity == severity and str(f).startswith(begins)]
    assert len(fitting) == 1, [str(f) for f in found]
    assert fitting[0].fix


def test_every_check_has_a_case() -> None:
    policies = [Policy.model_validate(overlay(DEFAULT, change)) for change, *_ in FOUND]
    assert [check.__name__ for check in CHECKS if not any(list(check(policy)) for policy in policies)] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_the_shipped_policies_are_clean(preset: str) -> None:
    assert review_policy(Policy.model_validate(preset_document(preset))) == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        team(ANA, territories=(EMEA_SMALL, EMEA_LARGE, EVERYONE)),
        team(ANA, BEN, territories=(EMEA, territory("other", "ben@v.com"))),
        team(ANA, {**BEN, "leave": [{"first": "2025-08-01", "last": "2025-08-21"}]}),
        one("situations", [TRIED_OFTEN, TRIED, LAST]),
        one("situations", [{**TRIED, "kind": "friction"}, {**TRIED_OFTEN, "kind": "request"}, LAST]),  # older friction
        one("situations", [NAMED, TRIED, LAST]),  # without a name for what they tried, the second fits
        one("situations", [{**FALLBACK, "paying": True}, LAST]),
        one("scoring.tiers.high", 154),
        one("routing.medium", "nurture"),
    ],
    ids=str,
)
def test_what_can_be_meant_is_not_found_wrong(change: dict[str, object]) -> None:
    assert [str(f) for f in review_policy(Policy.model_validate(overlay(DEFAULT, change)))] == []


def test_the_fields_a_rep_may_be_given_are_those_of_the_account_table(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("as_of: 2025-03-12T10:00:00Z\nscenarios: [{name: any, expect: {pql: false}}]")
    (table,) = stage_scenarios(file, policy=read_policy()).signals.values()
    assert COLUMNS - set(table) == set()


def test_errors_come_first_and_decide_the_exit(tmp_path: Path) -> None:
    run = CliRunner().invoke
    warned, wrong = tmp_path / "warned.yaml", tmp_path / "wrong.yaml"
    warned.write_text("routing: {triggers: []}")
    wrong.write_text(yaml.safe_dump(one("routing.holdout_share", 1) | one("value.assist", 5000)))

    said = run(app, ["policy", "check", str(warned), str(EXAMPLE)])
    assert (said.exit_code, "warning" in said.stderr, said.stdout.count("good")) == (0, True, 2)
    assert run(app, ["policy", "check", "--strict", str(warned)]).exit_code == 1
    assert run(app, ["policy", "check", "--strict", str(EXAMPLE)]).exit_code == 0
    said = run(app, ["policy", "check", str(wrong)])
    assert (said.exit_code, f"{wrong}: routing.holdout_share: 1" in said.stderr) == (1, True)
    assert [f.severity for f in review_policy(read_policy(wrong))] == ["error", "warning"]
