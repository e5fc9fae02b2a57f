"""Whatever is wrong in a policy file is said in lines that name the place and the fix; nothing of it is a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from onetouch.cli import app
from onetouch.policy import FORMAT, PolicyError, read_policy, read_stored, review_policy
from onetouch.policy.read import preset_document
from onetouch.workspace import usable_policy
from typer.testing import CliRunner

DEFAULT = preset_document()
TEXT = files("onetouch.policy").joinpath("default.yaml").read_text(encoding="utf-8")

ODD = (
    "2015-13-01", "2015-02-30", "2015-01-01 25:61:00", "0b_", "0x_", "08:99", "17:45", "9", "-1", "0", "1e400", ".nan",
    "-.inf", "99999999999999999999999999", "1" * 5_000, "true", "no", "null", "''", "' '", "[]", "{}", "[[]]", "{a: }",
    "[null]", "{1: 2}", "{null: null}", "{[a]: b}", "x", "a@b", "'{users'", "'{nobody}'", '"\\0"', '"\\ud800"',
    '"a\\nb"', "!!binary x", "!!int ''", "!!float ''", "!!timestamp x", "!!bool x", "!!set {a, b}", "!!omap [a: b]",
    "!!python/object:os.system x", "!unknown x", "&a [*a]", "*unknown", "<<", "=", "@", "`", "%", "- x", ": x", "'",
    "[", "{<<: 1}", "{<<: [{a: 1}]}", "1.5", "1_000_000_000", "2015-01-01", "12:30:45.5", "https://x.example/y",
    "Ünïcödé", "'09:00Z'", "'20150101'",
)  # fmt: skip


LETTERS = ":-{}[],'\"&*#?|>%@`!\t \0é\x85\ufeff"


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value of a document, mappings and lists included."""
    if at:
        yield at
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in below:
        yield from places(item, (*at, step))


PLACES = tuple(at for at in places(DEFAULT) if all(step in (0, 1) for step in at if isinstance(step, int)))


def flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True).removesuffix("\n...\n")


def with_text(value: Any, at: tuple[Any, ...], text: str) -> str:
    """The YAML of a document that holds `text` at a place; of mappings only what leads there, for it is laid over."""
    if not at:
        return text
    step, *rest = at
    if isinstance(value, dict):
        return f"{{{step}: {with_text(value[step], tuple(rest), text)}}}"
    items = [with_text(item, tuple(rest), text) if place == step else flow(item) for place, item in enumerate(value)]
    return f"[{', '.join(item.strip() for item in items)}]"


def checked(folder: Path, content: bytes) -> list[str]:
    """The lines in which a policy file is refused; empty where it can be used."""
    file = folder / "policy.yaml"
    file.write_bytes(content)
    try:
        policy = usable_policy(file)
    except PolicyError as error:
        return str(error).splitlines()
    assert policy.version
    assert all(str(finding).isprintable() for finding in review_policy(policy))
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies")


def named(lines: list[str], folder: Path) -> None:
    for line in lines:
        assert line.startswith((f"{folder}/policy.yaml", "never_contact.file: ")), line
        assert ("; " in line or ": " in line) and line.isprintable(), line


@given(at=st.sampled_from(PLACES), text=st.sampled_from(ODD))
@example(("events", "product_since"), "2015-13-01")
def test_an_odd_value_at_any_key_is_read_or_refused_in_lines(folder: Path, at: tuple[Any, ...], text: str) -> None:
    named(checked(folder, with_text(DEFAULT, at, text).encode("utf-8", "surrogatepass")), folder)


@given(data=st.data())
def test_the_default_with_letters_changed_is_read_or_refused_in_lines(folder: Path, data: st.DataObject) -> None:
    """The file as a tired person leaves it: letters lost, added or doubled, lines gone, moved or in another depth."""
    lines = TEXT.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        line = lines[place]
        letter = data.draw(st.integers(0, max(len(line) - 1, 0)))
        lines[place] = data.draw(
            st.sampled_from([
                "", line[:letter] + line[letter + 1 :], line + "\n" + line, "  " + line, "\t" + line, line[2:],
                line[:letter] + data.draw(st.sampled_from(LETTERS)) + line[letter:],
            ])
        )  # fmt: skip
    named(checked(folder, "\n".join(lines).encode()), folder)


MISTAKES: list[tuple[str, str]] = [
    # Dates, times, numbers.
    (
        "events: {product_since: 2015-13-01}",
        "line 1: events.product_since: '2015-13-01' is no date (month must be in 1..12); write one like 2015-01-31",
    ),
    ("events:\n  product_since: 20150101", "events.product_since: 20150101 is not allowed; give a date, like 2015-01-"),
    ("slack: {quiet_from: 20}", "slack.quiet_from: 20 is not allowed; give a time of day in quotes, like"),
    ("slack: {quiet_from: '20:00Z'}", "slack.quiet_from: '20:00Z' is not allowed; give a time of day"),
    ("value: {floor: .nan}", "value.floor: nan is not allowed; Input should be a finite number"),
    ("value: {floor: .inf}", "value.floor: inf is not allowed; Input should be a finite number"),
    ("value: {floor: 1.0e+20}", "value.floor: 1e+20 is not allowed; give a number up to 1,000,000,000,000,000"),
    ("name: 0b_", "line 1: name: '0b_' cannot be read as int; write it like 10, any text in quotes"),
    ("signals: {lookback_days: 40000}", "signals.lookback_days: 40000 is not allowed; give 36,500 days or fewer"),
    ("signals: {lookback_days: '40000'}", "signals.lookback_days: 40000 is not allowed; give 36,500 days or fewer"),
    ("handoff:\n  sla_hours: {high: 900000}", "handoff.sla_hours.high: 900000 is not allowed; give 876,000 hours"),
    ("assignment: {tasks_per_day: yes}", "tasks_per_day: true is no number; give one"),
    ("product: {plans: [{name: a, seat_price_year: no}]}", "seat_price_year: false is no number; give one"),
    # Texts that YAML reads as something else.
    ("assignment: {working_time: {country: NO}}", "assignment.working_time.country: False is not allowed; put it in q"),
    ("product: {name: 365}", "product.name: 365 is not allowed; put it in quotes"),
    ("on: {}", "on: unknown key (value {}); allowed: name, unit, sources"),
    # Shapes.
    ("scoring: [1]", "scoring: [1] is not allowed; give a mapping, a line `key: value` for each of scorer, firmograph"),
    ("product: {features: one}", "product.features: 'one' is not allowed; give a list: [one, another]"),
    ("sources: [[amplitude]]", "sources: [['amplitude']] is not allowed; give the names of sources"),
    ("scoring: {points: [{signal: users, at_least: 3}]}", "'at_least': 3} is not allowed; Field required: add it"),
    # The file itself.
    ("value: {floor: 1, floor: 2}", "line 1: value.floor: is given twice, first in line 1; keep one of them"),
    ("name: a\nvalue: {}\nname: b", "line 3: name: is given twice, first in line 1; keep one of them"),
    ("value:\n\tfloor: 1", "line 2, column 1: is not YAML: found character '\\t' that cannot start any token; indent "),
    ("value:\n  floor: 1\n assist: 2", "is not YAML"),
    ("a: &a [*a]", "line 1: a.0: refers to itself"),
    ("[" * 5_000, "is nested too deeply"),
    ("\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(9)), "for more than 100,"),
    ('name: "\\ud800"', "line 1: name: '\\ud800' is not allowed; it holds half a character; remove it"),
    ("{[a]: b}", "has a key that is no text"),
    # Names.
    ("routing: {rules: {frction: {}}}", "routing.rules.frction: no such rule; did you mean friction?"),
    ("routing: {rules: {friction: {wen: []}}}", "routing.rules.friction.wen: unknown key (value []); did you mean whe"),
    ("routing: {triggers: [pricing_view]}", "routing.triggers.0: 'pricing_view' is not allowed; no signal is called t"),
    ("routing: {triggers: [pricing_view]}", "did you mean pricing_views?"),
    ("routing: {medium: monitr}", "routing.medium: 'monitr' is not allowed; did you mean monitor? allowed: 'monitor' "),
    ("audience: {actions: [nurtur]}", "audience.actions.0: 'nurtur' is not allowed; did you mean nurture?"),
    ("sources: [amplitud]", "sources: 'amplitud' is not allowed; did you mean amplitude?"),
    ("scoring: {scorer: point}", "scoring.scorer: 'point' is not allowed; did you mean points?"),
    ("crm: {system: Salesforce}", "crm.system: 'Salesforce' is not allowed; did you mean salesforce?"),
    ("crm: {account_fields: {industri: X}}", "no such snapshot column: industri; did you mean industry?"),
    ("chat: slak", "chat: 'slak' is not allowed; did you mean slack?"),
    ("vocabulary: {Bought: plan_upgrade}", "vocabulary.Bought.as: 'plan_upgrade' is not allowed; no event of ours is"),
    ("product: {milestones: [data_import]}", "did you mean data_imported?"),
    ("product: {plans: [{name: Free, next: Taem}, {name: Team}]}", "did you mean Team?"),
    ("message: {closing: 'It is {pruduct}.'}", "did you mean {product}?"),
    ("assignment: {working_time: {timezone: Europe/Berln}}", "did you mean Europe/Berlin?"),
    (
        "assignment: {reps: [{email: ana.lang@v.com}], territories: [{name: EMEA, reps: [ana.long@v.com]}]}",
        "ana.long@v.com not in assignment.reps; add them, or did you mean ana.lang@v.com?",
    ),
    # Addresses.
    ("assignment: {reps: [{email: ana.v.com}]}", "assignment.reps.0.email: 'ana.v.com' is not allowed; give an e-mail"),
    ("assignment: {territories: [{name: EMEA, reps: [ana@v]}]}", "assignment.territories.0.reps.0: 'ana@v' is not all"),
    ("crm: {automation: {owners: [robot]}}", "crm.automation.owners.0: 'robot' is not allowed; give an e-mail address"),
    ("never_count: {emails: [a@b@c.com]}", "never_count.emails.0: 'a@b@c.com' is not allowed; give an e-mail address"),
    ("never_count: {domains: ['https://v.com']}", "never_count.domains.0: 'https://v.com' is not allowed; give a doma"),
    ("never_contact: {people: ['ana@v, left']}", "never_contact.people: ['ana@v, left'] is not allowed; 'ana@v, left'"),
    ("slack: {alerts_channel: '#sales'}", "slack.alerts_channel: '#sales' is not allowed; give the id of a channel"),
    ("slack: {ops_channel: 'https://v.slack.com/C01'}", "slack.ops_channel: 'https://v.slack.com/C01' is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text[:50] for text, _ in MISTAKES])
def test_a_mistake_is_said_with_its_place_and_its_fix(folder: Path, text: str, said: str) -> None:
    lines = checked(folder, text.encode("utf-8", "surrogatepass"))
    named(lines, folder)
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: \xff", "cannot be read (byte 6 is no UTF-8; save the file as UTF-8)"),
        ("name: x".encode("utf-16"), "cannot be read (byte 0 is no UTF-8; save the file as UTF-8)"),
        (b"name: a\x00b", "is not YAML: special characters are not allowed"),
    ],
)
def test_another_encoding_is_said(folder: Path, content: bytes, said: str) -> None:
    assert said in checked(folder, content)[0]


def test_what_a_person_means_is_read(tmp_path: Path) -> None:
    """A time without quotes, keys that YAML takes for other things, a file that begins with a byte order mark."""
    file = tmp_path / "policy.yaml"
    file.write_bytes(b"\xef\xbb\xbfslack: {quiet_from: 19:30}\nvocabulary: {404: ci_run, no: pricing_viewed}\n")
    policy = usable_policy(file)
    assert str(policy.slack.quiet_from) == "19:30:00"
    assert {policy.vocabulary[name].as_ for name in ("404", "no")} == {"ci_run", "pricing_viewed"}


def test_what_former_releases_stored_is_read_although_a_file_would_be_refused() -> None:
    """Runs are replayed for ever: what is no address, or no century, was allowed when they were made."""
    document = read_policy().document()
    document["assignment"]["reps"] = [{"email": "ana"}]
    document["routing"]["cooldown_days"], document["slack"]["alerts_channel"] = 99_999, "#sales"
    kept = read_stored(document | {"format": FORMAT})
    assert kept.assignment.reps[0].email == "ana"
    assert kept.routing.cooldown_days == 99_999


def test_the_command_says_each_mistake_in_a_line(folder: Path) -> None:
    file = folder / "policy.yaml"
    file.write_text("events: {product_since: 2015-13-01}")
    told = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert told.exit_code == 1
    assert len(told.stderr.strip().splitlines()) == 1
    assert "events.product_since" in told.stderr
