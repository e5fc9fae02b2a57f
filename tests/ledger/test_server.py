"""What the database's server does meanwhile: it restarts, cuts connections, or takes no writes for a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Thread

import pytest
from onetouch.ledger import Ledger, LedgerError
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

AS_OF = datetime(2025, 3, 5, 9, tzinfo=UTC)


def settings(url: str, *statements: str) -> None:
    """An administrator's statements at the database's server."""
    admin = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    admin.dispose()


def database(url: str) -> str:
    return str(make_url(url).database)


def cut(url: str) -> None:
    """Ends every connection to the database."""
    settings(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database(url)}'")


def test_a_cut_between_two_transactions_is_not_noticed(postgres_url: str) -> None:
    with Ledger(postgres_url) as ledger:
        ledger.migrate()
        for day in (1, 2, 3):
            ledger.advance_watermark("amplitude", AS_OF.replace(day=day))
            cut(postgres_url)
        assert ledger.dump()["watermarks"] == [{"source": "amplitude", "until": AS_OF.replace(day=3).isoformat()}]


def test_a_cut_in_a_transaction_is_told_in_one_line_and_leaves_nothing(postgres_url: str) -> None:
    with Ledger(postgres_url) as ledger:
        ledger.migrate()
        before = ledger.dump()
        with pytest.raises(DBAPIError) as told, ledger.writing() as connection:
            connection.execute(text("INSERT INTO policies VALUES ('half', '{}')"))
            cut(postgres_url)
            connection.execute(text("INSERT INTO policies VALUES ('whole', '{}')"))
        assert "\n" not in str(told.value) and "INSERT" not in str(told.value)
        assert str(told.value).startswith("ledger: the connection to the PostgreSQL server was lost")
        assert ledger.dump() == before


def test_a_server_that_answered_before_is_waited_for_while_it_starts(postgres_url: str) -> None:
    name = database(postgres_url)
    with Ledger(postgres_url) as ledger:
        ledger.migrate()
        settings(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cut(postgres_url)
        with (
            Ledger(postgres_url) as new,
            pytest.raises(DBAPIError, match="^ledger: .* or there is none"),
        ):
            new.dump()  # it has never answered this one: its address may be wrong, so nothing is waited for
        waits = Thread(target=ledger.advance_watermark, args=("amplitude", AS_OF))
        waits.start()
        waits.join(0.3)
        assert waits.is_alive()
        settings(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        waits.join(30)
        assert not waits.is_alive()
        assert len(ledger.dump()["watermarks"]) == 1


def test_a_server_that_takes_no_writes_is_told_in_one_line_and_left_for_the_one_that_does(postgres_url: str) -> None:
    name = database(postgres_url)
    with Ledger(postgres_url) as ledger:
        ledger.migrate()
        settings(postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cut(postgres_url)
        with pytest.raises(DBAPIError) as told:
            ledger.advance_watermark("amplitude", AS_OF)
        assert "\n" not in str(told.value)
        assert str(told.value).startswith("ledger: the PostgreSQL server takes no writes now")
        assert ledger.dump()["watermarks"] == []  # reading goes on
        settings(postgres_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        with pytest.raises(DBAPIError, match="takes no writes"):  # a connection that is kept, as to a former primary
            ledger.advance_watermark("amplitude", AS_OF)
        ledger.advance_watermark("amplitude", AS_OF)
        assert len(ledger.dump()["watermarks"]) == 1


@pytest.mark.parametrize("setting", ["idle_in_transaction_session_timeout", "transaction_timeout"])
def test_no_time_limit_of_the_server_ends_what_a_process_does_alone(postgres_url: str, setting: str) -> None:
    settings(postgres_url, f"ALTER DATABASE {database(postgres_url)} SET {setting} = '200ms'")
    with Ledger(postgres_url) as ledger, Ledger(postgres_url) as other, ledger.alone("delivery") as still_alone:
        with pytest.raises(LedgerError, match="another process is at delivery"), other.alone("delivery", wait=0.5):
            raise AssertionError("not alone")
        still_alone()


def test_neither_driver_leaves_anything_on_a_connection(pooled_databases: Iterator[str]) -> None:
    """Behind a pooler the next transaction goes to another connection, which knows no statement prepared before."""
    pytest.importorskip("psycopg")
    url = make_url(next(pooled_databases))
    for driver in ("psycopg2", "psycopg"):
        with Ledger(url.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)) as ledger:
            ledger.migrate()
            with ledger.alone("one"), ledger.alone("another"):
                pass  # the pooler has several connections now, and uses them in turn
            for minute in range(30):
                ledger.advance_watermark(driver, AS_OF.replace(minute=minute))
    with Ledger(url.render_as_string(hide_password=False)) as ledger:
        assert len(ledger.dump()["watermarks"]) == 2
