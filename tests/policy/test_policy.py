"""A policy file: what is accepted, what a mistake says, what its version means."""

from __future__ import annotations

import copy
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.policy.read import preset_document

DEFAULT = preset_document()
EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("policy*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return file


def test_a_policy_holds_only_what_differs(tmp_path: Path) -> None:
    mine = read_policy(written(tmp_path, "scoring: {tiers: {high: 60}}"))
    default = read_policy()
    assert mine.scoring.tiers.high == 60
    assert mine.scoring.tiers.medium == default.scoring.tiers.medium
    assert mine.gates == default.gates


def test_lists_are_replaced_whole_and_null_unmaps_an_event(tmp_path: Path) -> None:
    mine = read_policy(
        written(tmp_path, "product: {features: [one]}\nvocabulary: {ci_run: null, Bought: plan_upgraded}")
    )
    assert mine.product.features == ["one"]
    assert "ci_run" not in mine.vocabulary
    assert mine.vocabulary["Bought"].as_ == "plan_upgraded"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scoring: {tiers: {hihg: 3}}", ["scoring.tiers.hihg", "did you mean high?"]),
        ("handof: {}", ["handof", "did you mean handoff?"]),
        (
            "quality: {max_quarantine_rate: {warning: lots}}",
            ["quality.max_quarantine_rate.warning", "'lots'", "number"],
        ),
        ("scoring: {tiers: {high: 20}}", ["scoring.tiers", "medium must be less than high (20"]),
        ("gates: {intent: [{signal: fundings, at_least: 1}]}", ["gates.intent", "firmographic"]),
        (
            "gates: {intent: [{signal: pricing, at_least: 1}]}",
            ["gates.intent.0.signal", "'pricing'", "pricing_views"],
        ),
        ("vocabulary: {Bought: bougth}", ["vocabulary.Bought.as", "'bougth'", "plan_upgraded"]),
        ("value: {seats_within_reach: 20}", ["value.seats_within_reach", "20", "less than or equal to 1"]),
        ("crm: {account_fields: {name: 'Name FROM User--'}}", ["crm.account_fields.name", "Name FROM User--"]),
        (
            "assignment: {working_time: {timezone: Berlin}}",
            ["assignment.working_time.timezone", "'Berlin'", "an IANA time zone, like Europe/Berlin"],
        ),
        (
            "assignment: {working_time: {country: Germany}}",
            ["assignment.working_time.country", "'Germany'", "ISO 3166 code of two letters, like US or DE"],
        ),
        (
            "assignment: {reps: [{email: a@v.com, timezone: ../etc}]}",
            ["assignment.reps.0.timezone", "'../etc'", "IANA time zone"],
        ),
        (
            "assignment: {working_time: {end: '08:00'}}",
            ["assignment.working_time", "end (08:00:00) must be after start"],
        ),
        ("assignment: {working_time: {weekdays: []}}", ["assignment.working_time.weekdays", "at least 1"]),
        ("assignment: {working_time: {weekdays: [7]}}", ["assignment.working_time.weekdays.0", "7", "equal to 6"]),
        (
            "assignment: {reps: [{email: a@v.com, leave: [{first: 2025-08-10, last: 2025-08-01}]}]}",
            ["assignment.reps.0.leave.0", "last (2025-08-01) must not be before first (2025-08-10)"],
        ),
        (
            "assignment: {reps: [{email: a@v.com}, {email: A@V.com}]}",
            ["assignment", "named twice: a@v.com; keep one entry each"],
        ),
        (
            "assignment: {reps: [{email: a@v.com}], territories: [{name: EMEA, reps: [b@v.com]}]}",
            ["assignment", "territories: EMEA: b@v.com not in assignment.reps; add them"],
        ),
        ("assignment: {territories: [{name: EMEA, reps: []}]}", ["assignment.territories.0.reps", "at least 1"]),
        (
            "scoring: {points: [{signal: users, at_least: 5, full_at: 5, points: 1}]}",
            ["scoring.points.0", "full_at must be more than at_least (5"],
        ),
        (
            "scoring: {points: [{signal: users, at_least: 5, points: 1, half_life_days: 3}]}",
            ["scoring.points.0", "half_life_days: users does not happen at a moment", "invites"],
        ),
        (
            "scoring: {points: [{signal: users, at_least: 5, points: 1}, {signal: users, at_least: 9, points: 1}]}",
            ["scoring.points", "named twice: users"],
        ),
        (
            "routing: {triggers: [fundings]}",
            ["routing.triggers", "fundings is no event of use", "pricing_views"],
        ),
        ("routing: {medium: ignore}", ["routing.medium", "'ignore'", "'monitor' or 'nurture'"]),
        ("handoff: {touches: 6}", ["handoff.touches", "6", "less than or equal to 5"]),
        ("unit: team", ["unit", "'team'", "'account' or 'user'"]),
        ("extends: heavy", ["extends: 'heavy' is not allowed", "default, weighted"]),
        ("[1, 2]", ["is a list"]),
        ("a: [", ["line 1", "not YAML"]),
    ],
)
def test_a_mistake_names_file_field_value_and_what_is_allowed(tmp_path: Path, text: str, said: list[str]) -> None:
    file = written(tmp_path, text)
    with pytest.raises(PolicyError) as caught:
        read_policy(file)
    for part in [str(file), *said]:
        assert part in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.yaml: cannot be read"):
        read_policy(tmp_path / "none.yaml")


# ── Presets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_weighted_preset_changes_what_earns_points_and_nothing_else(tmp_path: Path) -> None:
    weighted = read_policy(written(tmp_path, "extends: weighted"))
    default = read_policy()
    assert [(p.signal, p.points) for p in weighted.scoring.points] == [
        ("users", 30), ("integrations", 30), ("limit_share", 15), ("active_days", 15), ("enterprise_domain", 10),
    ]  # fmt: skip
    assert (weighted.scoring.tiers.high, weighted.scoring.firmographics) == (60, "combine")
    same = Policy.model_fields.keys() - {"name", "scoring"}
    assert all(getattr(weighted, section) == getattr(default, section) for section in same)
    assert weighted.version != default.version


def test_a_policy_over_a_preset_holds_only_what_differs_from_it(tmp_path: Path) -> None:
    mine = read_policy(written(tmp_path, "extends: weighted\nscoring: {tiers: {high: 70}}"))
    weighted = read_policy(written(tmp_path, "extends: weighted"))
    assert (mine.scoring.tiers.high, mine.scoring.tiers.medium) == (70, weighted.scoring.tiers.medium)
    assert mine.scoring.points == weighted.scoring.points


def test_extending_the_default_is_saying_nothing(tmp_path: Path) -> None:
    assert read_policy(written(tmp_path, "extends: default")) == read_policy()
    assert read_policy(written(tmp_path, "")) == read_policy()


# ── Documents and versions ───────────────────────────────────────────────────────────────────────────────────────────

FULL = """
extends: weighted
assignment:
  reps:
    - {email: ana@v.com, senior: true, timezone: Europe/Berlin, country: DE, tasks_per_day: 3,
       leave: [{first: 2025-08-01, last: 2025-08-14}]}
    - {email: ben@v.com}
  territories: [{name: EMEA, reps: [ana@v.com], regions: [EMEA], industries: [Software], max_employees: 499}]
  working_time: {start: "08:30", end: "16:45", country: FR}
  senior_score: null
vocabulary: {Bought: {as: plan_upgraded, detail_is: team, value: price}}
crm: {account_fields: {plan_limits: null}}
"""


@pytest.mark.parametrize("text", ["", "extends: weighted", FULL], ids=["default", "weighted", "full"])
def test_a_document_is_the_whole_policy(tmp_path: Path, text: str) -> None:
    """As JSON, as the ledger keeps it, and as YAML, as a person may write it: the same policy comes back."""
    policy = read_policy(written(tmp_path, text))
    kept = json.loads(json.dumps(policy.document()))
    assert Policy.model_validate(kept) == policy
    assert Policy.model_validate(kept).version == policy.version
    assert read_policy(written(tmp_path, yaml.safe_dump(policy.document()))) == policy


def test_the_version_is_a_hash_of_the_meaning(tmp_path: Path) -> None:
    default = read_policy()
    relaid = written(tmp_path, "# another layout\nname: other words\n" + yaml.safe_dump({"value": {"floor": 5000.0}}))
    assert read_policy(relaid).version == default.version
    assert read_policy(written(tmp_path, "value: {floor: 5001}")).version != default.version
    assert Policy.model_validate(default.document()) == default


@given(floor=st.integers(0, 10**6), silence=st.integers(1, 60))
def test_equal_documents_have_equal_versions(floor: int, silence: int) -> None:
    def policy() -> Policy:
        document = copy.deepcopy(DEFAULT)
        document["value"]["floor"], document["handoff"]["silence_days"] = floor, silence
        return Policy.model_validate(document)

    assert policy().version == policy().version
    same = (floor, silence) == (5000, 7)
    assert (policy().version == Policy.model_validate(DEFAULT).version) is same


def test_every_number_of_the_default_names_its_source() -> None:
    """A source stands on the number's own line, or on the line that opens its section."""
    lines = files("onetouch.policy").joinpath("default.yaml").read_text().splitlines()
    opened: list[tuple[int, str]] = []
    for line in filter(str.strip, lines):
        content, _, comment = line.partition("#")
        depth = len(content) - len(content.lstrip())
        opened = [(d, c) for d, c in opened if d < depth]
        said = " ".join([comment, content, *(c for _, c in opened)])
        if re.search(r":.*\d", re.sub(r"signal: \w+|C0\w+|\[.*\]|source: \w+", "", content)):
            assert re.search(r"\b(S[0-4]|ours)\b", said), line
        if content.strip():
            opened.append((depth, comment))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_good(example: Path) -> None:
    assert read_policy(example).version
