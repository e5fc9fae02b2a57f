"""Writes docs/scenarios/README.md: which scenarios show which rule, number and reading.

Run: python docs/scenarios.py
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from onetouch.experiments.scenario_file import Scenario, read_scenarios
from onetouch.routing import RULES

FOLDER = Path(__file__).with_name("scenarios")
PAGE = FOLDER / "README.md"

FILES = (
    "signals", "never-contact", "never-interrupt", "one-touch", "returns", "fresh-intent", "context", "refused",
    "value-and-motion", "matrix", "working-days", "scoring", "points", "tiers-and-triggers",
    "expansion-and-hand-raisers", "people", "plans", "messages", "assignment", "timing", "weighted", "contradictions",
)  # fmt: skip
"""In the order in which they are best read."""

NUMBERS: tuple[tuple[str, str, str, str], ...] = (
    ("50 points: called now", "S4", "tiers-and-triggers", "At 5|At 49"),
    ("30 points: watched", "ours", "tiers-and-triggers", "At 30|At 29"),
    ("points of each signal", "S4, ours", "scoring", ""),
    ("small points of use", "S2 S4, ours", "points", "Work|Content|Back|Ten|Nine do|Six|Three"),
    ("pricing on several days", "S4, ours", "points", "Looking|Coming back to it|On four days"),
    ("90 percent of a demo: its end", "S2, ours", "points", "A demo|Nine tenths"),
    ("1,000 employees: an enterprise", "S0, ours", "points", "A company of a|One of 999|A firm"),
    ("points fade with age", "S4, ours", "scoring", "An invitation of|The pricing page of|A premium feature tried 14"),
    ("3 users count, 5 count fully", "S0", "scoring", "2 users|3 users|4 users|5 users|50 users"),
    ("3 integrations", "S0", "scoring", "3 integrations|2 integrations"),
    ("80 % of a limit", "S0 S1", "scoring", "At 80 %|At 79 %|Being at"),
    ("80 % held for 14 days: expansion", "S0", "expansion-and-hand-raisers", "A customer at|For 13 days|At 79 %|A dip"),
    ("4 of 5 working days: engaged", "S0, ours", "working-days", "There on|Over Chr|Where none|A week is"),
    ("6 days at least", "ours", "working-days", "With a week"),
    ("2 users on a day of a team of 5", "ours", "working-days", "One person|A team of four"),
    ("2 → 5 logins a week", "S1", "scoring", "From "),
    ("windows of 7, 14, 28 and 90 days", "S0, ours", "signals", "Users of|Days in use|Exports|Coming back"),
    ("a quarter more grows, a fifth less declines", "ours", "signals", "A quarter|A fifth"),
    ("5 of 14 days, 2 users: minimum of a PQL", "S0, ours", "scoring", "Two users|Points of one"),
    ("floor of $5,000", "S0 S3", "value-and-motion", "Worth |A customer who pays"),
    ("$240 a seat, 20 % of the employees", "ours", "value-and-motion", "200 employees|Never fewer|One active"),
    ("5 employees: somebody we sell to", "ours", "value-and-motion", "An organisation"),
    ("50 and 500 employees, $25,000: motion", "S3", "value-and-motion", r"499|500|\$25|More than|50 emp"),
    ("5 seats, SSO, tickets: no longer self-serve", "S3", "value-and-motion", "Of unknown size, [45Sw]"),
    ("5 to 49 employees: by worth alone", "ours", "value-and-motion", "49 employees|A team of 30"),
    ("24 and 72 silent hours of a checkout", "ours", "never-interrupt", "A checkout without|After a day|Silent for"),
    ("24 hours until a checkout given up is a barrier", "ours", "never-interrupt", "Who has just given|A day after"),
    ("7 days of silence", "S0", "one-touch", "A colleague called"),
    ("90 days of cooldown", "ours", "returns", "Just under 90|90 days later"),
    ("30 days after a won deal", "S0, ours", "returns", "A customer won settles|From then on"),
    ("the rep of before for 120 days", "ours", "returns", "Within four months|Later it is"),
    ("72 hours: intent is fresh", "S2", "fresh-intent", "Who looked|A little more|Who waits|But no longer"),
    ("24 hours until what the CRM refused is offered again", "ours", "refused", "An hour after|A day later"),
    ("control group of 0 %", "ours", "one-touch", "The control group|Without a control"),
    ("what a rep must know", "S0", "context", "A rep is told|A record without"),
    ("80 points: a senior", "S4, ours", "assignment", "At 80 points|At 79.6"),
    ("8 tasks a rep and day", "ours", "assignment", "The eighth|There is no ninth"),
    ("72 hours in the queue", "S2", "assignment", "Waiting for 71|After 72 hours"),
    ("high within 2 working hours", "S2", "timing", "Decided "),
    ("medium within 24 working hours of its event", "S2 S4", "timing", "A watched|An event"),
    ("72 hours: a signal is worthless", "S2", "timing", "With Monday off|With leave|After how long"),
    ("before the limit is hit", "S1", "timing", "Who hits"),
    ("at its hour and weekday", "S1 S4", "timing", "Active at|On its own|Who comes on|Nor on Friday|With two days"),
    ("seats in use, 80 % of them for 14 days", "S0", "plans", "11 people|And after two weeks|With 20 seats|Nor when"),
    ("one failed action in ten: friction", "ours", "messages", "Friction comes|A few failures"),
    ("weighted: 60 and 40 points", "ours", "weighted", "From 60|At 58|From 40|At 39"),
    ("a score that moved by a tenth", "ours", "scoring", "Up by|Down by"),
)  # fmt: skip
"""A number, who says so, and the scenarios that show it: a file, and how their names begin (nothing: all of it)."""

READINGS: dict[str, str] = {
    "handoff.touches": "touches",
    "handoff.sla_hours.high": "sla_hours.high",
    "handoff.sla_hours.medium": "medium monitor – and",
    "routing.medium": "medium",
    "scoring.firmographics": "firmographics",
    "scoring.points": "limits|team size",
    "value.floor": "value floor",
    "value.assist": "value assist",
    "routing.motion.sales_assist_employees": "5 to 49|sales_assist_employees",
    "value.seat_price_year": r"\$",
    "value.seats_within_reach": "a tenth",
    "routing.large_not_engaged": "large_not_engaged",
    "unit": "unit",
    "report.sales_credit": "sales_credit",
    "handoff.silence_days": "touches",
}
"""A key on which the sources disagree, and how the names of its scenarios in contradictions.yaml begin."""

INTRODUCTION = """# Scenarios

What the rules of engagement do, in words to sign: what an account did, what was done to it, what must happen. The
default policy makes all of them come out; each one that names a rule fails when that rule is taken out.
[`scenario_file.py`](../../include/onetouch/experiments/scenario_file.py) explains every word of a scenario.

```sh
onetouch policy test docs/scenarios/*.yaml                       # under the default policy
onetouch policy test my-scenarios.yaml --policy my-policy.yaml   # yours, under yours
```

Made by `python docs/scenarios.py`; a test fails when it is out of date.
"""


def named(scenarios: Iterable[Scenario], beginnings: str) -> list[Scenario]:
    """Those whose names begin so, as a regular expression says it (an empty one: all)."""
    return [s for s in scenarios if re.match(beginnings, s.name)]


def render() -> str:
    """The page."""
    files = {file: read_scenarios(FOLDER / f"{file}.yaml") for file in FILES}
    everything = [(file, s) for file, scenarios in files.items() for s in scenarios]
    lines = [INTRODUCTION]
    lines += [f"## The {len(everything)} scenarios", ""]
    rows = [(_link(file), str(len(scenarios)), _about(file)) for file, scenarios in files.items()]
    lines += [*_table(("file", "scenarios", "about"), rows), "", "## By rule, in the order of the rules", ""]
    rows = []
    for rule in RULES:
        theirs = [(file, s) for file, s in everything if s.rule == rule.name]
        where = ", ".join(_link(file) for file in dict.fromkeys(file for file, _ in theirs))
        rows.append((rule.name, f"`{rule.action}`", str(len(theirs)), theirs[0][1].name, where))
    lines += [*_table(("rule", "action", "scenarios", "the first", "in"), rows), "", "## By number", ""]
    rows = [
        (number, source, "<br>".join(s.name for s in named(files[file], begin)) if begin else "all of it", _link(file))
        for number, source, file, begin in NUMBERS
    ]
    lines += [*_table(("number", "source", "scenarios", "in"), rows), "", "## Where the sources disagree", ""]
    rows = [
        (f"`{key}`", "<br>".join(s.name for s in named(files["contradictions"], begin)))
        for key, begin in READINGS.items()
    ]
    lines += _table(("key", "scenarios in [contradictions](contradictions.yaml)"), rows)
    return "\n".join(lines) + "\n"


def _about(file: str) -> str:
    """The first sentence of the comment a file begins with."""
    lines = (FOLDER / f"{file}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.strip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    return comment.partition(". ")[0].rstrip(".")


def _link(file: str) -> str:
    return f"[{file}]({file}.yaml)"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [header, tuple("---" for _ in header), *rows]]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
