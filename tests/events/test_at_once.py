"""Several processes stage one source at once: every event is kept once, and no run is broken."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from onetouch import events, sources
from onetouch.lake import Lake
from onetouch.ledger import Ledger, LedgerError
from onetouch.policy import read_policy
from sqlalchemy import text

from tests.events.stager import AS_OF, HOUR
from tests.sources.answers import answer, event, member, packed

FORK = multiprocessing.get_context("fork")
MANY = 400


def _stage(url: str, home: Path, hours: int, together: Any, answers: Any) -> None:
    with Ledger(url) as ledger:
        policy, lake = read_policy(), Lake(home / "lake")
        run = ledger.begin_run(AS_OF + hours * HOUR, policy, False)
        together.wait(120)
        sources.extract("amplitude", lake, ledger, policy, run, folder=home / "answers")
        answers.put(events.stage(lake, ledger, policy, run)["rows"])


def at_once(url: str, home: Path, moments: list[int]) -> list[dict[str, Any]]:
    together, answers = FORK.Barrier(len(moments)), FORK.SimpleQueue()
    rivals = [FORK.Process(target=_stage, args=(url, home, hours, together, answers)) for hours in moments]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert [rival.exitcode for rival in rivals] == [0] * len(moments), "a run is broken"
    return [answers.get() for _ in rivals]


def held(home: Path) -> pd.DataFrame:
    paths = Lake(home / "lake").list("events")
    return pd.concat([pq.read_table(path, partitioning=None).to_pandas() for path in paths], ignore_index=True)


@pytest.mark.timeout(900)  # ten processes on two cores
@pytest.mark.parametrize(
    "moments",
    [
        pytest.param([0, 1], id="two moments"),
        pytest.param([0, 0], id="one moment twice"),
        pytest.param(list(range(4)), id="four moments"),
        pytest.param(list(range(10)), id="ten moments", marks=pytest.mark.long),
    ],
)
def test_each_event_is_kept_once(ledger_url: str, tmp_path: Path, moments: list[int]) -> None:
    (tmp_path / "answers").mkdir()
    rows = [event(n, uuid=None) if n % 9 == 0 else event(n) for n in range(MANY)]
    parts = [(member(AS_OF - (1 + n) * HOUR), packed(rows[n::4])) for n in range(4)]
    answer(tmp_path / "answers" / "a.zip", parts)
    with Ledger(ledger_url) as ledger:
        ledger.migrate()
    told = at_once(ledger_url, tmp_path, moments)
    found = held(tmp_path)
    assert len(found) == MANY == found["event_id"].nunique()
    assert all(said["in"] == said["kept"] + said["duplicates"] for said in told)
    if len(set(moments)) == len(moments):
        assert sum(said["kept"] for said in told) == MANY
    else:
        assert all(said["kept"] == MANY for said in told), "the same run says the same"
    with Ledger(ledger_url) as ledger:
        again = ledger.begin_run(AS_OF + timedelta(days=1), read_policy(), False)
        extracted = sources.extract(
            "amplitude", Lake(tmp_path / "lake"), ledger, read_policy(), again, folder=tmp_path / "answers"
        )
        assert (extracted["files"], extracted["already_read"]) == (0, 4)


def test_a_writer_that_lost_its_lock_does_not_record_its_batch(postgres_url: str, tmp_path: Path) -> None:
    with Ledger(postgres_url) as ledger, Ledger(postgres_url) as admin:
        ledger.migrate()
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        with (  # noqa: PT012 - what is lost is lost inside
            pytest.raises(LedgerError, match="the connection that kept others from stage-amplitude was lost"),
            ledger.alone_at("amplitude", "stage") as still_alone,
        ):
            still_alone()
            with admin.engine.connect() as connection:
                connection.execute(text(f"{others} AND pid <> pg_backend_pid()"))
            still_alone()
