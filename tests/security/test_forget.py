"""Who is forgotten is nowhere in lake and ledger any more, stays away, and nobody else loses anything."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from onetouch import audit
from onetouch import forget as module
from onetouch.catalogue import PERSONAL_COLUMNS
from onetouch.forget import forget, preview
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.sources.lines import JsonLines
from onetouch.workspace import Workspace
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from tests.ledger.conftest import postgres_databases  # noqa: F401 - a fixture
from tests.security.conftest import AS_OF, Home, build, called, opened, row
from tests.security.conftest import rows as rows_sent
from tests.sources.answers import answer, member, packed

ACCOUNT, DOMAIN, CRM_ID = "org_00003", "kestrel-0003.example", "001Simorg_00003IAA"


@pytest.fixture(scope="session")
def built_on_postgresql(tmp_path_factory: pytest.TempPathFactory, postgres_databases: Iterator[str]) -> Home:  # noqa: F811
    """As it was built, with its ledger on PostgreSQL: read only."""
    return build(tmp_path_factory.mktemp("erasure-postgresql"), next(postgres_databases))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """What the ledger is kept in."""
    return request.param


@pytest.fixture
def home(engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """One's own, to erase from, once on each engine."""
    if engine == "sqlite":
        built, url = request.getfixturevalue("built"), None
    else:
        built = request.getfixturevalue("built_on_postgresql")
        url = copied(built.workspace.ledger, f"erasure_{next(NUMBERS)}")
        monkeypatch.setenv("ONETOUCH_LEDGER_URL", url)  # for the command line
    shutil.copytree(built.workspace.home, tmp_path / "home")
    return replace(built, workspace=opened(tmp_path / "home", built.exports, built.accounts, url))


NUMBERS = count(1)


def copied(ledger: Ledger, name: str) -> str:
    """The URL of a copy of a PostgreSQL database."""
    ledger.close()
    admin = create_engine(ledger.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{ledger.url.database}"'))
    admin.dispose()
    return ledger.url.set(database=name).render_as_string(hide_password=False)


def pages(ledger: Ledger) -> dict[str, bytes]:
    """The rows of a ledger on PostgreSQL, and the bytes of the files that hold its tables and indexes."""
    if ledger.engine.dialect.name == "sqlite":
        return {}
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))
        files = connection.execute(
            text(
                "SELECT relname, pg_read_binary_file(pg_relation_filepath(oid)) AS bytes FROM pg_class"
                " WHERE relkind IN ('r', 'i', 't') AND oid >= 16384"
            )
        )
        found = {f"page of {row.relname}": bytes(row.bytes) for row in files}
    for table, words in ledger.texts():
        found[f"rows of {table}"] = found.get(f"rows of {table}", b"") + words.encode()
    return found


def contents(home: Path, ledger: Ledger | None = None) -> dict[str, bytes]:
    """Every file with its bytes, and what they unpack to; the ledger's pages, log and shared memory too."""
    found = pages(ledger) if ledger else {}
    for path in sorted(home.rglob("*")):
        if not path.is_file():
            continue
        name, content = str(path.relative_to(home)), path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content += gzip.decompress(content)
        elif path.suffix == ".parquet":
            content += json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()
        found[name] = content
    return found


def where(workspace: Workspace, *words: str) -> list[tuple[str, str]]:
    files = contents(workspace.home, workspace.ledger)
    return [(word, name) for name, content in files.items() for word in words if word.encode() in content]


def events(lake: Lake) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in lake.list("events")], ignore_index=True)


def users_of(lake: Lake, account_id: str) -> list[str]:
    known = events(lake)
    return sorted(known.loc[known["account_id"] == account_id, "user_id"].dropna().unique())


def raw_lines(lake: Lake) -> list[bytes]:
    return [line for path in lake.list("raw", ".gz") for line in gzip.decompress(Path(path).read_bytes()).splitlines()]


def test_an_account_is_nowhere_afterwards_and_nobody_else_has_lost_anything(home: Home) -> None:
    workspace, lake = home.workspace, home.workspace.lake
    users = [user for user in users_of(lake, ACCOUNT) if user != "u_consultant"]
    words = [ACCOUNT, DOMAIN, CRM_ID, "Kestrel Simulated", "simulated.u.00003", *users, *map(called, users)]
    assert len(users) > 2 and {word for word, _ in where(workspace, *words)} == set(words)
    before, stages_before = events(lake), workspace.ledger.stage_summaries(home.run_id)
    decisions = lake.read("decisions", f"{home.run_id}.parquet")

    said = forget(workspace, "account", ACCOUNT, AS_OF)

    assert where(workspace, *words) == []
    assert said["found"] == [] and said["searched"]["files"] > 20 and said["searched"]["rows"] > 15
    # The consultant is another company's, too, and stays there; a row of others that names the account is theirs.
    assert said["shared"] == {"users": 1, "domains": 1} and where(workspace, "u_consultant")
    after, others = events(lake), before[before["account_id"] != ACCOUNT]
    mention = after["event_id"] == "00000000-0000-4000-8000-000000000900"
    assert json.loads(after.loc[mention, "properties"].item())["invited"].startswith("forgotten:")
    pd.testing.assert_frame_equal(
        after[~mention].sort_values("event_id", ignore_index=True),
        others[others["event_id"] != after.loc[mention, "event_id"].item()].sort_values("event_id", ignore_index=True),
    )
    stored = lake.read("decisions", f"{home.run_id}.parquet")
    assert len(stored) == len(decisions)
    assert stored["action"].value_counts().equals(decisions["action"].value_counts())
    assert stored.loc[decisions["account_id"] == ACCOUNT, "account_id"].tolist() == [said["pseudonym"]]
    others = decisions["account_id"] != ACCOUNT
    pd.testing.assert_frame_equal(stored[others], decisions[others])
    # One more line was rewritten: the one in which somebody else mentions the account.
    assert raw_lines(lake).count(b'{"onetouch": "forgotten"}') == said["lake"]["lines"] - 1 == 26
    for stage, summary in workspace.ledger.stage_summaries(home.run_id).items():
        assert json.loads(json.dumps(stages_before[stage]).replace(ACCOUNT, said["pseudonym"])) == summary


def test_the_ledger_keeps_the_figures_under_a_pseudonym(home: Home) -> None:
    ledger = home.workspace.ledger
    before = ledger.dump()
    said = forget(home.workspace, "account", ACCOUNT, AS_OF)
    [mine] = [h for h in ledger.handoffs() if h.account_id.startswith("forgotten:")]
    assert (mine.state, mine.reason, mine.score, mine.signals) == ("withdrawn", "forgotten", 50.0, ["users"])
    assert mine.account_id == said["pseudonym"]
    assert mine.crm_account_id is not None and mine.crm_account_id.startswith("forgotten:")
    rows = {row.kind: row for row in ledger.outbox() if row.handoff_id == mine.handoff_id}
    assert (rows["account_fields"].state, rows["account_fields"].payload) == ("sent", {})
    assert (rows["task"].state, rows["task"].payload, rows["task"].reason) == ("failed", {}, "forgotten")
    assert ledger.retry() == 0
    after = ledger.dump()
    for table, rows_before in before.items():
        if table not in ("forgotten", "forget_key", "handoff_moves", "stages"):
            assert len(after[table]) == len(rows_before)
        kept = [row for row in rows_before if ACCOUNT not in json.dumps(row) and "00003" not in json.dumps(row)]
        kept = [row for row in kept if row.get("handoff_id") != mine.handoff_id]
        assert [row for row in kept if row not in after[table]] == []
    assert after["forgetting"] == []
    assert {row["kind"] for row in after["forgotten"]} == {"account", "user"}


def test_a_user_is_nowhere_afterwards_and_its_company_stays(home: Home) -> None:
    workspace, lake = home.workspace, home.workspace.lake
    user = users_of(lake, ACCOUNT)[0]
    address = f"simulated.{user.replace('_', '.')}@{DOMAIN}"
    assert where(workspace, address)
    rooms = {name.split("/")[1] for _, name in where(workspace, called(user)) if name.startswith("lake/")}
    assert rooms >= {"raw", "events", "profiles", "people", "signals"}
    assert {"ledger.db", "rows of outbox"} & {name for _, name in where(workspace, called(user))}
    before = events(lake)
    scores = lake.read("scores", f"{home.run_id}.parquet")
    said = forget(workspace, "user", user, AS_OF)
    assert where(workspace, user, address, called(user)) == [] and said["found"] == []
    signals = lake.read("signals", f"{home.run_id}.parquet").set_index("account_id").loc[ACCOUNT]
    assert signals["contact_user"].startswith("forgotten:") and pd.isna(signals[list(PERSONAL_COLUMNS)]).all()
    people = lake.read("people", f"{home.run_id}.parquet")
    assert (people["account_id"] == ACCOUNT).sum() == 3  # the others, and the consultant
    pd.testing.assert_frame_equal(
        events(lake).sort_values("event_id", ignore_index=True),
        before[before["user_id"] != user].sort_values("event_id", ignore_index=True),
    )
    pd.testing.assert_frame_equal(lake.read("scores", f"{home.run_id}.parquet"), scores)
    assert lake.exists("crm", home.run_id, "accounts.parquet") and where(workspace, DOMAIN)
    assert audit.replay(lake, workspace.ledger, home.run_id).empty


def test_of_the_others_it_is_known_who_they_are(home: Home) -> None:
    user, other = users_of(home.workspace.lake, ACCOUNT)[:2]
    forget(home.workspace, "user", user, AS_OF)
    rooms = {name.split("/")[1] for _, name in where(home.workspace, called(other)) if name.startswith("lake/")}
    assert rooms >= {"raw", "events", "profiles", "people"}


def test_by_the_address_that_outlived_the_raw_files_the_user_is_found(home: Home) -> None:
    lake = home.workspace.lake
    user = users_of(lake, ACCOUNT)[0]
    lake.fs.rm(lake.path("raw"), recursive=True)
    forget(home.workspace, "user", f"Simulated.{user.replace('_', '.')}@{DOMAIN}", AS_OF)
    assert where(home.workspace, user, called(user)) == []


def test_by_the_address_of_a_user_the_user_is_found(home: Home) -> None:
    user = users_of(home.workspace.lake, ACCOUNT)[0]
    forget(home.workspace, "user", f"Simulated.{user.replace('_', '.')}@{DOMAIN}", AS_OF)
    assert where(home.workspace, user) == []


def test_a_lone_user_is_an_account_too(home: Home) -> None:
    lake = home.workspace.lake
    known = events(lake)
    user = known.loc[known["account_basis"] == "personal", "account_id"].iloc[0]
    assert any(name.startswith("lake/signals") for _, name in where(home.workspace, user))
    forget(home.workspace, "user", user, AS_OF)
    assert where(home.workspace, user) == []


def test_an_account_without_group_goes_with_its_domain(home: Home) -> None:
    lake = home.workspace.lake
    known = events(lake)
    domain = known.loc[known["account_basis"] == "domain", "account_id"].iloc[0]
    users = users_of(lake, domain)
    forget(home.workspace, "account", domain, AS_OF)
    assert where(home.workspace, domain, *users) == []


@pytest.mark.parametrize("column", ["name", "domain"])
def test_a_name_or_a_domain_is_no_id_and_nothing_is_begun(home: Home, column: str) -> None:
    rows = home.workspace.lake.read("signals", f"{home.run_id}.parquet").set_index("account_id")
    named = str(rows.at[ACCOUNT, column]).upper()
    theirs = sorted(rows.index[rows[column].str.upper() == named])
    dump, events_before = home.workspace.ledger.dump(), events(home.workspace.lake)
    for ask in (preview, partial(forget, now=AS_OF)):
        with pytest.raises(ValueError, match=f"it is the {column} of {theirs[0]}.*onetouch forget account {theirs[0]}"):
            ask(home.workspace, "account", named)
    assert home.workspace.ledger.dump() == dump
    pd.testing.assert_frame_equal(events(home.workspace.lake), events_before)


def test_the_preview_names_what_the_erasure_then_erases(home: Home) -> None:
    workspace = home.workspace
    dump = workspace.ledger.dump()
    would = preview(workspace, "account", ACCOUNT)
    assert workspace.ledger.dump() == dump and where(workspace, ACCOUNT)
    assert would["identifiers"]["accounts"][0] and CRM_ID in would["identifiers"]["crm_ids"]
    words = [word for words in would["identifiers"].values() for word in words if len(word) > 8]
    assert ACCOUNT in words and "u_consultant" not in words
    said = forget(workspace, "account", ACCOUNT, AS_OF)
    assert (would["shared"], would["elsewhere"]) == (said["shared"], said["elsewhere"])
    assert would["handoffs"] == said["ledger"]["handoffs"]
    assert [name for _, name in where(workspace, *words)] == []


def test_again_finds_nothing_left_to_do(home: Home) -> None:
    forget(home.workspace, "account", ACCOUNT, AS_OF)
    before = contents(home.workspace.home / "lake")
    ledger = home.workspace.ledger.dump()
    again = forget(home.workspace, "account", ACCOUNT, AS_OF)
    assert (again["lake"]["rewritten"], again["ledger"], again["found"]) == (0, {"rows": 0, "handoffs": 0}, [])
    assert contents(home.workspace.home / "lake") == before
    assert home.workspace.ledger.dump() == ledger


class Killed(BaseException):
    """The process ends here."""


STEPS = {
    "begin_erasure": (Ledger, "begin_erasure"),
    "end_handoffs": (Ledger, "end_handoffs"),
    "pseudonymise": (Ledger, "pseudonymise"),
    "finish_erasure": (Ledger, "finish_erasure"),
    "rewrite": (Ledger, "rewrite"),
    "raw": (JsonLines, "rewrite"),
    "tables": (Lake, "replacing"),
    "search": (module, "search"),
}


OF_LEDGER = [step for step, (owner, _) in STEPS.items() if owner is Ledger]


@pytest.mark.parametrize(
    ("engine", "step", "call"),
    [("sqlite", s, 1) for s in STEPS]
    + [("sqlite", "raw", 3), ("sqlite", "tables", 9)]
    + [("postgresql", s, 1) for s in OF_LEDGER],
    indirect=["engine"],
)
def test_killed_at_any_step_the_next_call_finishes_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, step: str, call: int
) -> None:
    words = [ACCOUNT, DOMAIN, CRM_ID, "simulated.u.00003", "u_00003_00", "u_00003_02"]
    owner, name = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(owner, name, dying)
        forget(home.workspace, "account", ACCOUNT, AS_OF)
    # Whoever is forgotten next: what is left of this erasure is finished with it.
    other = "account" if step == "begin_erasure" else "user"
    said = forget(home.workspace, other, ACCOUNT if other == "account" else "nobody", AS_OF)
    assert where(home.workspace, *words) == [] and said["found"] == []
    assert home.workspace.ledger.erasures() == []


def test_what_arrives_again_is_counted_and_kept_nowhere(home: Home, engine: str, tmp_path: Path) -> None:
    users = ["u_00003_00", "u_00003_02"]
    forget(home.workspace, "account", ACCOUNT, AS_OF)
    alone = users_of(home.workspace.lake, "org_00004")[0]
    forget(home.workspace, "user", alone, AS_OF)
    # Another file has all rows again, with one new one, and the file of accounts still names the account.
    sent = [one for one in rows_sent() if not isinstance(one, bytes)]
    theirs = [one for one in sent if ACCOUNT in one["groups"].get("organisation", []) or one["user_id"] == alone]
    shutil.copytree(home.exports, tmp_path / "answers")
    again = packed([*sent, row(990, "u_00005_00", "simulated.u.00005.00@heron-0005.example", "org_00005")])
    answer(tmp_path / "answers/2026-03-again.zip", [(member(AS_OF.replace(day=6, hour=10)), again)])
    ledger = home.workspace.ledger
    url = None if engine == "sqlite" else ledger.url.render_as_string(hide_password=False)
    home = replace(home, workspace=opened(home.workspace.home, tmp_path / "answers", home.accounts, url))
    run_id = home.run(AS_OF.replace(hour=15))
    rows = home.workspace.ledger.stage_summary(run_id, "stage_events")["rows"]
    assert rows["kept"] == 1 and rows["quarantined"]["forgotten"] == len(theirs) > 20
    assert rows["in"] == rows["kept"] + rows["duplicates"] + sum(rows["quarantined"].values())
    assert where(home.workspace, ACCOUNT, DOMAIN, alone, "simulated.u.00003", *users) == []
    quarantine = home.workspace.lake.read("quarantine", "amplitude", f"amplitude-{run_id}.parquet")
    assert quarantine.loc[quarantine["reason"] == "forgotten", "row"].isna().all()
    profile = home.workspace.lake.read("quality", run_id, "profile.parquet").iloc[0]
    assert profile["forgotten"] == rows["quarantined"]["forgotten"]
    assert profile["quarantine_rate"] == 0, "being forgotten is no fault of the data"


def test_a_batch_staged_again_after_an_erasure_counts_the_same(home: Home) -> None:
    lake, ledger = home.workspace.lake, home.workspace.ledger
    before = ledger.stage_summary(home.run_id, "stage_events")["rows"]
    forget(home.workspace, "account", ACCOUNT, AS_OF)
    run = ledger.run(home.run_id)
    from onetouch.events import staging

    ledger.batch = lambda batch_id: None  # type: ignore[method-assign]
    again = staging.stage(lake, ledger, home.workspace.policy, run)["rows"]
    assert again["in"] == before["in"]
    assert again["in"] == again["kept"] + again["duplicates"] + sum(again["quarantined"].values())
    assert where(home.workspace, ACCOUNT) == []


def test_activity_is_not_summed_up_again(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    forget(home.workspace, "account", ACCOUNT, AS_OF)
    with caplog.at_level("INFO", logger="onetouch.signals.build"):
        from onetouch import signals

        signals.build(
            home.workspace.lake, home.workspace.ledger, home.workspace.policy, home.workspace.ledger.run(home.run_id)
        )
    assert "0 dates of activity rebuilt" in caplog.text
    assert where(home.workspace, ACCOUNT, DOMAIN) == []


def test_a_replay_says_who_is_missing(home: Home) -> None:
    lake, ledger = home.workspace.lake, home.workspace.ledger
    decisions = lake.read("decisions", f"{home.run_id}.parquet")
    mine = decisions.loc[decisions["account_id"] == ACCOUNT, "decision_id"].item()
    said = forget(home.workspace, "account", ACCOUNT, AS_OF)
    command = ["--home", str(home.workspace.home)]
    from onetouch.cli import app

    of_it = CliRunner().invoke(app, [*command, "replay", mine])
    assert of_it.exit_code == 1 and "was forgotten" in of_it.output and "Traceback" not in of_it.output
    whole = CliRunner().invoke(app, [*command, "replay", "--run", home.run_id])
    assert whole.exit_code == 0 and "left out, of accounts forgotten since: 1" in " ".join(whole.output.split())
    why = CliRunner().invoke(app, [*command, "explain", said["pseudonym"]])
    assert why.exit_code == 1 and "was forgotten" in why.output
    assert audit.replay(lake, ledger, home.run_id).empty


def test_the_command_tells_what_was_searched_and_what_lies_elsewhere(home: Home) -> None:
    from onetouch.cli import app

    command = ["--home", str(home.workspace.home), "forget", "account", ACCOUNT]
    assert CliRunner().invoke(app, command).exit_code == 1, "only with --yes"
    shown = CliRunner().invoke(app, [*command, "--yes"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert "found 0" in words and CRM_ID in words
    for place in ("CRM", "Slack", "Backups", "Airflow", "Product analytics"):
        assert f"elsewhere {place}" in words


def test_what_is_left_is_found_and_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonLines, "rewrite", lambda *args: 0)
    said = forget(home.workspace, "account", ACCOUNT, AS_OF)
    assert any(place.startswith("lake: raw/amplitude/") for place in said["found"])


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # PostgreSQL's files are its server's
def test_deleted_pages_and_the_log_are_looked_through(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "rewrite", lambda self: None)
    said = forget(home.workspace, "account", ACCOUNT, AS_OF)
    assert any(place.startswith("ledger: ledger.db") for place in said["found"])


def test_the_rules_hold_for_everyone_else(home: Home) -> None:
    """Each rule by itself, on both engines: tests/ledger/test_forgotten."""
    forget(home.workspace, "account", ACCOUNT, AS_OF)
    for statement in (
        "UPDATE handoffs SET account_id = 'forgotten:1' WHERE account_id = 'org_00005'",
        "UPDATE handoff_moves SET reason = 'forgotten:1'",
        "UPDATE outbox SET external_id = 'forgotten:1' WHERE state = 'sent'",
        "DELETE FROM handoffs",
        "DELETE FROM outbox",
        "DELETE FROM handoff_moves",
    ):
        with pytest.raises(DBAPIError), home.workspace.ledger.writing() as connection:
            connection.execute(text(statement))
