"""What a run reads: each file of a folder once, whatever its moment; dry runs apart; and when it became known."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pandas as pd
import pytest
from onetouch import sources
from onetouch.events import event_files, files_by_date

from tests.events.stager import AS_OF, HOUR, Stager
from tests.sources.answers import event

DAY = timedelta(days=1)

NOBODY = {"user_id": None, "device_id": None, "amplitude_id": None, "groups": {"team": ["acme"]}}
"""Whom no row is of, until the policy names groups of this type."""


def sent(number, at, **changes):
    moment = f"{at:%Y-%m-%d %H:%M:%S.%f}"
    times = {"event_time": moment, "client_event_time": moment, "server_upload_time": moment}
    return event(number, **times, **changes)


def receive(stager: Stager, name: str, *hours: int) -> None:
    """An answer of its own for each hour before AS_OF, one event in each."""
    for hour in hours:
        at = AS_OF - hour * HOUR
        stager.receive([sent(1000 + hour, at + HOUR / 4)], name=f"{name}{hour}.zip", hour=at)


def decide(stager: Stager, as_of, *, dry_run: bool = False, passed: bool = True) -> None:
    """The run has gone on to its checks."""
    run = stager.run(as_of, dry_run=dry_run)
    stager.ledger.finish_stage(run.run_id, "check_events", {"passed": passed})


def known(stager: Stager, as_of, *, dry: bool = False) -> set[str]:
    """The numbers of the events that a run for `as_of` may count."""
    paths = [path for of_day in files_by_date(stager.lake, dry=dry).values() for path in of_day]
    frames = [pd.read_parquet(path, partitioning=None) for path in paths]
    events = pd.concat(frames)
    return {int(event_id[-6:]) - 1000 for event_id in events.loc[events["known_at"] <= as_of, "event_id"]}


# ── a folder is read by what has not been read ──


def test_a_run_without_a_moment_hides_nothing_from_the_next(stager):
    """A first run for now, on an export that ends long before; then newer and older answers, in a run for then."""
    receive(stager, "a", 20, 21)
    stager.stage(AS_OF + 200 * DAY)
    decide(stager, AS_OF + 200 * DAY, passed=False)
    receive(stager, "newer", 1, 2)
    receive(stager, "older", *range(24 * 40, 24 * 40 + 3))
    rows = stager.stage(AS_OF)
    assert (rows["rows"]["in"], rows["rows"]["kept"], rows["already_read"]) == (5, 5, 2)
    assert known(stager, AS_OF) == {1, 2, 20, 21, 960, 961, 962}


def test_what_was_read_is_not_read_again(stager):
    receive(stager, "a", 1, 2, 3)
    stager.stage(AS_OF)
    again = stager.stage(AS_OF + HOUR)
    assert (again["rows"]["in"], again["already_read"]) == (0, 3)
    other = Stager.run(stager, AS_OF - HOUR)
    assert (
        sources.extract("amplitude", stager.lake, stager.ledger, stager.policy, other, folder=stager.folder)["files"]
        == 0
    )


def test_a_file_is_known_by_its_content_wherever_it_lies(stager):
    receive(stager, "a", 1, 2)
    stager.stage(AS_OF)
    (stager.folder / "a1.zip").rename(stager.folder / "renamed.zip")
    shutil.unpack_archive(stager.folder / "a2.zip", stager.folder / "unpacked")
    (stager.folder / "a2.zip").unlink()
    assert stager.stage(AS_OF + HOUR)["already_read"] == 2
    stager.receive([sent(1, AS_OF - HOUR), sent(2, AS_OF - HOUR)], name="renamed.zip", hour=AS_OF - HOUR)
    rows = stager.stage(AS_OF + 2 * HOUR)
    assert (rows["rows"]["in"], rows["already_read"]) == (2, 1)


def test_files_added_after_a_run_had_read_are_told_and_left_to_the_next(stager):
    receive(stager, "a", 1)
    stager.stage(AS_OF)
    receive(stager, "b", 5, 6)
    again = sources.extract("amplitude", stager.lake, stager.ledger, stager.policy, stager.run(), folder=stager.folder)
    assert (again["files"], again["waiting"]) == (1, 2)
    assert stager.stage(AS_OF + HOUR)["rows"]["kept"] == 2
    again = sources.extract("amplitude", stager.lake, stager.ledger, stager.policy, stager.run(), folder=stager.folder)
    assert again["waiting"] == 0


def test_a_killed_run_has_read_nothing(stager, monkeypatch):
    receive(stager, "a", 1, 2)
    monkeypatch.setattr(stager.ledger, "record_batch", lambda *a, **k: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        stager.stage(AS_OF)
    monkeypatch.undo()
    between = stager.stage(AS_OF + HOUR)
    assert (between["rows"]["in"], between["already_read"]) == (2, 0)
    assert stager.events()["event_id"].is_unique


def test_a_batch_of_bad_rows_is_read_again_until_it_is_mended(tmp_path):
    stager = Stager(tmp_path)
    stager.receive([event(1), event(2, **NOBODY)])
    assert stager.stage(AS_OF)["rows"]["quarantined"]
    again = stager.stage(AS_OF + HOUR)["rows"]
    assert (again["in"], again["duplicates"], sum(again["quarantined"].values())) == (2, 1, 1)
    events = stager.policy.events.model_copy(update={"group_types": ["team"]})
    stager.policy = stager.policy.model_copy(update={"events": events})
    assert stager.stage(AS_OF + 2 * HOUR)["rows"]["kept"] == 1
    assert stager.stage(AS_OF + 3 * HOUR)["already_read"] == 1


def test_a_rule_of_reading_that_changes_reads_once_more_what_was_rejected(stager):
    stager.receive([*(event(n) for n in range(30)), event(99, **NOBODY)])
    stager.stage(AS_OF)
    decide(stager, AS_OF)
    events = stager.policy.events.model_copy(update={"group_types": ["team"]})
    stager.policy = stager.policy.model_copy(update={"events": events})
    rows = stager.stage(AS_OF)  # another policy, so another run, for the same moment
    assert (rows["rows"]["kept"], rows["rows"]["duplicates"], rows["late"]) == (1, 30, 0)
    assert (stager.events()["known_at"] <= AS_OF).all(), "the file was there when the first run decided"


# ── dry runs ──


def test_a_dry_run_moves_nothing_that_a_real_run_depends_on(tmp_path):
    (tmp_path / "calm").mkdir()
    (tmp_path / "dry").mkdir()
    calm, stager = Stager(tmp_path / "calm"), Stager(tmp_path / "dry")
    for one in (calm, stager):
        receive(one, "a", 1, 2, 3)
    stager.stage(AS_OF + 30 * DAY, dry_run=True)
    decide(stager, AS_OF + 30 * DAY, dry_run=True)
    for one in (calm, stager):
        receive(one, "late", 40)
    stager.stage(AS_OF + 60 * DAY, dry_run=True)
    assert calm.stage(AS_OF) == stager.stage(AS_OF)
    assert known(calm, AS_OF) == known(stager, AS_OF) == {1, 2, 3, 40}
    real = [path for path in event_files(stager.lake, dry=False)]
    frame = pd.concat([pd.read_parquet(path, partitioning=None) for path in real])
    columns = [name for name in frame.columns if name != "event_date"]
    assert frame[columns].reset_index(drop=True).equals(calm.events()[columns]) or set(frame["event_id"]) == set(
        calm.events()["event_id"]
    )
    assert stager.events()["event_id"].is_unique, "what the dry run had staged is the real run's now"
    assert calm.ledger.watermark("amplitude") == stager.ledger.watermark("amplitude")


def test_a_dry_run_goes_on_from_real_ones(stager):
    receive(stager, "a", 1, 2)
    stager.stage(AS_OF)
    receive(stager, "b", 3)
    rows = stager.stage(AS_OF + HOUR, dry_run=True)
    assert (rows["rows"]["kept"], rows["already_read"]) == (1, 2)
    assert known(stager, AS_OF + HOUR, dry=True) == {1, 2, 3} and known(stager, AS_OF + HOUR) == {1, 2}
    assert stager.stage(AS_OF + HOUR)["rows"]["kept"] == 1
    assert stager.events()["event_id"].is_unique


# ── as known then ──


@pytest.mark.parametrize("dry", [False, True])
def test_a_late_file_counts_from_the_run_that_read_it(stager, dry):
    receive(stager, "a", 1, 2, 30)
    stager.stage(AS_OF, dry_run=dry)
    decide(stager, AS_OF, dry_run=dry)
    receive(stager, "late", 3, 40)
    later = stager.stage(AS_OF + 5 * HOUR, dry_run=dry)
    assert (later["rows"]["kept"], later["late"]) == (2, 2)
    assert known(stager, AS_OF, dry=True) == {1, 2, 30} == known(stager, AS_OF + 4 * HOUR, dry=True)
    assert known(stager, AS_OF + 5 * HOUR, dry=True) == {1, 2, 3, 30, 40}


def test_a_late_file_changes_no_rerun_under_another_policy(stager):
    receive(stager, "a", 1, 2)
    stager.stage(AS_OF)
    decide(stager, AS_OF)
    receive(stager, "late", 3)
    quality = stager.policy.quality.model_copy(update={"trailing_days": 15})
    stager.policy = stager.policy.model_copy(update={"quality": quality})
    assert stager.stage(AS_OF)["late"] == 1
    assert known(stager, AS_OF) == {1, 2}
    assert known(stager, AS_OF + HOUR) == {1, 2, 3}


def test_a_file_that_comes_in_its_time_is_not_late(stager):
    for hours in (5, 4, 3):
        receive(stager, "a", hours + 1)
        assert stager.stage(AS_OF - hours * HOUR)["late"] == 0
        decide(stager, AS_OF - hours * HOUR)
    assert (stager.events()["known_at"] == stager.events()["received_at"]).all()


def test_files_of_two_kinds_in_one_batch_keep_their_own_moments(stager):
    """Under a changed rule an old file is read again beside a late one."""
    receive(stager, "a", 1, 2)
    stager.receive(
        [*(event(n) for n in range(30)), event(99, **NOBODY)],
        name="x.zip",
    )
    stager.stage(AS_OF)
    decide(stager, AS_OF)
    receive(stager, "late", 7)
    events = stager.policy.events.model_copy(update={"group_types": ["team"]})
    stager.policy = stager.policy.model_copy(update={"events": events})
    assert stager.stage(AS_OF + HOUR)["late"] == 1
    held = stager.events().set_index("event_id")
    assert held.loc[event(1007)["uuid"], "known_at"] == AS_OF + HOUR
    assert held.loc[event(99)["uuid"], "known_at"] == held.loc[event(99)["uuid"], "received_at"]
