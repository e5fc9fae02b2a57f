"""Runs scenario files: from events to signals, scores and decisions as in a run, compared with what is expected.

All scenarios with the same moment and policy are summed up and scored together, as accounts of one company. Scenarios
that test the assignment are decided apart from the others, so that they do not compete for a rep's tasks of the day.
"""

from __future__ import annotations

import difflib
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError

from onetouch import handoff
from onetouch.catalogue import Action
from onetouch.columns import as_frame
from onetouch.consent import CONTACTS
from onetouch.events import account_of_user
from onetouch.experiments import scenario_world as world
from onetouch.experiments.difference import READING
from onetouch.experiments.scenario_file import Expected, Rep, Scenario, ScenarioError, Side, read_scenarios
from onetouch.lake import Lake
from onetouch.policy import Policy, PolicyError, overlay, preset_document
from onetouch.routing import PREVIOUS, RULES, Inputs, Rules, decide, rules_of, sentence
from onetouch.scoring import check_scorer, score_frame
from onetouch.signals import compute

OWN_REPS = "reps.example"
"""E-mail domain of the reps of accounts whose scenario names no owner."""

BEFORE = ("since", "trigger_at")
"""Moments of a decision that are not after it: an expected length of time is counted back from the decision."""

NEARLY = 1e-6
"""Relative difference below which two numbers count as equal."""


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """One result that differs from what the scenario expects; for a text, `got` is the most similar line."""

    what: str
    expected: Any
    got: Any


@dataclass(frozen=True)
class Result:
    """The result of one scenario; `explained`: its decision in one line."""

    file: str
    name: str
    source: str
    rule: str | None
    action: str
    explained: str
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is as the scenario expects."""
        return not self.differences

    def record(self) -> dict[str, Any]:
        """The result as JSON values; moments and texts in readable form."""
        told = {name: getattr(self, name) for name in ("file", "name", "source", "rule", "action", "explained")}
        differences = [{k: _shown(v) for k, v in vars(found).items()} for found in self.differences]
        return told | {"passed": self.passed, "differences": differences}


@dataclass(frozen=True)
class _Cast:
    """An account of a scenario: its id, its description, its owner, and its place in the file for error messages."""

    account_id: str
    side: Side
    owner: str | None
    where: str


@dataclass(frozen=True)
class _Scene:
    """A scenario with its accounts (its own first) and the inputs of their decisions."""

    file: str
    scenario: Scenario
    policy: Policy
    cast: tuple[_Cast, ...]
    reps: tuple[Rep, ...]


@dataclass(frozen=True)
class Staged:
    """Scenarios with their computed signals and scores; they can be decided under any rules. `people`: account → what
    `handoff.team_of` gives of it."""

    scenes: tuple[_Scene, ...]
    people: Mapping[str, list[dict[str, Any]]]
    signals: Mapping[str, pd.DataFrame]
    scores: Mapping[str, pd.DataFrame]


def without(name: str) -> Rules:
    """RULES without the effect of the named one; accounts that no other rule applies to get the action "none"."""

    def nobody(facts: pd.DataFrame, policy: Policy) -> npt.NDArray[np.bool_]:
        return np.zeros(len(facts), dtype=bool)

    kept = [replace(rule, applies=nobody) if rule.name == name else rule for rule in RULES]
    return *kept, replace(RULES[-1], name="no rule", action=Action("none", "No rule applies."))


def run_scenarios(*paths: Path | str, policy: Policy, rules: Rules = RULES) -> list[Result]:
    """The result of every scenario of the files under `policy`, in the files' order. Raises ScenarioError."""
    return decide_scenarios(stage_scenarios(*paths, policy=policy), rules=rules)


def stage_scenarios(*paths: Path | str, policy: Policy) -> Staged:
    """The scenarios of the files with their signals and scores. Raises ScenarioError.

    Account ids consist of file and place, for example `matrix-001`, so that they do not depend on which other scenarios
    are run.
    """
    files: dict[str, Path | str] = {}
    for path in paths:
        if files.setdefault(Path(path).stem, path) != path or list(paths).count(path) > 1:
            raise ScenarioError(
                f"{path}: named as another file given; give each scenario file once, under its own name"
            )
    policies: dict[str, Policy] = {}
    scenes = [
        _scene(str(path), number, scenario, policy, policies)
        for path in files.values()
        for number, scenario in enumerate(read_scenarios(path), 1)
    ]
    batches: dict[Any, list[_Scene]] = defaultdict(list)
    for scene in scenes:
        reading = scene.policy.model_dump_json(include=set(READING), by_alias=True)
        batches[scene.scenario.as_of, reading].append(scene)
    signals: dict[str, pd.DataFrame] = {}
    scores: dict[str, pd.DataFrame] = {}
    people: dict[str, list[dict[str, Any]]] = {}
    for batch in batches.values():
        table, of_batch = _signals(batch)
        people |= of_batch
        by_policy: dict[str, list[_Scene]] = defaultdict(list)
        for scene in batch:
            by_policy[scene.policy.version].append(scene)
        for scored_alike in by_policy.values():
            scored = _scores(scored_alike, table)
            for scene in scored_alike:
                ids = [member.account_id for member in scene.cast]
                signals[ids[0]] = table[table["account_id"].isin(ids)]
                scores[ids[0]] = scored[scored["account_id"].isin(ids)]
    return Staged(tuple(scenes), people, signals, scores)


def decide_scenarios(staged: Staged, *, rules: Rules = RULES, only: Collection[str] | None = None) -> list[Result]:
    """Decides the scenarios by `rules` and compares with what they expect; `only`: names of the scenarios to decide."""
    scenes = [s for s in staged.scenes if only is None or s.scenario.name in only]
    together: dict[Any, list[_Scene]] = defaultdict(list)
    for place, scene in enumerate(scenes):
        assignment = scene.policy.assignment
        apart = place if scene.scenario.apart or assignment.reps or assignment.territories else None
        together[scene.scenario.as_of, scene.policy.version, apart].append(scene)
    results: dict[str, Result] = {}
    for group in together.values():
        keys = [scene.cast[0].account_id for scene in group]
        signals = pd.concat([staged.signals[key] for key in keys], ignore_index=True)
        scores = pd.concat([staged.scores[key] for key in keys], ignore_index=True)
        decisions, known, scored = (_rows(f) for f in (_decided(group, signals, scores, rules), signals, scores))
        for scene, key in zip(group, keys, strict=True):
            row = {**known[key], "people": staged.people.get(key)}
            results[key] = _result(scene, decisions[key], row, scored[key])
    return [results[scene.cast[0].account_id] for scene in scenes]


def _scene(file: str, number: int, scenario: Scenario, policy: Policy, policies: dict[str, Policy]) -> _Scene:
    """The scenario with its inputs; `policies`: cache of the policies by what overrides `policy`, as many are equal."""
    where = f"{file}: {scenario.name!r}"
    over = repr(scenario.policy)
    own = policies[over] = policies.get(over) or _policy(where, scenario.policy, policy)
    account_id = f"{Path(file).stem}-{number:03}"
    cast = []
    for place, side in enumerate([scenario, *scenario.beside]):
        name = account_id if place == 0 else f"{account_id}-{place}"
        name = account_of_user(name) if side.account.basis == "personal" else name
        named = "owner" in side.account.model_fields_set
        cast.append(_Cast(name, side, side.account.owner if named else f"rep-of-{name}@{OWN_REPS}", where))
    if scenario.reps is not None:
        reps = scenario.reps
    else:
        owners = dict.fromkeys(m.owner for m in cast if m.owner is not None)
        reps = [Rep(email=owner) for owner in owners] or [Rep(email=f"someone@{OWN_REPS}")]
    return _Scene(file, scenario, own, tuple(cast), tuple(reps))


def _policy(where: str, over: dict[str, Any], policy: Policy) -> Policy:
    """The policy under test with the scenario's overrides."""
    if not over:
        return policy
    changes = {k: v for k, v in over.items() if k != "extends"}
    try:
        base = preset_document(over["extends"]) if "extends" in over else policy.document()
        own = Policy.model_validate(overlay(base, changes))
        check_scorer(own, f"{where}: policy")
        rules_of(own, where=f"{where}: policy")
        return own
    except PolicyError as error:
        raise ScenarioError(str(error)) from error
    except FileNotFoundError:
        raise ScenarioError(f"{where}: policy.extends: {over['extends']!r} is no preset of policies") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ScenarioError(f"{where}: policy.{field}: {first['input']!r} is not allowed; {first['msg']}") from error


def _signals(batch: list[_Scene]) -> tuple[pd.DataFrame, dict[str, list[dict[str, Any]]]]:
    """The signals and the people of all accounts of the batch, computed in a temporary lake."""
    policy, as_of = batch[0].policy, batch[0].scenario.as_of
    members = [member for scene in batch for member in scene.cast]
    rows = [row for m in members for row in world.events(m.where, m.account_id, m.side, policy, as_of)]
    snapshot = pd.DataFrame([world.record(m.account_id, m.side, m.owner, as_of) for m in members])
    events = world.event_frame(rows)
    with tempfile.TemporaryDirectory(prefix="onetouch-scenarios-") as folder:
        lake = Lake(folder)
        for day, happened in events.groupby(events["occurred_at"].dt.strftime("%Y-%m-%d")):
            lake.write(happened, "events", f"event_date={day}", f"{world.BATCH}.parquet")
        table, _ = compute(lake, policy, snapshot, as_of, people_of=world.BATCH)
        people = handoff.team_of(lake, world.BATCH, [member.account_id for member in members])
    return as_frame(table), people


def _scores(scenes: list[_Scene], signals: pd.DataFrame) -> pd.DataFrame:
    """The scores of the scenes' accounts, with the trend since the scores in their histories."""
    members = [member for scene in scenes for member in scene.cast]
    told = [(m.account_id, m.side.history.score) for m in members if m.side.history.score is not None]
    earlier = pd.DataFrame(told, columns=["account_id", "score"]).astype({"account_id": "str", "score": "float64"})
    theirs = signals[signals["account_id"].isin([m.account_id for m in members])]
    return score_frame(theirs, scenes[0].policy, scenes[0].scenario.as_of, earlier)


def _decided(group: list[_Scene], signals: pd.DataFrame, scores: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """The decisions of all accounts of the group."""
    as_of, policy = group[0].scenario.as_of, group[0].policy
    members = [member for scene in group for member in scene.cast]
    reps = [rep for scene in group for rep in scene.reps]
    earning = {
        account_id: [reason["signal"] for reason in reasons]
        for account_id, reasons in zip(scores["account_id"], scores["reasons"], strict=True)
    }
    rule_of: dict[str, str] = {rule.action: rule.name for rule in reversed(rules)}
    past = [world.handoff(m.account_id, m.side, as_of, earning[m.account_id]) for m in members]
    touched = [world.touch(m.account_id, m.side, as_of) for m in members]
    before = [world.previous(m.account_id, m.side, as_of, rule_of) for m in members]
    inputs = Inputs(
        signals=signals,
        scores=scores,
        handoffs=_frame(past, _HANDOFFS),
        rep_load=world.rep_load(reps, as_of),
        reps=world.crm_users(reps),
        touches=_frame(touched, _TOUCHES),
        previous=_frame(before, {**PREVIOUS, "queued_since": _MOMENT}),
        contacts=_frame((row for m in members for row in world.contacts(m.account_id, m.side)), CONTACTS),
    )
    return decide(inputs, policy, as_of, rules)


_MOMENT = "datetime64[us, UTC]"
_HANDOFFS = {
    "account_id": "str", "handoff_id": "str", "episode": "int64", "state": "str", "owner_email": "str",
    "decided_at": _MOMENT, "touched_at": _MOMENT, "closed_at": _MOMENT, "signals": "object", "run_id": "str",
    "reason": "str", "refused_at": _MOMENT, "answered_at": _MOMENT, "rest_state": "str", "rest_at": _MOMENT,
    "rest_owner": "str",
}  # fmt: skip
_TOUCHES = {
    "touch_id": "str", "account_id": "str", "owner_email": "str", "at": _MOMENT, "kind": "str", "outcome": "str",
    "handoff_id": "str",
}  # fmt: skip


def _frame(rows: Iterable[dict[str, Any] | None], types: dict[str, str]) -> pd.DataFrame:
    content = [row for row in rows if row is not None]
    return pd.DataFrame(content, columns=list(types)).astype(types)


def _rows(frame: pd.DataFrame) -> dict[str, Row]:
    """Each account's row as plain values, by account_id."""
    rows = (dict(zip(frame.columns, map(_plain, row), strict=True)) for row in frame.itertuples(index=False, name=None))
    return {row["account_id"]: row for row in rows}


def _result(scene: _Scene, decision: Row, signals: Row, scores: Row) -> Result:
    """The decision compared with what the scenario expects."""
    scenario, policy = scene.scenario, scene.policy
    found = list(_differences(scene, decision, signals, scores))
    if scenario.rule is not None and decision["rule"] != scenario.rule:
        found.insert(0, Difference("rule", scenario.rule, decision["rule"]))
    return Result(
        scene.file, scenario.name, scenario.source, scenario.rule, decision["action"],
        explained(decision, policy), tuple(found),
    )  # fmt: skip


def explained(decision: Row, policy: Policy) -> str:
    """A decision in one line: action, rule, score, and obstacles."""
    line = f"{decision['action']} by rule {decision['rule']!r}; score {decision['score']:g}, {decision['tier']}"
    said = [sentence(o["obstacle"], o["has"], o["needs"], policy) for o in decision["would_change"]]
    return " ".join([f"{line}.", *said])


def _differences(scene: _Scene, decision: Row, signals: Row, scores: Row) -> Iterable[Difference]:
    """Everything that differs from what is expected, in the order of the fields of `Expected`."""
    expect, as_of = scene.scenario.expect, scene.scenario.as_of
    for what in sorted(expect.model_fields_set, key=list(Expected.model_fields).index):
        wanted = getattr(expect, what)
        match what:
            case "reasons":
                points = {r["signal"]: r["points"] for r in decision["reasons"]}
                pairs = [(f"reasons.{signal}", value, points.get(signal, 0.0)) for signal, value in wanted.items()]
            case "signals":
                missing = [name for name in wanted if name not in signals]
                if missing:
                    where = scene.cast[0].where
                    raise ScenarioError(f"{where}: expect.signals: {', '.join(missing)}: no such column of signals")
                pairs = [(f"signals.{name}", value, signals[name]) for name, value in wanted.items()]
            case "gates":
                pairs = [(f"gates.{gate}", value, scores[f"gate_{gate}"]) for gate, value in wanted.items()]
            case "obstacles":
                got = sorted({o["obstacle"] for o in decision["would_change"]})
                pairs = [(what, None if wanted is None else sorted(set(wanted)), got)]
            case "owner":
                got = decision["owner_email"]
                if wanted is not None and "@" not in wanted and got is not None:
                    got = got.partition("@")[0]
                pairs = [(what, wanted and wanted.lower(), got)]
            case "dossier" | "message" | "says_nothing_of":
                yield from _texts(what, wanted, decision, signals, scene.policy)
                continue
            case _:
                if isinstance(wanted, timedelta):
                    wanted = as_of - wanted if what in BEFORE else as_of + wanted
                pairs = [(what, wanted, decision[what])]
        yield from (Difference(name, want, got) for name, want, got in pairs if not _same(want, got))


def _texts(what: str, wanted: list[str] | str, decision: Row, signals: Row, policy: Policy) -> Iterable[Difference]:
    """The expected texts that are missing, and the excluded texts that are present, in dossier and message."""
    dossier = handoff.dossier(decision, signals, policy)
    message = handoff.first_message(decision, signals, policy)
    place = {"dossier": dossier, "message": message}.get(what, f"{dossier}\n\n{message}")
    for text in [wanted] if isinstance(wanted, str) else wanted:
        if (text in place) == (what == "says_nothing_of"):
            near = difflib.get_close_matches(text, place.splitlines(), n=1, cutoff=0.0)
            yield Difference(what, text, near[0].strip() if near else "nothing like it")


def _plain(value: Any) -> Any:
    """A value of a frame as plain Python: unknown is None, moments are datetimes, lists are lists."""
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        value = value.tolist() if hasattr(value, "tolist") else list(value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if value is None or pd.isna(value):
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | list) else str(value)


def _same(wanted: Any, got: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(got, bool):
        return bool(wanted) == bool(got) if wanted is not None and got is not None else wanted is got
    if isinstance(wanted, int | float) and isinstance(got, int | float):
        return abs(wanted - got) <= NEARLY * max(1.0, abs(wanted))
    return bool(wanted == got)
