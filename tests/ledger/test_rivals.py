"""Several processes and threads at one ledger at once: everything happens once."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from time import monotonic
from typing import Any

import pytest
from onetouch.ledger import IllegalMove, Ledger, LedgerError
from onetouch.policy import Policy, read_policy
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

FORK = multiprocessing.get_context("fork")  # real processes, without importing everything anew
AS_OF = datetime(2025, 3, 5, 9, tzinfo=UTC)
RIVALS = 3


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine once, and PostgreSQL behind a pooler that gives each transaction another connection."""
    return request.param


def migrate_and_open(ledger: Ledger, number: int, together: Callable[[], Any]) -> dict[str, str | None]:
    """Each rival as the same run, then as a run of its own; through the accounts in an order of its own."""
    together()
    ledger.migrate()
    ids: dict[str, str | None] = {}
    for kind, minutes in (("same", 0), ("own", number + 1)):
        run = ledger.begin_run(AS_OF + timedelta(minutes=minutes), read_policy(), False)
        accounts = [f"{kind}-{i}" for i in range(20)]
        random.Random(number).shuffle(accounts)
        together()
        for account_id in accounts:
            handoff = ledger.open_handoff({"account_id": account_id}, run)
            ids[account_id] = handoff and handoff.handoff_id
    return ids


def move_and_put(ledger: Ledger, number: int, together: Callable[[], Any]) -> int:
    """Every rival tells the same moves and lays out the same tasks."""
    found = ledger.handoffs(states=["decided"])
    together()
    for handoff in found:
        ledger.move(handoff.handoff_id, "context_written", handoff.decided_at)
        ledger.move(handoff.handoff_id, "task_open", handoff.decided_at, task_id=f"00T{number}")
        ledger.put(
            f"task:{handoff.handoff_id}", "salesforce", "task", handoff.run_id, handoff.handoff_id, {"n": number}
        )
    return len(found)


def stop_inside(ledger: Ledger, number: int, together: Callable[[], Any]) -> None:
    """Half a write; the process is killed where it stands."""
    with ledger.writing() as connection:
        connection.execute(text("INSERT INTO policies VALUES ('half', '{}')"))
        together()
        signal.pause()


def be_alone(ledger: Ledger, number: int, together: Callable[[], Any]) -> tuple[float, float]:
    """When this rival was alone."""
    together()
    with ledger.alone("delivery"):
        begun = monotonic()
        ledger.advance_watermark(f"rival {number}", AS_OF)
        return begun, monotonic()


def die_alone(ledger: Ledger, number: int, together: Callable[[], Any]) -> None:
    """The process is killed while it is alone."""
    with ledger.alone("delivery"):
        together()
        signal.pause()


def _process(work: Callable[..., Any], url: str, number: int, together: Any, answers: Any) -> None:
    with Ledger(url) as ledger:
        answers.put(work(ledger, number, lambda: together.wait(60)))


def at_once(work: Callable[..., Any], url: str) -> list[Any]:
    """What the processes answer that do the same work at once."""
    together, answers = FORK.Barrier(RIVALS), FORK.SimpleQueue()
    rivals = [FORK.Process(target=_process, args=(work, url, number, together, answers)) for number in range(RIVALS)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert [rival.exitcode for rival in rivals] == [0] * RIVALS
    return [answers.get() for _ in rivals]


def test_processes_at_once_do_everything_once(ledger_url: str) -> None:
    opened = at_once(migrate_and_open, ledger_url)
    with Ledger(ledger_url) as ledger:
        handoffs = {h.account_id: h.handoff_id for h in ledger.handoffs()}
        assert len(ledger.handoffs()) == len(handoffs) == 40
        for account_id, handoff_id in handoffs.items():
            told = [answers[account_id] for answers in opened]
            # the same run finds its own handoff; the other runs hear that the account is in hand
            others = handoff_id if account_id.startswith("same") else None
            assert sorted(told, key=str) == sorted([handoff_id, *[others] * (RIVALS - 1)], key=str)

    assert at_once(move_and_put, ledger_url) == [40] * RIVALS
    with Ledger(ledger_url) as ledger:
        assert {h.state for h in ledger.handoffs()} == {"task_open"}
        assert len(ledger.moves()) == 40 * 3
        assert len(ledger.outbox()) == 40


def test_a_killed_writer_leaves_nothing_and_blocks_nobody(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        ledger.migrate()
        before = ledger.dump()
        inside = FORK.Barrier(2)
        rival = FORK.Process(target=_process, args=(stop_inside, ledger_url, 0, inside, FORK.SimpleQueue()))
        rival.start()
        try:
            inside.wait(60)
            assert ledger.dump() == before  # readers don't wait for it
        finally:
            rival.kill()
            rival.join()
        ledger.advance_watermark("amplitude", AS_OF)
        assert ledger.dump() == before | {"watermarks": [{"source": "amplitude", "until": AS_OF.isoformat()}]}


def test_one_process_at_a_time(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        ledger.migrate()
    times = sorted(at_once(be_alone, ledger_url))
    assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(times))


def test_who_is_killed_alone_blocks_nobody(ledger_url: str) -> None:
    inside = FORK.Barrier(2)
    rival = FORK.Process(target=_process, args=(die_alone, ledger_url, 0, inside, FORK.SimpleQueue()))
    rival.start()
    try:
        inside.wait(60)
        with Ledger(ledger_url) as ledger:
            with (
                pytest.raises(LedgerError, match="another process is at delivery"),
                ledger.alone("delivery", wait=0.05),
            ):
                raise AssertionError("not alone")
            with ledger.alone("something else", wait=0.05):
                pass
            rival.kill()
            rival.join()
            with ledger.alone("delivery", wait=5):
                pass
            with ledger.alone("delivery", wait=0.05):  # it was given back
                pass
    finally:
        rival.kill()
        rival.join()


def test_threads_share_a_ledger(ledger: Ledger, policy: Policy) -> None:
    runs = [ledger.begin_run(AS_OF + timedelta(minutes=i), policy, False) for i in range(6)]
    start = Barrier(6)

    def thread(number: int) -> tuple[int, str | None]:
        start.wait()
        opened = [ledger.open_handoff({"account_id": f"a{i}"}, runs[number]) for i in range(10)]
        first = ledger.handoffs(account_ids=["a0"])[0]
        try:  # one wins, the others are told so
            ledger.move(first.handoff_id, ("withdrawn", "expired")[number % 2], AS_OF + timedelta(hours=number))
        except IllegalMove as error:
            return sum(h is not None for h in opened), str(error)
        return sum(h is not None for h in opened), None

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(thread, range(6)))
    # a0 may come back as a second episode once it was withdrawn; nothing else may
    accounts = [h.account_id for h in ledger.handoffs()]
    assert sum(n for n, _ in answers) == len(accounts)
    assert len([a for a in accounts if a != "a0"]) == 9
    ended = [h for h in ledger.handoffs(account_ids=["a0"]) if not h.active]
    assert len(ended) >= 1 and all(len(ledger.moves([h.handoff_id])) == 2 for h in ended)


def test_the_database_alone_keeps_one_active_handoff(own_ledger: Ledger, policy: Policy) -> None:
    """Two writers that take no lock: the second waits for the first, and is refused."""
    run = own_ledger.begin_run(AS_OF, policy, False)
    start = Barrier(4)

    def thread(number: int) -> bool:
        try:
            with own_ledger.engine.connect().execution_options(writes=True) as connection:
                start.wait()
                connection.execute(
                    text(
                        "INSERT INTO handoffs (handoff_id, account_id, episode, run_id, state, decided_at, signals,"
                        f" reason) VALUES ('h{number}', 'acme', {number + 1}, '{run.run_id}', 'decided',"
                        f" '2025-03-0{number + 1} 09:00:00.000000', '[]', '')"
                    )
                )
                connection.commit()
        except IntegrityError as error:
            assert "unique" in str(error).lower()
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(thread, range(4))) == [False, False, False, True]


def test_one_file_has_one_lock_however_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "other.db").symlink_to(tmp_path / "ledger.db")
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.migrate()
        names = (f"{tmp_path}/link/ledger.db", f"{tmp_path}/other.db", f"file:{tmp_path}/ledger.db?uri=true")
        for name in names:
            with (
                Ledger(f"sqlite:///{name}") as other,
                ledger.alone("delivery"),
                pytest.raises(LedgerError, match="another process is at delivery"),
                other.alone("delivery", wait=0.05),
            ):
                raise AssertionError(f"not alone: {name}")


def test_a_connection_that_is_cut_is_no_other_process(postgres_url: str) -> None:
    with Ledger(postgres_url) as ledger, Ledger(postgres_url) as admin:
        ledger.migrate()

        def cut() -> None:
            with admin.engine.connect() as connection:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                connection.execute(text(f"{others} AND pid <> pg_backend_pid()"))

        with ledger.alone("delivery"):  # what was done is done, though the lock could not be given back
            cut()
        with admin.alone("delivery", wait=5), ThreadPoolExecutor(1) as threads:
            waits = threads.submit(lambda: ledger.alone("delivery", wait=60).__enter__())
            deadline = monotonic() + 10
            while monotonic() < deadline:
                with admin.reading() as connection:
                    if connection.scalar(
                        text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                    ):
                        break
            with admin.engine.connect() as connection:
                connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                )
            with pytest.raises(OperationalError):
                waits.result(10)
