"""Migrations: the tables are what the library thinks, and the rules hold whoever writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from onetouch.ledger import ACTIVE, LEGAL, STATES, Handoff, Ledger, LedgerError
from onetouch.ledger.migrations import head
from onetouch.ledger.tables import metadata
from onetouch.policy import Policy
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

AT = datetime(2025, 3, 5, 9, tzinfo=UTC)
PATHS = {
    "decided": [],
    "context_written": ["context_written"],
    "task_open": ["context_written", "task_open"],
    "touched": ["context_written", "task_open", "touched"],
    "replied": ["context_written", "task_open", "touched", "replied"],
    "won": ["context_written", "task_open", "touched", "won"],
    "lost": ["context_written", "task_open", "touched", "replied", "lost"],
    "withdrawn": ["withdrawn"],
    "released": ["context_written", "task_open", "touched", "released"],
    "expired": ["expired"],
}
FORGED = (
    "INSERT INTO handoff_moves (handoff_id, step, from_state, to_state, at, known_at, reason)"
    " SELECT handoff_id, 99, state, '{}', decided_at, decided_at, '' FROM handoffs"
)


def opened(ledger: Ledger, policy: Policy, state: str = "decided") -> Handoff:
    handoff = ledger.open_handoff({"account_id": "acme"}, ledger.begin_run(AT, policy, False))
    assert handoff is not None
    for step in PATHS[state]:
        handoff = ledger.move(handoff.handoff_id, step, AT)
    assert handoff.state == state
    return handoff


def refused(ledger: Ledger, *statements: str) -> str:
    """What the database says to the last of these statements, the ones before being welcome; nothing may change."""
    before = ledger.dump()
    with pytest.raises(IntegrityError) as error, ledger.writing() as connection:
        for statement in statements[:-1]:
            connection.execute(text(statement))
        connection.execute(text(statements[-1]))
    assert ledger.dump() == before
    return str(error.value)


def test_the_migrated_tables_are_the_librarys(ledger: Ledger) -> None:
    with ledger.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "ledger_revision"})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(ledger: Ledger, policy: Policy) -> None:
    opened(ledger, policy, "touched")
    before = ledger.dump()
    ledger.migrate()
    assert ledger.dump() == before


def test_a_ledger_lives_beside_another_applications_tables(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        with ledger.writing() as connection:
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
            connection.execute(text("INSERT INTO alembic_version VALUES ('someone_elses')"))
        ledger.migrate()
        with ledger.reading() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "someone_elses"


def test_a_ledger_of_a_newer_version_is_left_alone(own_ledger: Ledger) -> None:
    with own_ledger.writing() as connection:
        connection.execute(text("UPDATE ledger_revision SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="9999.*install the onetouch that wrote it"):
        own_ledger.migrate()


def test_a_failed_migration_leaves_nothing(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        with ledger.writing() as connection:
            connection.execute(text("CREATE TABLE outbox (mine INTEGER)"))  # the last table it makes
        with pytest.raises(DBAPIError):
            ledger.migrate()
        assert set(inspect(ledger.engine).get_table_names()) <= {"outbox", "ledger_revision"}


def test_the_folder_of_a_new_file_is_made_and_readers_do_not_wait(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/a/b/100%/ledger.db") as ledger:
        ledger.migrate()
        with ledger.writing() as connection, ledger.reading() as reader:
            connection.execute(text("INSERT INTO policies VALUES ('v', '{}')"))
            assert reader.scalar(text("SELECT count(*) FROM policies")) == 0
            pragmas = {p: reader.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "foreign_keys")}
        assert pragmas == {"journal_mode": "wal", "foreign_keys": 1}


def test_down_and_up_again(own_ledger: Ledger) -> None:
    config = Config()
    config.set_main_option("script_location", "onetouch.ledger:migrations")
    config.set_main_option("path_separator", "os")
    with own_ledger.writing() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(own_ledger.engine).get_table_names() == ["ledger_revision"]
    own_ledger.migrate()
    assert own_ledger.runs() == []


def illegal() -> Iterator[tuple[str, str]]:
    return ((a, b) for a, b in itertools.product(STATES, STATES) if a != b and b not in LEGAL[a])


def test_there_are_as_many_legal_moves_as_the_design_has() -> None:
    assert sum(len(to) for to in LEGAL.values()) == 17
    assert len(list(illegal())) == 90 - 17


@pytest.mark.parametrize("state", STATES)
def test_the_database_knows_the_same_moves_as_the_library(ledger: Ledger, policy: Policy, state: str) -> None:
    handoff = opened(ledger, policy, state)
    before = ledger.dump()
    for other in sorted(set(STATES) - {state}):
        if other in LEGAL[state]:
            assert "only with a row in handoff_moves" in refused(ledger, f"UPDATE handoffs SET state = '{other}'")
            with ledger.writing() as connection:
                connection.execute(text(FORGED.format(other)))
                connection.execute(text(f"UPDATE handoffs SET state = '{other}'"))
                connection.rollback()
        else:
            said = refused(ledger, f"UPDATE handoffs SET state = '{other}'")
            assert "illegal move" in said or "only with a row" in said
            refused(ledger, FORGED.format(other))
    assert ledger.dump() == before
    assert ledger.handoffs() == [handoff]


def test_only_the_legality_trigger_stands_between_a_state_and_an_illegal_one(
    own_ledger: Ledger, policy: Policy
) -> None:
    handoff = opened(own_ledger, policy, "replied")
    drop = "DROP TRIGGER handoffs_recorded_moves"
    with own_ledger.writing() as connection:
        connection.execute(text(drop if "sqlite" in repr(own_ledger) else f"{drop} ON handoffs"))
    for state in sorted(set(STATES) - LEGAL["replied"] - {"replied"}):
        assert "illegal move" in refused(own_ledger, f"UPDATE handoffs SET state = '{state}'")
    assert own_ledger.handoffs() == [handoff]


@pytest.mark.parametrize("state", [s for s in STATES if s != "decided"])
def test_a_handoff_begins_decided(ledger: Ledger, policy: Policy, state: str) -> None:
    run = ledger.begin_run(AT, policy, False)
    said = refused(
        ledger,
        "INSERT INTO handoffs (handoff_id, account_id, episode, run_id, state, decided_at, signals, reason)"
        f" VALUES ('h', 'acme', 1, '{run.run_id}', '{state}', '2025-03-05 09:00:00', '[]', '')",
    )
    assert "begins as decided" in said


def test_one_active_handoff_and_one_of_each_episode_and_moment(own_ledger: Ledger, policy: Policy) -> None:
    handoff = opened(own_ledger, policy)

    def another(episode: int, decided_at: str) -> str:
        return (
            "INSERT INTO handoffs (handoff_id, account_id, episode, run_id, state, decided_at, signals, reason)"
            f" VALUES ('h', 'acme', {episode}, '{handoff.run_id}', 'decided', '{decided_at}', '[]', '')"
        )

    wrong = [
        another(2, "2025-03-06 09:00:00.000000"),
        another(1, "2025-03-06 09:00:00.000000"),
        another(2, "2025-03-05 09:00:00.000000"),
    ]
    for insert in wrong:
        refused(own_ledger, insert)
    drop = "DROP TRIGGER handoffs_never_replaced"
    with own_ledger.writing() as connection:
        connection.execute(text(drop if "sqlite" in repr(own_ledger) else f"{drop} ON handoffs"))
    for insert in wrong:
        assert "unique" in refused(own_ledger, insert).lower()  # the indexes alone say the same
    own_ledger.move(handoff.handoff_id, "expired", AT)
    for insert in wrong[1:]:
        assert "unique" in refused(own_ledger, insert).lower()
    with own_ledger.writing() as connection:
        connection.execute(text(wrong[0]))  # it was the active one that stood in the way


def test_history_is_only_added_to(ledger: Ledger, policy: Policy) -> None:
    handoff = opened(ledger, policy, "task_open")
    for statement in (
        "DELETE FROM handoff_moves",
        "DELETE FROM handoff_moves WHERE step = 2",
        "UPDATE handoff_moves SET at = known_at, reason = 'x'",
        "DELETE FROM handoffs",
        "UPDATE handoffs SET account_id = 'other'",
        "UPDATE handoffs SET episode = 2",
        FORGED.format("task_open"),
        FORGED.format("decided"),
        FORGED.replace("99", "1").format("touched"),
    ):
        refused(ledger, statement)
    assert ledger.handoffs() == [handoff]


def test_the_outbox_forgets_nothing(ledger: Ledger) -> None:
    ledger.put("k", "salesforce", "task", None, None, {})
    ledger.sending("k")
    ledger.sent("k", "00T")
    for statement in (
        "DELETE FROM outbox",
        "UPDATE outbox SET state = 'pending'",
        "UPDATE outbox SET external_id = 'other'",
        "UPDATE outbox SET key = 'other'",
        "INSERT INTO outbox (key, destination, kind, payload, state, reason)"
        " VALUES ('k', 'salesforce', 'task', '{}', 'pending', '')",
        "INSERT INTO outbox (key, destination, kind, payload, state, reason)"
        " VALUES ('l', 'salesforce', 'task', '{}', 'sent', '')",
    ):
        refused(ledger, statement)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_sqlites_replace_is_no_way_round(ledger: Ledger, policy: Policy) -> None:
    opened(ledger, policy, "touched")
    ledger.put("k", "salesforce", "task", None, None, {})
    for statement in (
        "INSERT OR REPLACE INTO handoffs SELECT * FROM handoffs",
        "REPLACE INTO handoff_moves SELECT * FROM handoff_moves",
        "UPDATE OR REPLACE handoff_moves SET step = 1 WHERE step = 2",
        "REPLACE INTO outbox SELECT * FROM outbox",
    ):
        refused(ledger, statement)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["handoffs", "handoff_moves", "outbox", "runs"])
def test_postgresqls_truncate_is_no_way_round(ledger: Ledger, policy: Policy, table: str) -> None:
    opened(ledger, policy)
    assert "never emptied" in refused(ledger, f"TRUNCATE {table} CASCADE")


def test_every_active_state_counts_as_active_in_the_index(ledger: Ledger, policy: Policy) -> None:
    later = ledger.begin_run(datetime(2025, 3, 6, tzinfo=UTC), policy, False)
    handoff = opened(ledger, policy)
    for state in PATHS["replied"]:
        assert handoff.state in ACTIVE
        assert ledger.open_handoff({"account_id": "acme"}, later) is None
        handoff = ledger.move(handoff.handoff_id, state, AT)
    assert ledger.open_handoff({"account_id": "acme"}, later) is None
    ledger.move(handoff.handoff_id, "won", AT)
    assert ledger.open_handoff({"account_id": "acme"}, later) is not None


def test_the_newest_revision_is_known_without_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", "onetouch.ledger:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [head()]


def test_alembic_is_asked_only_where_the_tables_are_older(own_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(command, "upgrade", lambda config, to: asked.append(to))
    own_ledger.migrate()
    assert asked == []
    with own_ledger.writing() as connection:
        connection.execute(text("UPDATE ledger_revision SET version_num = '0001'"))
    own_ledger.migrate()
    assert asked == ["head"]
