"""One database, SQLite or PostgreSQL, with one writer at a time."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, ExceptionContext, Table, create_engine, event, make_url, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError, StatementError
from tenacity import retry, retry_if_exception, retry_if_exception_type, stop_after_delay, wait_random

from onetouch.ledger.migrations import head
from onetouch.ledger.states import LedgerError
from onetouch.ledger.tables import metadata, runs

BUSY_SECONDS = 60
"""How long a writer waits for the previous one (SQLite)."""

RESTART_SECONDS = 60
"""Ours: how long a server that has answered this process before is waited for, since it may be restarting."""

_LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL's error code for a lock that was not free in time."""

_READ_ONLY = "25006"
"""PostgreSQL's error code for a write in a read-only transaction."""

_CUT = ("08", "57P")
"""How PostgreSQL's error codes begin after which a connection is of no use: it failed, or the server ends."""

_NO_TIMEOUTS = (
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
"""Lets a transaction last as long as its process, whatever the server's settings; the second is PostgreSQL 17's."""

_WRITER = int.from_bytes(b"onetouch")  # the advisory lock's key (PostgreSQL)


class Database:
    """Connections, transactions and migrations of the ledger at `url`.

    `url` is `sqlite:///path` or `postgresql+psycopg2://…`; anything else raises ValueError. Nothing is opened
    before it is needed. `close()` (or a with-block) gives the connections back.

    Nothing outlives a transaction on the server, neither settings nor locks nor prepared statements, so PostgreSQL may
    also be reached through a pooler that gives each transaction another connection (PgBouncer's transaction mode).
    """

    _answered = False
    """Whether the server has answered before."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        backend = self.url.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ValueError(f"ledger url: {backend} is not supported; give sqlite:///… or postgresql+psycopg2://…")
        # hide_parameters: an error's text must not hold e-mail addresses or dossiers.
        options: dict[str, Any] = {"pool_pre_ping": backend == "postgresql"}
        if self.url.get_dialect().driver == "psycopg":
            options["connect_args"] = {"prepare_threshold": None}
        self.engine: Engine = create_engine(self.url, hide_parameters=True, **options)
        self._is_sqlite = backend == "sqlite"
        if self._is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "handle_error", _one_line)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url.render_as_string(hide_password=True)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections; the next use opens new ones."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the ledger throughout."""
        with self._connection("REPEATABLE READ") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is the only writer until it ends: what it has read does not change before it writes.

        Writes are few and short, so one lock for the whole ledger costs little and rules out deadlocks and races
        between reading and writing. Unique indexes and triggers also apply to writers that do not take the lock.
        """
        # READ COMMITTED: reads after the lock is granted see what the previous writer committed.
        with self._connection("READ COMMITTED", writes=True) as connection:
            if not self._is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:writer)"), {"writer": _WRITER})
            yield connection

    @contextmanager
    def alone(self, what: str, wait: float = 600) -> Iterator[Callable[[], None]]:
        """Lets only one process at a time do `what`; the others wait up to `wait` seconds.

        The lock belongs to the operating system or PostgreSQL, which releases it the moment its process dies. Raises
        LedgerError when it was not free in time. When a process loses its connection unnoticed, another may take the
        lock meanwhile: the function that is yielded raises LedgerError if this happened. Work that another process
        must not have done at the same time calls it before it makes its result final. (What is sent needs no such
        call: it carries keys that the destination accepts only once.)
        """
        if self._is_sqlite:
            with self._file_alone(what, wait):
                yield lambda: None
            return

        def still_alone() -> None:
            try:
                connection.execute(text("SELECT 1"))
            except SQLAlchemyError as error:
                raise LedgerError(f"the connection that kept others from {what} was lost; try again") from error

        key = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], signed=True)
        # A lock of the transaction, not of the session: behind a pooler the next statement of a session may go to
        # another connection. READ COMMITTED: a transaction that waits keeps no old rows from being cleaned up.
        with self._open().execution_options(isolation_level="READ COMMITTED") as connection:
            try:
                connection.execute(text(_NO_TIMEOUTS))
                connection.execute(text(f"SET LOCAL lock_timeout = {int(wait * 1000) or 1}"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            except OperationalError as error:
                if _code(error.orig) == _LOCK_NOT_AVAILABLE:
                    raise _taken(what, wait) from None
                raise
            try:
                yield still_alone
            finally:
                with suppress(SQLAlchemyError):  # the lock dies with its connection
                    connection.rollback()

    @contextmanager
    def _file_alone(self, what: str, wait: float) -> Iterator[None]:
        with self.reading() as connection:
            file = next(row.file for row in connection.execute(text("PRAGMA database_list")) if row.name == "main")
        if not file:  # a database in memory has one process and one connection
            yield
            return
        from filelock import FileLock, Timeout

        # One lock for each file, however the URL writes its path.
        lock = FileLock(f"{os.path.realpath(file)}.{what}.lock", timeout=wait, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise _taken(what, wait) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _connection(self, isolation_level: str, **options: Any) -> Iterator[Connection]:
        if not self._is_sqlite:  # SQLite has one isolation level, in which each transaction sees one state
            options["isolation_level"] = isolation_level
        with self._open().execution_options(**options) as connection, connection.begin():
            yield connection

    def _open(self) -> Connection:
        """A connection; a server that has answered before is waited for up to RESTART_SECONDS."""
        connection = _reconnect(self.engine) if self._answered else self.engine.connect()
        self._answered = not self._is_sqlite
        return connection

    def insert(self, table: Table) -> Any:
        """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update` on both engines."""
        if self._is_sqlite:
            from sqlalchemy.dialects import sqlite

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def migrate(self) -> None:
        """Migrates the tables to the newest revision, entirely or not at all, and only once for simultaneous calls.

        Raises LedgerError when the database is of a newer version than this library.
        """
        if self._is_sqlite and self.url.database not in (None, "", ":memory:"):
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
        if self._revision() == head():
            return
        # Imported only when there is something to migrate: importing Alembic takes longer than most commands.
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", "onetouch.ledger:migrations")
        config.set_main_option("path_separator", "os")
        try:
            with self.writing() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerError(f"ledger cannot be migrated: {error}; install the onetouch that wrote it") from error

    def _revision(self) -> str | None:
        """The revision of the tables; None when there are no tables."""
        with self.reading() as connection:
            if not connection.dialect.has_table(connection, "ledger_revision"):
                return None
            revision: str | None = connection.scalar(text("SELECT version_num FROM ledger_revision"))
        return revision

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """The content of all tables in canonical form: rows sorted, moments as ISO text, no surrogate keys.

        Two ledgers with equal dumps have the same content.
        """
        with self.reading() as connection:
            return {table.name: _content(connection, table) for table in metadata.sorted_tables}


def _taken(what: str, wait: float) -> LedgerError:
    return LedgerError(
        f"another process is at {what}, for more than {wait:.0f} s; look what it waits for, then try again"
    )


def _content(connection: Connection, table: Table) -> list[dict[str, Any]]:
    columns = [column for column in table.columns if column is not runs.c.begun]
    rows = [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in connection.execute(select(*columns)).mappings()
    ]
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


@retry(
    retry=retry_if_exception(_is_locked), stop=stop_after_delay(BUSY_SECONDS), wait=wait_random(0, 0.05), reraise=True
)
def _write_ahead(cursor: sqlite3.Cursor) -> None:
    # Several processes may open a new file at once, and SQLite does not wait when it changes the journal mode.
    cursor.execute("PRAGMA journal_mode = WAL")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # _begin_sqlite sends BEGIN, also before DDL
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # a row recorded as sent must survive a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that begins by reading and then writes would fail when another has written in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@retry(
    retry=retry_if_exception_type(OperationalError),
    stop=stop_after_delay(RESTART_SECONDS),
    wait=wait_random(0.1, 0.5),
    reraise=True,
)
def _reconnect(engine: Engine) -> Connection:
    return engine.connect()


def _code(error: BaseException | None) -> str:
    """PostgreSQL's code of an error, in either driver; empty when the server did not send one."""
    return str(getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "")


def _one_line(context: ExceptionContext) -> None:
    """Says what a person needs of a PostgreSQL error, in one line where it is about the server.

    Its message quotes the failing row, with its e-mail addresses; the first line does not.
    """
    error, original = context.sqlalchemy_exception, context.original_exception
    diagnostics = getattr(original, "diag", None)
    said = (diagnostics and diagnostics.message_primary) or (str(original).strip().splitlines() or [""])[0]
    code = _code(original)
    if code == _READ_ONLY:
        context.is_disconnect = True  # after a failover the next connection may lead to the server that takes writes
        said = (
            f"ledger: the PostgreSQL server takes no writes now ({said}): it is a standby, or "
            "default_transaction_read_only is on; nothing is lost, run it again when the server takes writes"
        )
    elif context.is_disconnect or context.connection is None or code.startswith(_CUT):
        context.is_disconnect = True
        said = (
            f"ledger: the connection to the PostgreSQL server was lost, or there is none ({said}); "
            "what was committed is kept, run it again when the server answers"
        )
    elif not (diagnostics and diagnostics.message_primary):
        return
    original.args = (said,)
    if error is not None:
        error.args = (said,)
        if said.startswith("ledger: ") and isinstance(error, StatementError):
            error.statement = error.code = None
