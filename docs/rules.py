"""Writes docs/rules.md: the rules of engagement in their order and the actions, from the code.

Run: python docs/rules.py
"""

from __future__ import annotations

import inspect
import re
import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from onetouch.catalogue import ACTIONS
from onetouch.policy.read import preset_document
from onetouch.routing import RULES, Rule

PAGE = Path(__file__).with_name("rules.md")
ALLOWED = runpy.run_path(str(Path(__file__).with_name("policy.py")))["allowed"]
"""What a key may hold, in words, as the policy reference says it."""

INTRODUCTION = """# Rules of engagement

Each account gets the action of the **first rule that applies** to it. A rule is one file in
[`routing/rules/`](../include/onetouch/routing/rules), and the list there is their order. `onetouch explain ACCOUNT`
tells why each rule did or did not apply; [scenarios](scenarios/README.md) show each rule at work; the
[policy reference](policy.md) explains the keys.

Made by `python docs/rules.py`; a test fails when it is out of date.
"""

CHECKED_AGAIN = """
## Checked again right before sending

Between the decision and the task some time passes. Right before tasks are written, delivery looks once more:
"""

PARAMETERS = """
## Parameters of rules

Keys that a single rule has for itself are in a section called like the rule under `routing.rules`. A policy without
the section does not have the rule, so a policy that was stored before a rule existed goes on deciding as it did;
`null` in your policy takes out a section of the default.
"""


def render(rules: tuple[Rule, ...] = RULES) -> str:
    """The page."""
    lines = [INTRODUCTION, "## The rules, in their order", ""]
    lines += _table(
        ("rule", "action", "what it is for", "keys of the policy", "obstacles it tells"),
        [
            (
                rule.name,
                f"`{rule.action}`",
                _about(rule),
                _keys([*rule.reads, *([f"routing.rules.{rule.section}"] if rule.parameters else [])]),
                _keys(rule.sentences),
            )
            for rule in rules
        ],
    )
    lines.append(CHECKED_AGAIN)
    lines += [f"- **{rule.name}**: {rule.checked_again}." for rule in rules if rule.checked_again]
    lines.append(PARAMETERS)
    lines += [line for rule in rules if rule.parameters is not None for line in _parameters(rule)] or [
        "No rule has any."
    ]
    lines += ["", "## The actions", ""]
    lines += _table(
        ("action", "what it means", "rules that lead to it"),
        [
            (
                f"`{action}`",
                action.meaning,
                ", ".join(rule.name for rule in rules if rule.action == action) or "none yet",
            )
            for action in ACTIONS
        ],
    )
    return "\n".join(lines) + "\n"


def _about(rule: Rule) -> str:
    """What the docstring of the rule's file says."""
    text = inspect.getdoc(inspect.getmodule(rule.applies)) or ""
    return re.sub(r"\s+", " ", text).strip()


def _parameters(rule: Rule) -> Iterator[str]:
    """The rule's own keys: what the default policy has, what is allowed, what they mean."""
    assert rule.parameters is not None
    schema = rule.parameters.model_json_schema()
    default: dict[str, Any] | None = preset_document()["routing"]["rules"].get(rule.section)
    yield from ("", f"### {rule.name}: `routing.rules.{rule.section}`", "", inspect.getdoc(rule.parameters) or "")
    if default is None:
        yield from ("", "The default policy does not have the rule.")
    if not schema["properties"]:
        return
    yield ""
    yield from _table(
        ("key", "default policy", "left out", "allowed"),
        [
            (
                f"`routing.rules.{rule.section}.{name}`",
                "" if default is None else f"{default.get(name, key.get('default', ''))}",
                "required" if name in schema.get("required", []) else f"{key.get('default')}",
                ALLOWED(key, name),
            )
            for name, key in schema["properties"].items()
        ],
    )


def _keys(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [header, tuple("---" for _ in header), *rows]]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
