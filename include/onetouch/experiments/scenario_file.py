"""Scenario files: what happens to an account and what the rules must then decide, in a form that people can approve.

```yaml
as_of: 2025-03-12T10:00:00Z            # the moment of decision (a Wednesday)
policy: {}                             # what differs from the policy under test; `extends: weighted` starts elsewhere
teams:                                 # starting points of scenarios; a team may extend another with `like`
  engaged team:
    account: {domain: acme.example, employees: 200, plan: free, seats: 5, plan_limits: {seats: 10}}
    events:
      - {event: session_started, users: 5, on_days: 12}      # five users on each of the last 12 days
      - {event: workspace_created, ago: 40d}                 # one user, once
scenarios:
  - name: A customer in the middle of an upgrade is left alone
    source: S0
    rule: never interrupt              # the rule that decides; without it the scenario must fail
    like: engaged team
    events: [{event: checkout_started, ago: 2h}]
    expect: {action: hold_converting}
```

A scenario may also have: `as_of` and `policy` of its own (the latter overrides keys of the file's); `account`, which
overrides keys of the team's (null: unknown); `without`, the team's events that did not happen; `history`, what was done
to the account before; `reps`, the CRM's users and their load; `beside`, other accounts decided at the same moment.

- **Time.** A length of time is `90m`, `2h`, `3d`, `4w` or a sum of them (`1d 12h`), with or without `ago`.
  An event has `ago`, or `at` (a moment with a time zone), or `on_days: 12`: on each of the last 12 whole days of
  the account's time zone (with `ago`: of the 12 days that ended that long ago), one hour before the decision's time of
  day or at `hour` (0–23, in that zone). `weekdays` (`[tue, wed]`) keeps only these of the days.
- **Who and how much.** `users: 5` or names; `times`: how often each user did it each time. What was used: `feature`,
  `integration`, `limit` and `used`, `action`, `plan` and `arr`, `completion`, depending on the event.
- **People.** `people: {user1: {name: Mia Koch, title: CTO, role: admin}}`: who a user is, if anything is known of it;
  also `email` and `seniority`. The user's events carry it.
- **Account.** `owner` is the rep's e-mail. If it is left out, the account has a rep of its own without other tasks,
  so that assignment plays no part in the scenario; null: nobody owns the account.
- **History.** `handoff`: `state`; `decided`, `touched`, `ended` (how long ago); `owner` (its rep's e-mail); `reason` of
  its end; `signals` it was handed over for, or `new`: today's signals that were missing at the handoff (neither: the
  same signals as today). `touch`: how long ago a rep was in contact. `previous`: `action`, `rule`, `since`, `call` (the
  contact reason) and `trigger` of the last decision. `score`: the score of a week ago.
- **Reps.** `email`, `active`, `timezone`, `country`; `today`: number of tasks given today; `open`: number of open
  tasks; `last`: how long ago the rep got a task. The policy defines who is senior, on leave or has a territory.
- **Expect.** Any column of a decision; moments are given as such or as a length of time after the decision
  (`due_at: 2h`); `owner`: the rep's e-mail, the domain may be left out; `reasons` {signal: points}, `signals`
  {signal: value}, `gates` {gate: true}: only the named ones are compared; `obstacles`: the complete list of obstacles
  between the account and a sales touch; `dossier`, `message`: texts that they contain; `says_nothing_of`: texts that
  neither of them contains.
"""

from __future__ import annotations

import difflib
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AwareDatetime, BeforeValidator, Field, ValidationError, create_model, model_validator

from onetouch.catalogue import EVENT_NAMES, EVENTS, EVENTS_BY_NAME, SIGNAL_NAMES, SNAPSHOT_COLUMNS, Kind
from onetouch.ledger import STATES
from onetouch.policy import ColumnName, Country, EventName, Overlay, Part, Policy, Timezone, renamed
from onetouch.routing import RULES

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*([wdhm])")


class ScenarioError(ValueError):
    """A scenario file is invalid. One line for each problem: file, scenario, field, value and what is allowed."""


def _length(value: Any) -> Any:
    """ "1d 12h ago" → a timedelta."""
    if not isinstance(value, str):
        return value
    text = value.removesuffix("ago").strip()
    parts = _LENGTH.findall(text)
    if not parts or _LENGTH.sub("", text).strip():
        raise ValueError("a length of time, like 2h, 3d or 1d 12h")
    return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())


Length = Annotated[timedelta, BeforeValidator(_length), Field(ge=timedelta())]


def _moment_or_length(value: Any) -> Any:
    return _length(value) if isinstance(value, str) and _LENGTH.match(value) and "-" not in value else value


When = Annotated[AwareDatetime | timedelta, BeforeValidator(_moment_or_length)]
"""A moment, or a length of time from the moment of decision."""


def _optional(name: str, kinds: dict[str, Any]) -> Any:
    """A model in which every field is optional."""
    fields: dict[str, Any] = {word: (kind | None, None) for word, kind in kinds.items()}
    return create_model(name, __base__=Part, **fields)


_Carried = _optional(
    "_Carried", {e.detail: str for e in EVENTS if e.detail} | {e.value: float for e in EVENTS if e.value}
)
"""Base of `Event`: the keys by which a scenario gives an event's detail and its value."""


class Event(_Carried):  # type: ignore[misc, valid-type]
    """Something users do, once or on many days."""

    event: EventName
    ago: Length | None = None
    at: AwareDatetime | None = None
    on_days: Annotated[int, Field(gt=0, le=400)] | None = None
    weekdays: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = None
    hour: Annotated[int, Field(ge=0, le=23)] | None = None
    users: Annotated[int, Field(gt=0, le=1000)] | list[str] = 1
    times: Annotated[int, Field(gt=0, le=1000)] = 1

    @model_validator(mode="after")
    def _once(self) -> Event:
        if self.at is None and self.ago is None and self.on_days is None:
            raise ValueError("does not say when; give ago: 2h, at: 2025-03-12T08:00:00Z or on_days: 12")
        if self.at is not None and (self.ago is not None or self.on_days is not None):
            raise ValueError("at is a moment of its own; leave out ago and on_days")
        if self.on_days is None and {"weekdays", "hour"} & self.model_fields_set:
            raise ValueError("weekdays and hour go with on_days")
        carries = EVENTS_BY_NAME[self.event]
        allowed = {word for word in (carries.detail, carries.value) if word}
        wrong = sorted(_Carried.model_fields.keys() & self.model_fields_set - allowed)
        if wrong:
            has = " and ".join(sorted(allowed)) or "nothing of the kind"
            raise ValueError(f"{self.event} has no {', '.join(wrong)}; it has {has}")
        return self

    @property
    def who(self) -> list[str]:
        """Names of the users."""
        return [f"user{n}" for n in range(1, self.users + 1)] if isinstance(self.users, int) else self.users

    @property
    def detail(self) -> str | None:
        """The event's detail: the feature used, the integration connected, the limit reached, …"""
        word = EVENTS_BY_NAME[self.event].detail
        return None if word is None else getattr(self, word)

    @property
    def value(self) -> float | None:
        """The event's value, for example how much of a limit is used."""
        word = EVENTS_BY_NAME[self.event].value
        return None if word is None else getattr(self, word)


_SAID: dict[Kind, Any] = {
    Kind.TEXT: str,
    Kind.DOMAIN: str,
    Kind.DOMAINS: str,
    Kind.EMAIL: str,
    Kind.TIMEZONE: Timezone,
    Kind.WHOLE: int,
    Kind.NUMBER: float,
    Kind.FLAG: bool,
    Kind.CAPS: dict[str, float],
    Kind.MOMENT: When,
}
"""The type of a scenario's value for a column of each kind."""

_Record = _optional("_Record", {column.word: _SAID[column.kind] for column in SNAPSHOT_COLUMNS if column.mapped})


class Account(_Record):  # type: ignore[misc, valid-type]
    """The CRM's record of the account; fields left out are unknown.

    `deal_closed`: when its last deal was won or lost. `basis`, `users_at`: how the product identifies the account, and
    its users' e-mail domain.
    """

    owner: str | None = None
    owner_active: bool = True
    open_opportunities: int = 0
    deal_closed: When | None = None
    basis: Literal["group", "domain", "personal"] = "group"
    users_at: str | None = None


class Contact(Part):
    """Somebody of the account whom the CRM knows.

    `opted_out`: of which channels; `hidden`: of which the CRM does not show whether the person did.
    """

    email: str | None = None
    opted_out: list[Literal["call", "email"]] = []
    hidden: list[Literal["call", "email"]] = []


class PastHandoff(Part):
    """The account's last handoff. `reason`: of its end, as the ledger has it ("task deleted: by a rep")."""

    state: Literal[STATES]  # type: ignore[valid-type]
    decided: Length | None = None
    touched: Length | None = None
    ended: Length | None = None
    owner: str | None = None
    reason: str = ""
    signals: list[ColumnName] | None = None
    new: list[ColumnName] = []

    @model_validator(mode="after")
    def _known_signals(self) -> PastHandoff:
        unknown = [s for s in [*(self.signals or []), *self.new] if s not in SIGNAL_NAMES]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such signal{_near(unknown[0], SIGNAL_NAMES)}")
        if self.signals is not None and self.new:
            raise ValueError("give signals (of then) or new (of now), not both")
        return self


class Previous(Part):
    """The decision of the previous run. `trigger`: how long ago its trigger event was, if its `call` is `trigger`."""

    action: str
    rule: str | None = None
    since: Length
    call: Literal["pql", "hand_raised", "expansion", "trigger", ""] = ""
    trigger: Length | None = None


class History(Part):
    """What was done to the account before."""

    handoff: PastHandoff | None = None
    touch: Length | None = None
    previous: Previous | None = None
    score: float | None = None


class Rep(Part):
    """A user of the CRM and their load: `today` and `open` are numbers of tasks, `last` is the age of the last one."""

    email: str
    active: bool = True
    timezone: Timezone | None = None
    country: Country | None = None
    today: Annotated[int, Field(ge=0)] = 0
    open: Annotated[int, Field(ge=0)] | None = None
    last: Length | None = None


class Expected(Part):
    """The expected result. Only fields that are given are compared; a given null must be null."""

    action: str | None = None
    rule: str | None = None
    score: float | None = None
    usage_score: float | None = None
    score_before: float | None = None
    score_trend: Literal["rising", "steady", "falling"] | None = None
    tier: Literal["high", "medium", "low"] | None = None
    pql: bool | None = None
    call: Literal["pql", "hand_raised", "expansion", "trigger", ""] | None = None
    value_band: Literal["high", "low"] | None = None
    engagement_band: Literal["high", "low"] | None = None
    motion: Literal["self_serve", "sales_assist", "sales_led"] | None = None
    potential_arr: float | None = None
    owner: str | None = None
    assigned_by: str | None = None
    due_at: When | None = None
    contact_at: When | None = None
    since: When | None = None
    trigger_at: When | None = None
    reasons: dict[ColumnName, float] = {}
    signals: dict[ColumnName, Any] = {}
    gates: dict[Literal["icp", "activated", "engagement", "intent"], bool] = {}
    obstacles: list[ColumnName] | None = None
    dossier: list[str] | str = []
    message: list[str] | str = []
    says_nothing_of: list[str] | str = []


class Person(Part):
    """Who a user of the account is, as the product's user properties say."""

    name: str | None = None
    email: str | None = None
    title: str | None = None
    seniority: str | None = None
    role: str | None = None


class Side(Part):
    """An account that is decided in the scenario. `people`: name of a user → who that is."""

    account: Account = Account()
    people: dict[str, Person] = {}
    contacts: list[Contact] = []
    events: list[Event] = []
    history: History = History()


class Scenario(Side):
    """One scenario, with the values of its teams and its file filled in."""

    name: str
    source: str = ""
    rule: str | None = None
    as_of: AwareDatetime
    policy: Annotated[dict[str, Any], Overlay(Policy)] = {}
    reps: list[Rep] | None = None
    beside: list[Side] = []
    expect: Expected

    @property
    def apart(self) -> bool:
        """Whether it tests the assignment or people, so that it must be decided apart from accounts of other
        scenarios: they would compete for a rep, and an opt-out counts wherever the address occurs."""
        return self.reps is not None or bool(self.beside or self.contacts) or "owner" in self.account.model_fields_set


_FILE = ("as_of", "policy", "teams", "scenarios")
_SIDE = ("like", "account", "people", "contacts", "events", "without", "history")
_TEAM = ("like", "account", "people", "contacts", "events", "history", "reps")
_SCENARIO = ("name", "source", "rule", "as_of", "policy", "reps", "beside", "expect", *_SIDE)


def read_scenarios(path: Path | str) -> list[Scenario]:
    """The scenarios of a file, in its order.

    Raises ScenarioError if the file is unreadable or not YAML, or has an unknown key, event, signal, rule or action, or
    an invalid value.
    """
    path = Path(path)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read ({error}); give the path of a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ScenarioError(f"{path}:{where} is not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(document, dict) or not isinstance(document.get("scenarios"), list):
        raise ScenarioError(f"{path}: holds no list of scenarios; begin with as_of: and scenarios:")
    _known(str(path), document, _FILE)
    problems, scenarios = [], []
    for place, raw in enumerate(document["scenarios"], 1):
        where = f"{path}: scenario {place}"
        try:
            if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
                raise ScenarioError(f"{where}: has no name; begin with name: and say what must happen")
            where = f"{path}: {raw['name']!r}"
            scenarios.append(_scenario(where, raw, document))
        except ScenarioError as error:
            problems.append(str(error))
    names = [s.name for s in scenarios]
    problems += [f"{path}: {name!r}: named twice; give each scenario its own name" for name in _twice(names)]
    if problems:
        raise ScenarioError("\n".join(problems))
    return scenarios


def _scenario(where: str, raw: dict[str, Any], document: dict[str, Any]) -> Scenario:
    """One scenario, merged with its team and its file."""
    _known(where, raw, _SCENARIO)
    teams = document.get("teams") or {}
    merged = _like(where, raw, teams)
    merged["beside"] = [_like(f"{where}: beside", side, teams) for side in raw.get("beside") or []]
    for side in merged["beside"]:
        side.pop("reps", None)
    merged["policy"] = _over(document.get("policy") or {}, raw.get("policy") or {})
    merged.setdefault("as_of", document.get("as_of"))
    merged, _ = renamed(merged, Scenario)
    try:
        scenario = Scenario.model_validate(merged)
    except ValidationError as error:
        raise ScenarioError("\n".join(_explain(where, problem) for problem in error.errors())) from error
    rules, actions = [r.name for r in RULES], list(dict.fromkeys(str(r.action) for r in RULES))
    expect, previous = scenario.expect, scenario.history.previous
    for field, value, allowed in [
        ("rule", scenario.rule, rules),
        ("expect.rule", expect.rule, rules),
        ("expect.action", expect.action, actions),
        ("history.previous.rule", previous and previous.rule, rules),
        ("history.previous.action", previous and previous.action, actions),
        *(("expect.reasons", signal, SIGNAL_NAMES) for signal in expect.reasons),
    ]:
        if value is not None and value not in allowed:
            raise ScenarioError(f"{where}: {field}: {value!r} is not known{_near(value, allowed)}")
    if not expect.model_fields_set:
        raise ScenarioError(f"{where}: expect: is empty; say what must happen, like action: sales_now")
    return scenario


def _like(where: str, raw: Any, teams: dict[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """`raw` merged with the team it extends: it overrides keys of account and history, and its events are appended."""
    if not isinstance(raw, dict):
        raise ScenarioError(f"{where}: is a {type(raw).__name__}; give a mapping")
    if not above:
        _known(where, raw, _SCENARIO)
    own = {k: v for k, v in raw.items() if k not in ("like", "without")}
    if (name := raw.get("like")) is None:
        return own
    if name in above:
        raise ScenarioError(f"{where}: like: {name!r} is like itself; end the circle")
    if name not in teams:
        raise ScenarioError(f"{where}: like: {name!r} is no team of the file{_near(name, list(teams))}")
    _known(f"{where}: team {name!r}", teams[name], _TEAM)
    team = _like(f"{where}: team {name!r}", teams[name], teams, (*above, name))
    without = raw.get("without") or []
    inherited = [e for e in team.get("events") or [] if e.get("event") not in without]
    gone = [e for e in without if e not in [e.get("event") for e in team.get("events") or []]]
    if gone:
        raise ScenarioError(f"{where}: without: {', '.join(map(str, gone))}: the team has no such event; leave it out")
    return {
        **team,
        **own,
        "account": {**(team.get("account") or {}), **(own.get("account") or {})},
        "people": {**(team.get("people") or {}), **(own.get("people") or {})},
        "history": {**(team.get("history") or {}), **(own.get("history") or {})},
        "events": [*inherited, *(own.get("events") or [])],
    }


def _over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    from onetouch.policy import overlay

    merged: dict[str, Any] = overlay(base, over)
    return merged


def _known(where: str, given: Any, allowed: tuple[str, ...]) -> None:
    if not isinstance(given, dict):
        raise ScenarioError(f"{where}: is a {type(given).__name__}; give a mapping")
    for key in given:
        if key not in allowed:
            raise ScenarioError(f"{where}: {key}: unknown key{_near(str(key), allowed)}")


def _near(value: Any, allowed: Any) -> str:
    near = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
    return f"; did you mean {near[0]}?" if near else f"; allowed: {', '.join(map(str, allowed))}"


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _explain(where: str, problem: Any) -> str:
    """The problem in one line: scenario, field, value, what is allowed."""
    field = ".".join(str(step + 1 if isinstance(step, int) else step) for step in problem["loc"]) or "(scenario)"
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(problem["loc"][:-1])
        return f"{where}: {field}: unknown key{_near(problem['loc'][-1], fields)}"
    if problem["loc"] and problem["loc"][-1] == "event":
        return f"{where}: {field}: {problem['input']!r} is no event{_near(problem['input'], EVENT_NAMES)}"
    said = problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(problem["input"], dict) else f"{problem['input']!r} is not allowed; "
    return f"{where}: {field}: {shown}{said}"


def _fields_at(loc: tuple[Any, ...]) -> list[str]:
    """The keys allowed at a place in a scenario."""
    places: dict[str, type[Part]] = {
        "events": Event, "account": Account, "history": History, "handoff": PastHandoff, "previous": Previous,
        "reps": Rep, "expect": Expected, "beside": Side, "contacts": Contact,
    }  # fmt: skip
    named = [step for step in loc if step in places]
    return list((places[named[-1]] if named else Scenario).model_fields)
