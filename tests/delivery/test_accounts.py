"""The standing of everybody: what records tell after runs, crashes, refusals and edits, as the stand-in holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from onetouch.audit import status
from onetouch.crm_sync import our_writes
from onetouch.delivery import DeliveryFailed, write_accounts
from onetouch.ledger import Run

from tests.delivery.world import AS_OF, crm_id

HOUR = timedelta(hours=1)
OURS = ("Onetouch_Score__c", "Onetouch_Tier__c", "Onetouch_Action__c", "Onetouch_Trigger__c", "Onetouch_As_Of__c")
USED = {"last_seen_at": AS_OF + 10 * HOUR}
NOTHING_TO_TELL = dict.fromkeys(
    ("limit_share", "limit_name", "limit_used", "limit_cap", "invites", "pricing_views", "users")
)


def write(world: Any, run: Run, **given: Any) -> dict[str, Any]:
    """The stage, with its summary kept as the pipeline keeps it."""
    held = given.get("held")
    client = None if held else given.get("crm") or world.salesforce()
    try:
        summary = write_accounts(world.lake, world.ledger, world.policy, run, client, held=held)
    except DeliveryFailed as error:
        world.ledger.finish_stage(run.run_id, "write_accounts", error.summary)
        raise
    world.ledger.finish_stage(run.run_id, "write_accounts", summary)
    return summary


def writes(world: Any) -> int:
    """Requests that changed anything in the CRM."""
    return sum(c["n"] for c in world.org.calls() if c["api"] == "salesforce" and c["method"] != "GET")


def told(world: Any, number: int) -> dict[str, Any]:
    row = world.org.account(crm_id(number))
    return {name: row[name] for name in OURS}


def told_all(world: Any, *numbers: int) -> dict[int, dict[str, Any]]:
    return {number: told(world, number) for number in numbers}


def decided(
    world: Any, hours: int, *numbers: int, signals: dict[str, Any] | None = None, dry_run: bool = False, **given: Any
) -> Run:
    run = world.run(AS_OF + hours * HOUR, dry_run=dry_run)
    world.decide(run, *numbers, signals=signals, **({"action": "nurture", "tier": "low", "score": 12.0} | given))
    return run


def test_everybodys_record_tells_tier_action_score_trigger_and_moment(world: Any) -> None:
    world.accounts(1, 2, 3)
    run = decided(world, 0, 1, 2)
    summary = write(world, run)
    assert (
        told(world, 1)
        == told(world, 2)
        == {
            "Onetouch_Score__c": 12.0,
            "Onetouch_Tier__c": "low",
            "Onetouch_Action__c": "nurture",
            "Onetouch_Trigger__c": "at 92 % of the API calls limit (9,200 of 10,000)",
            "Onetouch_As_Of__c": "2025-11-18T10:00:00.000+0000",
        }
    )
    assert set(told(world, 3).values()) == {None}, "the run knows nothing of it"
    counted = {name: summary[name] for name in ("accounts", "unchanged", "written", "gone", "refused", "held")}
    assert counted == {"accounts": 2, "unchanged": 0, "written": 2, "gone": 0, "refused": {}, "held": None}


def test_only_our_own_fields_are_written(world: Any) -> None:
    world.accounts(1, Industry="Mining", Onetouch_Milestones__c="4 of 5", Onetouch_Account_Id__c="another")
    before = world.org.account(crm_id(1))
    write(world, decided(world, 0, 1))
    after = world.org.account(crm_id(1))
    stamps = {"SystemModstamp", "LastModifiedDate", "LastModifiedById"}
    assert {name for name in after if after[name] != before[name]} <= {*OURS, *stamps}


@pytest.mark.parametrize(
    ("changed", "signals", "written"),
    [
        ({}, {}, False),
        ({"tier": "medium"}, {}, True),
        ({"action": "monitor"}, {}, True),
        ({}, {"demo_requests": 1.0}, True),
        ({"score": 16.9}, USED, False),
        ({"score": 17.0}, {}, True),
        ({"score": 7.0}, USED, True),
        ({"score": 7.1}, USED, False),
        ({"score": 1.0}, {}, False),  # nobody has used it since: it has only decayed
        ({"score": 1.0}, {"last_seen_at": AS_OF}, False),
        ({"score": 1.0, "tier": "medium"}, {}, True),
        ({}, {"limit_used": 9_300.0}, False),  # another figure of the same trigger
    ],
)
def test_it_is_written_when_it_changes_and_not_for_decay(
    world: Any, changed: dict[str, Any], signals: dict[str, Any], written: bool
) -> None:
    world.accounts(1)
    write(world, decided(world, 0, 1))
    before = told(world, 1)
    summary = write(world, decided(world, 24, 1, signals=signals, **changed))
    assert summary["written"] == written
    assert (told(world, 1) != before) is written


def test_small_steps_add_up_to_a_change(world: Any) -> None:
    world.accounts(1)
    write(world, decided(world, 0, 1))
    steps = [write(world, decided(world, n, 1, score=12.0 + 2 * n, signals=USED))["written"] for n in (1, 2, 3, 4, 5)]
    assert steps == [0, 0, 1, 0, 0]


def test_a_second_run_and_a_repeated_run_write_nothing(world: Any) -> None:
    world.accounts(*range(1, 8))
    run = decided(world, 0, *range(1, 8))
    first, before = write(world, run), writes(world)
    assert write(world, run) == first, "a repeated run says what its first attempt said"
    assert write(world, decided(world, 1, *range(1, 8)))["written"] == 0
    assert writes(world) == before


def test_a_hold_and_a_dry_run_write_nothing_and_say_how_many_they_would(world: Any) -> None:
    world.accounts(1, 2)
    summary = write(world, decided(world, 0, 1, 2), held="stopped by a person: enough")
    assert (summary["held"], summary["to_write"], summary["written"]) == ("stopped by a person: enough", 2, 0)
    write(world, decided(world, 1, 1, 2, dry_run=True), held="dry run")
    assert set(told(world, 1).values()) == {None}
    assert world.ledger.standings("salesforce").empty


def test_a_run_that_comes_late_changes_nothing_a_later_run_has_told(world: Any) -> None:
    world.accounts(1, 2)
    late, later = decided(world, 0, 1, 2, tier="high"), decided(world, 1, 1)
    write(world, later)
    before = told(world, 1)
    write(world, late)
    assert told(world, 1) == before
    assert told(world, 2)["Onetouch_Tier__c"] == "high"


def test_a_refused_account_is_counted_with_its_reason_and_offered_again_a_day_later(world: Any) -> None:
    world.accounts(1, 2, 3)
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "no"}
    fault = {"match": "composite/sobjects$", "method": "PATCH", "row_error": refusal, "rows": [1]}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="FIELD_CUSTOM_VALIDATION_EXCEPTION") as failed:
        write(world, decided(world, 0, 1, 2, 3))
    assert (failed.value.summary["written"], sum(failed.value.summary["refused"].values())) == (2, 1)
    assert told(world, 2)["Onetouch_Tier__c"] is None
    (row,) = status(world.ledger)["records_refused"]
    assert (row["reason"], row["records"]) == ("FIELD_CUSTOM_VALIDATION_EXCEPTION: no", 1)
    assert row["since"] == AS_OF.isoformat() and row["to_do"].startswith("an admin: let the validation rule")
    # An hour later nothing is tried, a day later the same refusal is known and no reason to be red.
    assert write(world, decided(world, 1, 1, 2, 3))["unchanged"] == 3
    world.org.post("faults", [fault | {"rows": [0]}])
    summary = write(world, decided(world, 24, 1, 2, 3))
    assert (summary["refused"], summary["known"]) == ({"FIELD_CUSTOM_VALIDATION_EXCEPTION: no": 1}, 1)
    summary = write(world, decided(world, 48, 1, 2, 3))
    assert (summary["written"], summary["unchanged"]) == (1, 2)
    assert told(world, 2)["Onetouch_Tier__c"] == "low"
    assert status(world.ledger)["records_refused"] == []


def test_a_locked_account_is_tried_by_the_next_run(world: Any) -> None:
    world.accounts(1)
    locked = {"statusCode": "ENTITY_IS_LOCKED", "message": "an approval"}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "PATCH", "row_error": locked}])
    with pytest.raises(DeliveryFailed, match="ENTITY_IS_LOCKED"):
        write(world, decided(world, 0, 1))
    assert write(world, decided(world, 1, 1))["written"] == 1


def test_a_deleted_account_fails_nothing(world: Any) -> None:
    world.accounts(1, 2)
    world.rep_writes("Account", crm_id(1))
    summary = write(world, decided(world, 0, 1, 2))
    assert (summary["written"], summary["gone"], summary["refused"]) == (1, 1, {})


def test_of_two_product_accounts_of_one_record_the_higher_score_speaks(world: Any) -> None:
    world.accounts(1)
    run = decided(world, 0, 1, 2)
    for room in ("decisions", "signals"):
        rows = world.lake.read(room, f"{run.run_id}.parquet")
        rows["crm_account_id"] = crm_id(1)
        if room == "decisions":
            rows["score"] = [20.0, 30.0]
        world.lake.write(rows, room, f"{run.run_id}.parquet")
    assert write(world, run)["accounts"] == 1
    assert told(world, 1)["Onetouch_Score__c"] == 30.0


def test_killed_anywhere_and_run_again_it_ends_the_same(make_world: Callable[[str], Any]) -> None:
    def two_runs(world: Any, die_at: int | None = None, *, next_hour: bool = False) -> Any:
        """Told once; in the next hour three of five change; it may die, and goes on as itself or an hour on."""
        world.accounts(1, 2, 3, 4, 5)
        write(world, decided(world, 0, 1, 2, 3, 4, 5))
        world.org.clock(AS_OF + HOUR)
        run = decided(world, 1, 1, 2, 3, 4, 5)
        rows = world.lake.read("decisions", f"{run.run_id}.parquet")
        rows.loc[:2, "tier"] = "medium"
        world.lake.write(rows, "decisions", f"{run.run_id}.parquet")
        if next_hour:
            other = decided(world, 2, 1, 2, 3, 4, 5)  # what had changed has changed back
        world.mortal(die_at)
        if die_at is None:
            write(world, run)
            effects = world.effects.count
            world.immortal()
            return effects
        with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
            write(world, run)
        assert type(death.value).__name__ == "Killed"
        world.immortal()
        write(world, other if next_hour else run)
        return None

    def ledger(world: Any) -> Any:
        return world.ledger.dump()["standings"]

    world = make_world("undisturbed")
    effects = two_runs(world)
    undisturbed, standings = told_all(world, 1, 2, 3, 4, 5), ledger(world)
    assert Counter(row["Onetouch_Tier__c"] for row in undisturbed.values()) == {"medium": 3, "low": 2}
    assert effects >= 8
    for die_at in range(1, effects):
        world = make_world(f"killed-{die_at}")
        two_runs(world, die_at)
        assert told_all(world, 1, 2, 3, 4, 5) == undisturbed, f"killed at effect {die_at}"
        assert ledger(world) == standings, f"killed at effect {die_at}"
        world = make_world(f"changed-{die_at}")
        two_runs(world, die_at, next_hour=True)
        tiers = {row["Onetouch_Tier__c"] for row in told_all(world, 1, 2, 3, 4, 5).values()}
        assert tiers == {"low"}, f"killed at effect {die_at}: a record still tells what the dead run has written"


# ── what the next extraction reads ───────────────────────────────────────────────────────────────


def names_read(world: Any, run: Run) -> set[str]:
    """The accounts a run's extraction has asked the CRM for, beyond those its table had already."""
    read: list[dict[str, Any]] = []
    client = world.salesforce()
    accounts = client.read_accounts

    def watched(*args: Any) -> Any:
        for row in accounts(*args):
            read.append(row)
            yield row

    client.read_accounts = watched
    from onetouch.crm_sync import extract_crm

    extract_crm(world.lake, world.ledger, world.policy, run, client)
    return {row["crm_account_id"] for row in read}


def test_our_own_writes_are_no_changes_of_the_crm(world: Any) -> None:
    world.accounts(1, 2, 3, 4, 5)
    first = decided(world, 0, 1, 2, 3, 4, 5)
    assert len(names_read(world, first)) == 5
    world.org.clock(AS_OF + timedelta(minutes=10))
    world.rep_writes("Account", crm_id(4), Industry="Mining")  # before we write it, and not read by the run
    world.org.clock(AS_OF + timedelta(minutes=20))
    summary = write(world, first)
    assert summary["ours"]["unread"] == [crm_id(4)]
    world.org.clock(AS_OF + timedelta(minutes=30))
    world.rep_writes("Account", crm_id(2), Industry="Farming")
    world.org.clock(AS_OF + HOUR)
    second = decided(world, 1, 1, 2, 3, 4, 5, tier="medium")
    assert names_read(world, second) == {crm_id(2), crm_id(4)}
    accounts = world.lake.read("crm", second.run_id, "accounts.parquet").set_index("crm_account_id")
    assert accounts["industry"].dropna().to_dict() == {crm_id(2): "Farming", crm_id(4): "Mining"}
    write(world, second)
    world.org.clock(AS_OF + 2 * HOUR)
    assert names_read(world, decided(world, 2, 1, 2, 3, 4, 5)) == {crm_id(4)}, "one by one for as long as it may change"


def test_what_a_repeated_run_says_of_its_writes_stays_what_the_first_attempt_said(world: Any) -> None:
    world.accounts(1, 2)
    run = decided(world, 0, 1, 2)
    ours = write(world, run)["ours"]
    world.org.clock(AS_OF + HOUR)
    world.rep_writes("Account", crm_id(2), Industry="Farming")
    assert write(world, run)["ours"] == ours
    assert our_writes(world.ledger, AS_OF).until == {AS_OF: AS_OF}


def test_a_great_many_changes_by_others_are_all_read(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetouch.delivery.accounts._UNREAD", 1)
    world.accounts(1, 2, 3)
    run = decided(world, 0, 1, 2, 3)
    for number in (1, 2):
        world.rep_writes("Account", crm_id(number), Industry="Farming")
    assert write(world, run)["ours"] is None
