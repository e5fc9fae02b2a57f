"""Installations that another release left are read, continued, explained and replayed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onetouch import audit, experiments, metrics, report, stages
from onetouch.audit.outcome import accounting, status
from onetouch.catalogue import SIGNAL_NAMES
from onetouch.cli import app
from onetouch.crm import task_of
from onetouch.crm_sync import timezones
from onetouch.handoff import task_content
from onetouch.lake import formats, rows_where
from onetouch.ledger.columns import Document
from onetouch.ledger.tables import metadata
from onetouch.policy import upgrade
from onetouch.routing.inputs import kept
from onetouch.sources import extracted
from onetouch.workspace import Workspace
from typer.testing import CliRunner

from tests.upgrade.homes import COMMITS, Home

NEXT = {
    "asked-a": ("hold_cooldown", 32.0, 48.0),
    "asked-b": ("hold_cooldown", 32.0, 48.0),
    "asked-c": ("hold_cooldown", 32.0, 48.0),
    "converting": ("sales_now", 63.2, 79.0),
    "dead-context": ("hold_cooldown", 63.2, 79.0),
    "dead-task": ("hold_cooldown", 63.2, 79.0),
    "expired": ("hold_cooldown", 32.0, 32.0),
    "late-context": ("hold_cooldown", 63.2, 79.0),
    "lost": ("hold_cooldown", 32.0, 32.0),
    "open": ("hold_cooldown", 63.2, 79.0),
    "quiet-hours": ("hold_cooldown", 63.2, 79.0),
    "released": ("hold_cooldown", 32.0, 32.0),
    "replied": ("hold_touched", 50.4, 67.2),
    "small": ("self_serve_onboarding", 24.0, 12.0),
    "stranger.example": ("self_serve_onboarding", 12.0, 12.0),
    "touched": ("hold_cooldown", 50.4, 67.2),
    "unheard": ("hold_cooldown", 63.2, 79.0),
    "with-deal": ("hold_open_opportunity", 50.4, 67.2),
    "withdrawn": ("hold_cooldown", 32.0, 32.0),
    "won": ("hold_cooldown", 28.7, 28.7),
}
"""Account → action, score and score before that the releases which left the homes gave it ten days later."""


@pytest.fixture(scope="module", params=COMMITS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A copy that is only read."""
    return Home.copy(request.param, tmp_path_factory.mktemp("homes") / request.param)


@pytest.fixture(scope="module")
def opened(home: Home) -> Workspace:
    return home.open()


@pytest.fixture(scope="module", params=COMMITS)
def continued(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, str]]:
    """A copy in which today's code has made the next run, and the id of that run."""
    home = Home.copy(request.param, tmp_path_factory.mktemp("continued") / request.param)
    now = home.moment("next")
    with home.outside(now) as url:
        run_id = stages.run_all(home.open(url), now, now, approved_by="olga@ops.example")
    yield home, run_id


def decided(workspace: Workspace) -> list[Any]:
    return [run for run in workspace.ledger.runs() if workspace.lake.exists("decisions", f"{run.run_id}.parquet")]


def figures(sentences: list[str]) -> list[str]:
    """The numbers, amounts and dates of some sentences; words may be chosen better."""
    return re.findall(r"(?<![\w.-])\$?\d[\d,.:-]*\b%?", " ".join(sentences))


# ── What is stored is known ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_table_has_a_shape(opened: Workspace) -> None:
    root = Path(opened.lake.root)
    tables = sorted(root.rglob("*.parquet"))
    found = set()
    for path in tables:
        kind = formats.table_kind(*path.relative_to(root).parts)
        assert kind is not None, f"{path}: a table of no kind; declare it in lake/formats.py"
        found.add(kind.name)
        schema = pq.read_schema(path)
        names = {upgrade.current_name(name) for name in schema.names}
        assert names <= set(kind.columns), f"{path}: {sorted(names - set(kind.columns))} not declared"
    since = {
        "artefact", "artefacts", "audience", "enterprises", "memberships", "tallies", "contacts", "listed", "opt_outs",
        "people", "persons", "profiles",
    }  # fmt: skip  # shapes that came after the commit of a home
    assert found | since == {kind.name for kind in formats.TABLE_KINDS}, "a home must hold a table of every kind"


def test_every_text_file_is_known_by_its_room(opened: Workspace) -> None:
    root = Path(opened.lake.root)
    rooms = {p.relative_to(root).parts[0] for p in root.rglob("*") if p.is_file() and p.suffix != ".parquet"}
    assert rooms <= {"raw", "quality", "reports"}


def test_every_document_of_the_ledger_is_read(opened: Workspace) -> None:
    with opened.ledger.reading() as connection:
        for table in metadata.tables.values():
            rows = connection.execute(table.select()).mappings().all()
            for column in table.columns:
                if isinstance(column.type, Document) and rows and not column.nullable:
                    assert all(row[column.name] is not None for row in rows)
    for run in opened.ledger.runs():
        policy = opened.ledger.policy(run.policy_version)
        assert policy.version == run.policy_version
        assert policy.crm.automation.owners in ([], ["robot@sales.example"])
    assert {name for handoff in opened.ledger.handoffs() for name in handoff.signals} <= set(SIGNAL_NAMES)


def test_tables_are_read_whole(opened: Workspace) -> None:
    root = Path(opened.lake.root)
    for path in sorted(root.rglob("*.parquet")):
        parts = path.relative_to(root).parts
        kind, table = formats.table_kind(*parts), formats.read_table(opened.lake, *parts)
        assert kind is not None
        assert set(table.column_names) == set(kind.columns)
        assert table.num_rows == pq.read_metadata(path).num_rows


# ── What was said is said again ───────────────────────────────────────────────────────────────────────────────────────


def test_explanations_give_the_same_facts_and_figures(home: Home, opened: Workspace) -> None:
    run = audit.run_of(opened.lake, opened.ledger)
    explained = home.explained()
    assert len(explained) == 20
    for account, then in explained.items():
        now = json.loads(json.dumps(audit.explain(opened.lake, opened.ledger, run, account).record()))
        for part in ("run_id", "decision", "gates", "tier_score"):
            assert says_again(now[part], then[part]), (account, part)
        assert {name: now["signals"][name] for name in then["signals"]} == then["signals"], account
        added = set(now["signals"]) - set(then["signals"])
        assert all(now["signals"][name] is None for name in added), account
        told = [[(said["rule"], said["action"], said["verdict"]) for said in one["rules"]] for one in (now, then)]
        assert told[0] == told[1], account
        assert figures(now["would_change"]) == figures(then["would_change"]), account
        for said, once in zip(now["rules"], then["rules"], strict=True):
            assert figures([said["why"]]) == figures([once["why"]]), (account, said, once)


def test_decisions_are_listed_as_they_were(home: Home, opened: Workspace) -> None:
    run = audit.run_of(opened.lake, opened.ledger)
    then = home.said("decisions")
    rows = json.loads(json.dumps(audit.decision_rows(opened.lake, run)))
    assert [row["account_id"] for row in rows] == [row["account_id"] for row in then]
    assert [{key: row[key] for key in once} for row, once in zip(rows, then, strict=True)] == then  # keys may be added


def test_status_is_what_it_was(home: Home, opened: Workspace) -> None:
    now = json.loads(json.dumps(status(opened.ledger)))
    if (home.folder / "said" / "status.json").exists():
        assert says_again(now, home.said("status"))
    assert now["open_handoffs"] == 8
    runs = {run["run_id"]: run for run in now["runs"]}
    for name, then in home.said("runs").items():
        if isinstance(then, dict) and "stopped_by" in then and name not in ("asked",):
            assert says_again(runs[then["run_id"]], {k: v for k, v in then.items() if k != "stopped_by"}), name


def test_tasks_say_what_they_said(opened: Workspace) -> None:
    """What a stored policy writes is what the release wrote that stored it."""
    lake, ledger, compared = opened.lake, opened.ledger, 0
    for row in ledger.outbox():
        if row.kind == "task" and lake.exists("decisions", f"{row.run_id}.parquet"):
            (handoff,) = [h for h in ledger.handoffs() if h.handoff_id == row.handoff_id]

            def of(kind: str, file: str, account_id: str = handoff.account_id) -> dict[str, Any]:
                return next(iter(rows_where(lake, kind, file, "account_id", [account_id])), {})

            decision, signals = of("decisions", row.run_id), of("signals", row.run_id)
            if not signals:  # told by the id that a lone person's account had then
                continue
            zone = timezones(lake, row.run_id).get(handoff.owner_id or "")
            policy = ledger.policy(decision["policy_version"])
            now = task_content(decision, signals, policy, zone, of("inputs", f"{row.run_id}/handoffs"))
            then = task_of(row.payload)
            assert (now.subject, now.description) == (then.subject, then.description)
            compared += 1
    assert compared >= 10


def says_again(now: Any, then: Any) -> bool:
    """Whether everything that was said then is said now; an object may have learned keys since."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(key in now and says_again(now[key], value) for key, value in then.items())
    if isinstance(then, list):
        return len(now) == len(then) and all(map(says_again, now, then))
    return bool(now == then)


def test_every_decision_is_replayed_byte_for_byte(home: Home, opened: Workspace) -> None:
    then = home.said("replay")
    assert {run.run_id for run in decided(opened)} == set(then["runs"])
    for run_id, said in then["runs"].items():
        assert said["identical"] is True
        found = audit.replay(opened.lake, opened.ledger, run_id)
        assert found.empty, found.to_string()
    for decision in (
        {said.get("run_id"): d for d, said in then["decisions"].items() if "refused" not in said}
    ).values():
        found = audit.find(opened.lake, opened.ledger, decision)
        assert audit.replay(opened.lake, opened.ledger, found.run_id, [decision]).empty
    refused = [decision for decision, said in then["decisions"].items() if "refused" in said]
    for decision in refused:
        with pytest.raises(ValueError, match="was forgotten"):
            audit.replay(
                opened.lake, opened.ledger, audit.find(opened.lake, opened.ledger, decision).run_id, [decision]
            )


def test_reconcile_finds_what_it_found(home: Home, tmp_path: Path) -> None:
    copy = Home.copy(home.commit, tmp_path / "home")
    now = copy.moment("reconcile")
    with copy.outside(now) as url:
        assert (
            json.loads(json.dumps(stages.reconcile(copy.open(url), now, now, dry_run=True)))
            == copy.said("runs")["reconcile"]
        )


def test_the_commands_work(home: Home) -> None:
    for command in (["status"], ["decisions"], ["explain", "open"], ["status", "--json"]):
        result = CliRunner().invoke(app, ["--home", str(home.folder / "home"), *command])
        assert result.exit_code == 0, (command, result.output, result.exception)


# ── And it goes on ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_next_run_goes_on_where_the_last_one_ended(continued: tuple[Home, str]) -> None:
    home, run_id = continued
    workspace = home.open()
    told = accounting(workspace.ledger, run_id)
    assert sum(told["decisions"].values()) == told["accounts"] == 20
    assert told["held"] is None
    assert told["to_send"] == told["delivered"] + sum(told["withheld"].values())
    assert told["failed"] == []
    rows = audit.decision_rows(workspace.lake, workspace.ledger.run(run_id))
    assert {row["account_id"]: (row["action"], row["score"], row["score_before"]) for row in rows} == NEXT
    for run in decided(workspace):  # its own decisions, and those of before
        assert audit.replay(workspace.lake, workspace.ledger, run.run_id).empty
    for row in rows:
        audit.explain(workspace.lake, workspace.ledger, workspace.ledger.run(run_id), row["account_id"])


def test_the_next_run_compares_like_with_like(continued: tuple[Home, str]) -> None:
    home, run_id = continued
    workspace = home.open()
    inputs = kept(workspace.lake, run_id)
    assert len(inputs.previous) == 20
    assert {name for names in inputs.handoffs["signals"] for name in names} <= set(SIGNAL_NAMES)
    assert formats.read_table(workspace.lake, "inputs", run_id, "earlier.parquet").num_rows == 20


def test_reconcile_after_the_next_run_leaves_nothing_unsaid(continued: tuple[Home, str]) -> None:
    home, _ = continued
    now = home.moment("next") + timedelta(hours=2)
    with home.outside(now) as url:
        stages.reconcile(home.open(url), now, now)
        again = stages.reconcile(home.open(url), now, now, dry_run=True)
    assert again["repaired"] == {}
    assert {row["what"] for row in again["reported"]} <= {
        row["what"] for row in home.said("runs")["reconcile"]["reported"]
    }


def test_what_was_deferred_is_delivered_the_next_day(home: Home, tmp_path: Path) -> None:
    copy = Home.copy(home.commit, tmp_path / "home")
    now = copy.moment("last") + timedelta(days=1)
    before = {handoff.account_id: handoff for handoff in copy.open().ledger.handoffs(states=["decided"])}
    with copy.outside(now) as url:
        workspace = copy.open(url)
        run_id = stages.run_all(workspace, now, now, approved_by="olga@ops.example")
    after = {handoff.handoff_id: handoff for handoff in workspace.ledger.handoffs()}
    late = after[before["late-context"].handoff_id]
    assert (late.state, late.reason) == ("task_open", "")
    assert late.task_id
    assert accounting(workspace.ledger, run_id)["failed"] == []
    posted = workspace.ledger.outbox(destination="slack", states=["sent"], keys=[f"alert:{late.handoff_id}"])
    assert len(posted) == 1


def test_a_stage_of_an_old_run_is_repeated(home: Home, tmp_path: Path) -> None:
    workspace = Home.copy(home.commit, tmp_path / "home").open()
    run = audit.run_of(workspace.lake, workspace.ledger)
    parts = ("decisions", f"{run.run_id}.parquet")
    before = formats.read_raw(workspace.lake, *parts)
    for stage in (stages.build_signals, stages.score, stages.route, stages.check_decisions):
        stage(workspace, run.run_id)
    kind = formats.table_kind(*parts)
    assert kind is not None
    again = formats.as_stored(formats.read_table(workspace.lake, *parts), before, kind)
    assert again.select(before.column_names).to_pylist() == before.to_pylist()


# ── What else lies there ──────────────────────────────────────────────────────────────────────────────────────────────


def test_shadows_and_comparisons_are_read(home: Home, opened: Workspace) -> None:
    run = opened.ledger.run(home.said("runs")["asked"]["run_id"])
    shown = experiments.read_shadow(opened.lake, opened.ledger, run)
    assert set(shown.after["account_id"]) == set(shown.before["account_id"])
    assert len(shown.after) == 20  # one was forgotten since
    assert shown.summary.startswith("+0 / −3 sales touches (3 → 0)")
    assert shown.summary[:29] == (opened.ledger.stage_summary(run.run_id, "shadow") or {})["summary"][:29]
    then = opened.ledger.policy(run.policy_version)
    same = experiments.compare(opened.lake, opened.ledger, then, then, run)
    assert (len(same.changes), same.computed_anew) == (0, False)
    # Today's policy reads plan limits otherwise, so its signals are computed again.
    today = experiments.compare(opened.lake, opened.ledger, then, opened.policy, run)
    assert (len(today.changes), today.computed_anew) == (0, True)


def test_reports_and_manifests_are_read(opened: Workspace) -> None:
    root = Path(opened.lake.root)
    reports = sorted(root.glob("reports/*/metrics.json"))
    for path in reports:
        figures = metrics.read(opened.lake, path.parent.name)
        assert report.build(figures, opened.policy).charts
    manifests = sorted(root.glob("raw/*/*/extract.json"))
    for path in manifests:
        run = next(run for run in opened.ledger.runs() if run.run_id in path.parent.name)
        assert (extracted(path.parts[-3], opened.lake, run) or {})["window"]
    assert reports
    assert manifests


# ── Whatever is added since ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_signal_and_a_key_more_change_nothing_of_it(
    home: Home, opened: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = formats.table_kind("signals", "r.parquet").columns
    monkeypatch.setitem(columns, "exports_7d", pa.float64())
    monkeypatch.setitem(columns, "exports_7d_at", formats.MOMENT)

    def another(document: dict[str, Any]) -> dict[str, Any]:
        document["value"].pop("planted", None)
        return document

    # The next format has a key that today's schema does not know: a step takes what older documents lack for granted.
    monkeypatch.setitem(upgrade._STEPS, upgrade.FORMAT, another)
    monkeypatch.setattr(upgrade, "FORMAT", upgrade.FORMAT + 1)
    for run in decided(opened):
        assert opened.ledger.policy(run.policy_version).version == run.policy_version
        assert audit.replay(opened.lake, opened.ledger, run.run_id).empty
    run = audit.run_of(opened.lake, opened.ledger)
    assert audit.explain(opened.lake, opened.ledger, run, "open").signals["exports_7d"] is None
