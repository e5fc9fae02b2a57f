"""Writes docs/policy.md: every key of a policy, from its schema, the shipped files and their comments.

Run: python docs/policy.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from onetouch.catalogue import EVENTS, SIGNAL_NAMES, SIGNALS, SNAPSHOT_COLUMNS, Signal, Window
from onetouch.chat import CHATS
from onetouch.crm import CRMS
from onetouch.policy.read import PRESETS, preset_document
from onetouch.policy.schema import FACTS, FOR_CUSTOMER, Policy

Json = dict[str, Any]

SCHEMA: Json = Policy.model_json_schema(by_alias=True)
PAGE = Path(__file__).with_name("policy.md")


@dataclass(frozen=True)
class Contradiction:
    """A question on which the sources disagree or are silent: the key that answers it, and the other answers."""

    question: str
    keys: tuple[str, ...]
    default: str
    other: str


CONTRADICTIONS = (
    Contradiction(
        "How often does a rep write to an account that does not answer?", ("handoff.touches", "handoff.silence_days"),
        "once, then 7 days of silence, then it is self-serve again (S0)",
        "3 to 5 times (S2): `touches: 4`; each of the others is a follow-up task (`handoff.follow_ups`)",
    ),
    Contradiction(
        "How soon is a high-tier account called?", ("handoff.sla_hours.high",), "within 2 hours (S2)",
        "within 1 to 4 hours (S4): `high: 4`",
    ),
    Contradiction(
        "What happens to the medium tier?", ("routing.medium", "handoff.sla_hours.medium"),
        "it is watched, and called within 24 hours of the next trigger event (S2 S4)", "it is nurtured (S4): `nurture`",
    ),
    Contradiction(
        "Do facts about the company count as use does?", ("scoring.firmographics",),
        "they rank, and the profile is a gate; they never trigger (S0 S2)", "they add to the score (S1 S4): `combine`",
    ),
    Contradiction(
        "Is a limit worth more before it is hit, or when?", ("scoring.points",),
        "before: `limit_share` from 80 % earns more than `limits_reached` (S1)",
        "when: give `limits_reached` the greater points (S3 S4)",
    ),
    Contradiction(
        "From how many users on is an account a team?", ("scoring.points",),
        "3 count, 5 count fully: `at_least: 3, full_at: 5` (S0)", "any other two numbers",
    ),
    Contradiction(
        "Which worth is a call, and which a deal led by sales?", ("value.floor", "value.assist"),
        "$5,000 and $25,000 a year (S3)", "$10,000 and $20,000 (S0)",
    ),
    Contradiction(
        "How is an account of 5 to 49 employees sold to?", ("routing.motion.sales_assist_employees",),
        "by what it may be worth alone (ours; S3 begins at 50)", "by size too: `sales_assist_employees: 5`",
    ),
    Contradiction(
        "What may an account be worth?", ("value.seat_price_year", "value.seats_within_reach"),
        "the greater of what it pays and $240 × seats within reach: 20 % of its employees, never fewer than its active "
        "users (ours; no source gives a formula)", "your own price and reach",
    ),
    Contradiction(
        "Does sales get credit for revenue it did not touch?", ("report.sales_credit",), "no: `assisted` (S0)",
        "always (S3): `all`",
    ),
    Contradiction(
        "Is a large account that does not use the product called?", ("routing.large_not_engaged",),
        "no, it is nurtured (S0)", "from 500 employees on it is (S3): `sales`",
    ),
    Contradiction(
        "Who is decided on?", ("unit",), "the account, its users listed inside (S0)", "each user (S2); not offered",
    ),
)  # fmt: skip
"""In the order of the question; every key of it exists, and each has scenarios in docs/scenarios/."""


@dataclass(frozen=True)
class Said:
    """What a comment says of a key: who says so, and what it means."""

    source: str = ""
    meaning: str = ""


NOTHING = Said()


def render() -> str:
    """The page."""
    text = {name: files("onetouch.policy").joinpath(f"{name}.yaml").read_text(encoding="utf-8") for name in PRESETS}
    said, document = comments(text["default"]), preset_document()
    lines = [*_opening(), *_contradictions(document), *_presets(document, comments(text["weighted"]))]
    # Keys without a section of their own come first, together.
    single = [(key, schema) for key, schema in SCHEMA["properties"].items() if not _is_section(schema)]
    lines += ["", "## The policy", *_keys("", dict(single), document, said)]
    for section, schema in SCHEMA["properties"].items():
        if _is_section(schema):
            lines += ["", f"## {section}", *_section(section, schema, document[section], said)]
    return "\n".join([*lines, *_signals()]) + "\n"


def _opening() -> list[str]:
    return f"""# Policy reference

Made from the schema, `default.yaml` and its comments by `python docs/policy.py`; a test fails when it is out of date.

A policy file holds **only what differs** from the default: sections are merged key by key, lists are replaced whole.
Layout, comments and `name` do not count; everything else is part of the policy's version, which every decision names.

```yaml
name: ours
extends: default          # one of {", ".join(PRESETS)}
value: {{floor: 10000}}     # everything else stays as it is
```

| command | what it tells |
|---|---|
| `onetouch policy check FILE` | what is not allowed, and what can never happen: rules and reps that are never reached |
| `onetouch policy test SCENARIOS` | whether the rules do what the [scenarios](scenarios/README.md) say |
| `onetouch policy diff OLD NEW` | what each changed key does, and which accounts change, before you merge |

**Source**: S0 to S4 are the five source documents, “ours” is a number no source gives.""".splitlines()


def _contradictions(document: dict[str, Any]) -> list[str]:
    rows = []
    for c in CONTRADICTIONS:
        values = [
            f"`{key}`" + ("" if isinstance(_at(document, key), list) else f" {shown(_at(document, key))}")
            for key in c.keys
        ]
        rows.append((c.question, "<br>".join(values), c.default, c.other))
    about = "Each question is one key. [Scenarios](scenarios/contradictions.yaml) show both readings."
    return [
        "",
        "## Where the sources disagree",
        "",
        about,
        *_table(("question", "key", "default", "other reading"), rows),
    ]


def _presets(document: dict[str, Any], said: dict[str, Said]) -> list[str]:
    weighted = preset_document("weighted")
    tiers = [f"{name} from {tiers['high']:g}, medium from {tiers['medium']:g}" for name, tiers in
             (("`default`", document["scoring"]["tiers"]), ("`weighted`", weighted["scoring"]["tiers"]))]  # fmt: skip
    return [
        "",
        "## Presets",
        "",
        "`default` counts the points of S4. `extends: weighted` takes the five indicators of S0 in their place:",
        *_points(weighted["scoring"]["points"], said),
        "",
        f"Tiers: {'; '.join(tiers)}. In `weighted`, `scoring.firmographics` is "
        f"`{weighted['scoring']['firmographics']}`: S0 lists the enterprise domain among its "
        "indicators. All else is the default.",
    ]


# ── Sections ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _section(path: str, schema: Json, value: Any, said: dict[str, Said]) -> list[str]:
    """What a section is for, the table of its keys, then the tables of what its lists hold."""
    if path in ENTRIES:
        return _entries(path, schema, value, said)
    model = _resolved(schema)
    return ["", _linked(model["description"]), *_keys(path, model["properties"], value, said)]


def _keys(path: str, properties: dict[str, Json], value: Json, said: dict[str, Said]) -> list[str]:
    leaves = dict(_leaves(path, properties, value))
    rows = [_row(key, schema, inner, said) for key, (schema, inner) in leaves.items()]
    lines = _table(("key", "default", "allowed", "source", "meaning"), rows)
    for key, (schema, inner) in leaves.items():
        if key in ENTRIES:
            lines += ["", f"### {key}", *_entries(key, schema, inner, said)]
    return lines


def _leaves(path: str, properties: dict[str, Json], value: Json) -> Iterator[tuple[str, tuple[Json, Any]]]:
    """Every key with a value of its own under `path`, with its schema; sections within sections are gone into."""
    for name, schema in properties.items():
        key, inner = f"{path}.{name}".lstrip("."), _resolved(schema)
        if "properties" in inner and not _is_limits(inner):
            yield from _leaves(key, inner["properties"], value[name])
        else:
            yield key, (schema, value[name])


def _row(key: str, schema: Json, value: Any, said: dict[str, Said]) -> tuple[str, ...]:
    # A number without a source of its own has that of its section.
    about = said.get(key, NOTHING)
    about = about if about.source else Said(said.get(key.rpartition(".")[0], NOTHING).source, about.meaning)
    if key in ENTRIES:
        return f"`{key}`", "below" if value else "none", "entries", about.source, about.meaning
    if not _are_conditions(schema):
        return f"`{key}`", shown(value), allowed(schema, key), about.source, about.meaning
    sources = [said.get(f"{key}.{place}", about).source for place in range(len(value))]
    sources = sources[:1] if len(set(sources)) == 1 else sources
    return f"`{key}`", "<br>".join(map(_condition, value)), "conditions", "<br>".join(sources), about.meaning


def _entries(key: str, schema: Json, value: Any, said: dict[str, Said]) -> list[str]:
    """The keys of one entry of a list or mapping, and the default's entries."""
    entry = _resolved(schema.get("items") or schema["additionalProperties"])
    lines = []
    if "properties" in entry:
        required = entry.get("required", [])
        rows = [
            (f"`{name}`", "required" if name in required else shown(inner.get("default")), allowed(inner, name))
            for name, inner in entry["properties"].items()
        ]
        about = [_linked(entry["description"]), said.get(key, NOTHING).meaning if "." not in key else ""]
        lines = [
            *(line for text in about if text for line in ("", text)),
            *_table(("of an entry", "left out", "allowed"), rows),
        ]
    return lines + (ENTRIES[key](value, said) if value else [])


def _points(values: list[Json], said: dict[str, Said]) -> list[str]:
    rows = []
    for place, value in enumerate(values):
        about = said.get(f"scoring.points.{place}", NOTHING)
        full, half = value.get("full_at"), value.get("half_life_days")
        begins = f"{value['at_least']:g}" + (f", fully at {full:g}" if full else "")
        halves = f"{half:g} days" if half else ""
        rows.append((f"`{value['signal']}`", begins, f"{value['points']:g}", halves, about.source, about.meaning))
    return _table(("signal", "from", "points", "halve every", "source", "meaning"), rows)


def _sources(values: Json, said: dict[str, Said]) -> list[str]:
    return ["", f"A list of names is enough where nothing is said of any. By default: {shown(values)}."]


def _vocabulary(values: Json, said: dict[str, Said]) -> list[str]:
    plain = [f"`{event}`" for event, meaning in values.items() if meaning == event]
    rows = [
        (f"`{event}`", *(f"`{meaning[key]}`" if key in meaning else "" for key in ("as", "detail", "value")))
        for event, meaning in values.items()
        if isinstance(meaning, dict)
    ]
    ours = [
        (f"`{event.name}`", event.meaning, event.detail or "", event.value or "", "" if event.use else "no")
        for event in EVENTS
    ]
    return [
        *_table(("event", "as", "detail", "value"), rows),
        "",
        f"Mapped onto themselves: {', '.join(plain)}.",
        "",
        "### Our events",
        *_table(("event", "meaning", "detail", "value", "use of the product"), ours),
    ]


def _situations(values: list[Json], said: dict[str, Said]) -> list[str]:
    rows = []
    for place, value in enumerate(values):
        when = [_condition(condition) for condition in value.get("when", [])]
        when += {True: ["a customer"], False: ["not a customer yet"], None: []}[value.get("paying")]
        source = said.get(f"situations.{place}", NOTHING).source
        texts = [_alternatives(value.get(field)) for field in ("offer", "unlock", "question")]
        kind = f"{value['name']} ({value['kind']})" if "kind" in value else value["name"]
        rows.append((kind, "<br>".join(when) or "always", value["approach"], *texts, source))
    header = ("situation", "when", "approach (to the rep)", "offer (in the message)", "unlock", "question", "source")
    return [*_table(header, rows), *_facts()]


def _alternatives(given: str | list[str] | None) -> str:
    return "<br>".join([given] if isinstance(given, str) else given or [])


def _asides(values: list[Json], said: dict[str, Said]) -> list[str]:
    rows = [(f"`{value['signal']}`", f"{value['within_days']} days", value["text"]) for value in values]
    return _table(("of", "for", "text"), rows)


def _account_fields(values: Json, said: dict[str, Said]) -> list[str]:
    kinds = {column.name: column.kind.allowed for column in SNAPSHOT_COLUMNS}
    rows = [(f"`{name}`", f"`{field}`" if field else "not read", kinds[name]) for name, field in values.items()]
    return _table(("of the account", "field in Salesforce", "holds"), rows)


def _benchmarks(values: Json, said: dict[str, Said]) -> list[str]:
    rows = []
    for name, value in values.items():
        about = said.get(f"report.benchmarks.{name}", NOTHING)
        rows.append((f"`{name}`", f"{value['low']:g} to {value['high']:g}", value["source"], about.meaning))
    return _table(("figure", "range", "source", "meaning"), rows)


def _none(values: Any, said: dict[str, Said]) -> list[str]:
    return []


ENTRIES: dict[str, Callable[[Any, dict[str, Said]], list[str]]] = {
    "sources": _sources,
    "vocabulary": _vocabulary,
    "product.plans": _none,
    "scoring.points": _points,
    "message.asides": _asides,
    "situations": _situations,
    "assignment.reps": _none,
    "assignment.territories": _none,
    "crm.account_fields": _account_fields,
    "report.benchmarks": _benchmarks,
}
"""Lists and mappings whose entries have keys of their own, and how the default's are shown."""


def _signals() -> list[str]:
    """What a condition may look at, as the catalogue has it."""
    rows = [
        (f"`{signal.name}`", signal.unit, _window(signal), _meaning(signal), _kind(signal), signal.source)
        for signal in SIGNALS
    ]
    return [
        "",
        "## Signals a condition may name",
        "",
        "A condition `{signal: …, at_least: …}` holds where the signal is known and at least that much. *Company* "
        "signals may rank and never trigger. Points of a *moment* may halve with age, and a new one may be a trigger.",
        "",
        "A *level* counts whole days of the account's own time zone (unknown: UTC), today not among them, so it "
        "changes once a day, at the midnight there. All other windows end at the decision and slide by the hour. *Use* "
        "is every [event](#our-events) that is use of the product. A signal that is not known is null where the table "
        "says so, and 0 otherwise.",
        *_table(("signal", "unit", "window", "meaning", "kind", "source"), rows),
    ]


def _window(signal: Signal) -> str:
    fixed = {Window.WEEK: "7 days", Window.EVER: "ever"}
    return fixed.get(signal.window) or f"`signals.{signal.window.value}`"


def _meaning(signal: Signal) -> str:
    events = ", ".join(f"`{event}`" for event in signal.events)
    return f"{events}: {signal.meaning}" if events else signal.meaning


def _kind(signal: Signal) -> str:
    kind = "company" if signal.firmographic else "use"
    return kind + (", level" if signal.level else "") + (", moment" if signal.happened else "")


def _facts() -> list[str]:
    """What the texts of situations and message may name."""
    private = [fact for fact in FACTS if fact not in FOR_CUSTOMER]
    return [
        "",
        "### Facts a text may name",
        "",
        ", ".join(f"`{{{fact}}}`" for fact in FACTS) + ".",
        "",
        "Never for the customer (all but `headline` and `approach`): "
        + ", ".join(f"`{{{fact}}}`" for fact in private)
        + ".",
    ]


# ── Words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def comments(text: str) -> dict[str, Said]:
    """What the comments of a YAML file say, by key: above it, behind it, and on the lines below that go on with it."""
    lines, found = text.splitlines(), {}
    first = yaml.compose(text).start_mark.line  # what stands above it is about the file

    def note(node: yaml.Node, path: str) -> None:
        line, column = node.start_mark.line, node.start_mark.column
        said = [_comment(lines[line])]
        for below in lines[line + 1 :]:
            if not said[0] or not re.match(r"\s{20,}#", below):
                break
            said.append(_comment(below))
        for above in reversed(lines[:line] if line > first else []):
            if not re.match(rf"\s{{{column}}}# (?!──)", above):
                break
            said.insert(0, _comment(above))
        if any(said):
            found[path] = _attributed(" ".join(filter(None, said)))

    def visit(node: yaml.Node, path: str) -> None:
        children: list[tuple[str, yaml.Node, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            children = [(key.value, key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            children = [(str(place), item, item) for place, item in enumerate(node.value)]
        for name, marked, value in children:
            inner = f"{path}.{name}".lstrip(".")
            if not node.flow_style:
                note(marked, inner)
            elif path in found:  # one line: its comment is about each
                found[inner] = found[path]
            visit(value, inner)

    visit(yaml.compose(text), "")
    return found


def _comment(line: str) -> str:
    found = re.search(r"(?:^|\s)# (.*)$", line)
    return found.group(1).strip() if found else ""


def _attributed(words: str) -> Said:
    """ "S0 S1: 80 % of a limit; weight ours" → source "S0 S1, weight ours", meaning "80 % of a limit"."""
    found = re.match(r"(S[0-4](?: S[0-4])*|ours)(?:[:;,]\s*|$)(.*)", words)
    source, meaning = found.groups() if found else ("", words)
    if ours := re.search(r"(?:^|; )(\w[\w ]* ours)$", meaning):
        source, meaning = f"{source}, {ours.group(1)}", meaning[: ours.start()]
    return Said(source, meaning)


def shown(value: Any) -> str:
    """A value as a person writes it."""
    match value:
        case None:
            return "`null`"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"{value:g}"
        case dict():
            return ", ".join(f"{key} {shown(inner)}" for key, inner in value.items()) or "none"
        case list():
            return ", ".join(shown(inner) for inner in value) or "none"
        case int():
            return str(value)
        case _:
            return f"`{value}`" if re.fullmatch(r"\S{1,30}", str(value)) else str(value)


NAMED = {
    "timezone": "an IANA time zone",
    "country": "a country code of ISO 3166",
    "email": "an e-mail address",
    "vocabulary": "as [vocabulary](#vocabulary)",
    "rules": "rule: its [parameters](rules.md#parameters-of-rules)",
    "system": " or ".join(f"`{name}`" for name in CRMS),
    "chat": " or ".join(f"`{name}`" for name in CHATS),
}
"""Keys whose words say more than their type."""


def allowed(schema: Json, key: str = "") -> str:
    """What a key may hold, in words."""
    schema, name = _resolved(schema), key.rpartition(".")[2]
    if "anyOf" in schema:
        return " or ".join("`null`" if s.get("type") == "null" else allowed(s, key) for s in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        if tuple(schema["enum"]) == SIGNAL_NAMES:
            return "a [signal](#signals-a-condition-may-name)"
        few = len(schema["enum"]) < 8
        return " or ".join(f"`{word}`" for word in schema["enum"]) if few else "an [event](#our-events)"
    if name in NAMED:
        return NAMED[name]
    match schema.get("type"):
        case "integer":
            return f"whole number{_range(schema, 1)}"
        case "number":
            return f"number{_range(schema, 0)}"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return f"list: {allowed(schema['items'])}"
        case "object" if "properties" not in schema:
            return "a mapping"
        case "object":
            return f"{{{', '.join(schema['properties'])}}}"
        case "string" if "pattern" in schema:
            return "the name of a field"
        case "string" if "maxLength" in schema:
            return f"text of up to {schema['maxLength']} characters"
        case "string":
            return {"date": "a date", "time": "a time of day"}.get(schema.get("format", ""), "text")
    raise ValueError(f"{key}: no words for {schema}; add some to docs/policy.py")


def _range(schema: Json, step: int) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
        if not step:
            return f" above {low:g}"
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    return f" from {low:g}" if low is not None else ""


LINKS = {
    "facts FOR_CUSTOMER": "[facts](#facts-a-text-may-name) for the customer",
    "those FOR_CUSTOMER": "those for the customer",
    "FIRMOGRAPHIC_SIGNALS": "[signals](#signals-a-condition-may-name) of the company",
    "FACTS": "[facts](#facts-a-text-may-name)",
}
"""Names of the code in docstrings, and what they are on the page."""


def _linked(text: str) -> str:
    for name, link in LINKS.items():
        text = text.replace(name, link)
    return text


def _resolved(schema: Json) -> Json:
    return SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _is_section(schema: Json) -> bool:
    inner = _resolved(schema)
    return "properties" in inner or inner.get("type") == "object" or "$ref" in inner.get("items", {})


def _is_limits(schema: Json) -> bool:
    return schema.get("title") == "Limits"


def _are_conditions(schema: Json) -> bool:
    return schema.get("items", {}).get("$ref", "").endswith("/Condition")


def _condition(value: Json) -> str:
    return f"`{value['signal']}` ≥ {value['at_least']:g}"


def _at(document: Any, key: str) -> Any:
    for step in key.split("."):
        document = document[step]
    return document


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A Markdown table; columns in which no row says anything are left out."""
    rows = list(rows)
    kept = [i for i in range(len(header)) if i == 0 or any(row[i] for row in rows)]
    cells = [header, tuple("---" for _ in header), *rows]
    return ["", *("| " + " | ".join(row[i].replace("|", "\\|") for i in kept) + " |" for row in cells)]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
