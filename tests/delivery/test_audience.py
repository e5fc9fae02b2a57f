"""The audience: who is in it, and what a strict receiver knows after runs, crashes, refusals and opt-outs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
import requests
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.consent import LISTED
from onetouch.delivery import DeliveryFailed, Webhook, send_audience
from onetouch.ledger import Ledger, Run
from onetouch.policy import FOR_CUSTOMER
from onetouch.stop import Stopped
from tenacity import wait_none

from tests.delivery.world import AS_OF, MortalSession

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECRET = "sandbox-audience-secret"


def webhook(world: Any, at: Any = AS_OF, **given: Any) -> Webhook:
    session = MortalSession()
    session.effects = world.effects if world.ledger.effects else None
    address = given.pop("address", f"{world.org.url}/hooks/audience")
    connection = Connection("audience_default", host=address, password=given.pop("secret", SECRET))
    calm: dict[str, Any] = {"wait": wait_none(), "sleep": lambda _: None, "passed": lambda: 0.0, "session": session}
    return Webhook(connection, at, **(calm | given))


def send(world: Any, run: Run, **given: Any) -> dict[str, Any]:
    held = given.pop("held", None)
    world.org.clock(run.as_of)
    hook = None if held else webhook(world, run.as_of, **given)
    return send_audience(world.lake, world.ledger, world.policy, run, hook, held=held)


def receiver(world: Any) -> dict[str, Any]:
    return requests.get(f"{world.org.url}/_sandbox/audience", timeout=10).json()


def decided(world: Any, hours: float, actions: dict[int, str], *, dry_run: bool = False, **signals: Any) -> Run:
    """A run with these accounts and actions; the tier is low."""
    run = world.run(AS_OF + hours * HOUR, dry_run=dry_run)
    world.decide(run, *actions, signals=signals, tier="low")
    rows = world.lake.read("decisions", f"{run.run_id}.parquet")
    rows["action"] = list(actions.values())
    world.lake.write(rows, "decisions", f"{run.run_id}.parquet")
    return run


def people(world: Any, run: Run, *rows: tuple[str, str, str]) -> None:
    """(account, address, name) of people."""
    columns = ["account_id", "user_id", "name", "email", "title"]
    frame = pd.DataFrame([(a, email, name, email, "Admin") for a, email, name in rows], columns=columns)
    world.lake.write(frame, "people", f"{run.run_id}.parquet")


def opted_out(world: Any, run: Run, *emails: str) -> None:
    rows = [(f"c{i}", None, email, False, True) for i, email in enumerate(emails)]
    columns = ["contact_id", "crm_account_id", "email", "do_not_call", "email_opt_out"]
    world.lake.write(pd.DataFrame(rows, columns=columns), "crm", run.run_id, "contacts.parquet")


NURTURED = {1: "nurture", 2: "self_serve_onboarding", 3: "sales_now", 4: "hold_touched", 5: "self_serve_hero"}


# ── who is in it ─────────────────────────────────────────────────────────────────────────────────


def test_the_file_of_a_run_holds_nurture_and_onboarding_with_people_situation_and_facts(world: Any) -> None:
    run = decided(world, 0, NURTURED, pricing_views=3.0, pricing_views_at=AS_OF - DAY)
    people(world, run, ("org-1", "Ann@c1.example", "Ann"), ("org-1", "bob@c1.example", "Bob"))
    summary = send(world, run, held="dry run")
    rows = world.lake.read("audience", f"{run.run_id}.parquet").set_index("account_id")
    assert rows["audience"].to_dict() == {"org-1": "nurture", "org-2": "onboarding"}
    assert (summary["accounts"], summary["by_audience"]) == (2, {"nurture": 1, "onboarding": 1})
    assert json.loads(rows.loc["org-1", "people"]) == [
        {"email": "Ann@c1.example", "name": "Ann", "title": "Admin"},
        {"email": "bob@c1.example", "name": "Bob", "title": "Admin"},
    ]
    facts = json.loads(rows.loc["org-1", "facts"])
    assert facts.keys() <= set(FOR_CUSTOMER), "what a customer would rather not be known for goes to nobody"
    assert (facts["users"], facts["limit_cap"], facts["features_used"]) == (7, 10_000, ["dashboards", "alerts"])
    assert rows.loc["org-1", "situation"]
    assert receiver(world)["requests"] == [], "a dry run tells nobody"
    assert world.ledger.audience() == {}


@pytest.mark.parametrize("tier", ["low", "medium"])
def test_low_and_medium_join_by_policy_but_nobody_sales_has_or_holds(world: Any, tier: str) -> None:
    world.policy = world.policy.changed(audience__tiers=[tier])
    actions = NURTURED | {6: "monitor", 7: "hold_never_contact", 8: "hold_holdout", 9: "hold_cooldown"}
    run = decided(world, 0, actions)
    rows = world.lake.read("decisions", f"{run.run_id}.parquet")
    world.lake.write(rows.assign(tier=tier), "decisions", f"{run.run_id}.parquet")
    send(world, run)
    told = {account: entry["audience"] for account, entry in receiver(world)["members"].items()}
    assert told == {"org-1": "nurture", "org-2": "onboarding", "org-5": tier, "org-6": tier}


def test_who_opted_out_of_email_is_in_no_audience(world: Any) -> None:
    run = decided(world, 0, {1: "nurture", 2: "nurture", 3: "nurture"})
    named = [("org-1", "ann@c1.example", "Ann"), ("org-1", "bob@c1.example", "Bob"), ("org-2", "cid@c2.example", "Cid")]
    people(world, run, *named)
    opted_out(world, run, "Bob@C1.example", "cid@c2.example")
    send(world, run)
    told = {a: [p["email"] for p in entry["people"]] for a, entry in receiver(world)["members"].items()}
    assert told == {"org-1": ["ann@c1.example"], "org-3": []}, "of org-2 nobody is left to write to"
    # An opt-out that comes later is told at once.
    later = decided(world, 1, {1: "nurture", 2: "nurture", 3: "nurture"})
    people(world, later, *named)
    opted_out(world, later, "ann@c1.example", "bob@c1.example", "cid@c2.example")
    send(world, later)
    assert set(receiver(world)["members"]) == {"org-3"}


@pytest.mark.parametrize(
    ("never", "told"),
    [
        ({"domains": ["company1.example"]}, {"org-2": ["cid@c2.example"]}),
        ({"accounts": ["org-2"]}, {"org-1": ["ann@c1.example", "bob@c1.example"]}),
        ({"people": ["Bob@c1.example", "cid@c2.example"]}, {"org-1": ["ann@c1.example"]}),
    ],
)
def test_who_is_listed_is_in_no_audience(world: Any, never: dict[str, Any], told: dict[str, list[str]]) -> None:
    run = decided(world, 0, {1: "nurture", 2: "nurture"})
    named = [("org-1", "ann@c1.example", "Ann"), ("org-1", "bob@c1.example", "Bob"), ("org-2", "cid@c2.example", "Cid")]
    people(world, run, *named)
    world.policy = world.policy.changed(**{f"never_contact__{name}": entries for name, entries in never.items()})
    send(world, run)
    assert {a: [p["email"] for p in e["people"]] for a, e in receiver(world)["members"].items()} == told


def test_the_file_of_the_list_is_read_anew_right_before_sending(world: Any) -> None:
    run = decided(world, 0, {1: "nurture", 2: "nurture"})
    rows = [("domain", "company1.example", "", 1)]
    listed = pd.DataFrame(rows, columns=["kind", "entry", "reason", "line"])
    world.org.clock(run.as_of)
    send_audience(
        world.lake, world.ledger, world.policy, run, webhook(world), listed=lambda: listed.astype(LISTED), held=None
    )
    assert set(receiver(world)["members"]) == {"org-2"}


def test_whose_opt_out_the_crm_does_not_show_is_not_written_to(world: Any) -> None:
    run = decided(world, 0, {1: "nurture"})
    people(world, run, ("org-1", "ann@c1.example", "Ann"), ("org-1", "bob@c1.example", "Bob"))
    rows = pd.DataFrame({"contact_id": ["c1"], "crm_account_id": [None], "email": ["bob@c1.example"]})
    world.lake.write(
        rows.assign(do_not_call=False, email_opt_out=pd.array([None], "boolean")),
        "crm", run.run_id, "contacts.parquet",
    )  # fmt: skip
    send(world, run)
    assert [p["email"] for p in receiver(world)["members"]["org-1"]["people"]] == ["ann@c1.example"]


# ── what the receiver is told ────────────────────────────────────────────────────────────────────


def test_only_changes_are_told(world: Any) -> None:
    send(world, decided(world, 0, {1: "nurture", 2: "nurture", 3: "self_serve_onboarding"}))
    assert set(receiver(world)["members"]) == {"org-1", "org-2", "org-3"}
    assert send(world, decided(world, 1, {1: "nurture", 2: "nurture", 3: "self_serve_onboarding"}))["requests"] == 0
    changed = {1: "nurture", 2: "sales_now", 3: "nurture", 4: "nurture"}
    summary = send(world, decided(world, 2, changed))
    assert summary["changes"] == {"changed": 1, "joined": 1, "left": 1}
    state = receiver(world)
    assert {a: e["audience"] for a, e in state["members"].items()} == dict.fromkeys(
        ("org-1", "org-3", "org-4"), "nurture"
    )
    assert [(r["kind"], r["accounts"], r["times"]) for r in state["requests"]] == [
        ("everybody", 3, 1),
        ("changes", 3, 1),
    ]
    assert state["odd"] == []


def test_facts_alone_are_told_after_their_hours_and_a_situation_at_once(world: Any) -> None:
    send(world, decided(world, 0, {1: "nurture"}))
    assert send(world, decided(world, 1, {1: "nurture"}, limit_used=9_300.0))["requests"] == 0
    assert send(world, decided(world, 2, {1: "nurture"}, demo_requests=1.0))["changes"] == {"changed": 1}
    assert send(world, decided(world, 25, {1: "nurture"}, demo_requests=1.0, limit_used=9_400.0))["requests"] == 0
    assert send(world, decided(world, 26, {1: "nurture"}, demo_requests=1.0, limit_used=9_400.0))["requests"] == 1
    assert receiver(world)["members"]["org-1"]["facts"]["limit_used"] == 9_400


def test_everybody_is_told_anew_after_the_policys_days_and_who_is_not_named_has_left(world: Any) -> None:
    world.policy = world.policy.changed(audience__batch=2)
    send(world, decided(world, 0, dict.fromkeys(range(1, 6), "nurture")))
    late = decided(world, 24 * 7, dict.fromkeys(range(1, 5), "nurture"))
    summary = send(world, late)
    assert (summary["in_full"], summary["requests"]) == (True, 2)
    state = receiver(world)
    assert set(state["members"]) == {"org-1", "org-2", "org-3", "org-4"}
    assert {a for a, e in state["members"].items() if e["audience"] != "nurture"} == set()
    assert send(world, decided(world, 24 * 7 + 1, dict.fromkeys(range(1, 5), "nurture")))["requests"] == 0


def test_a_run_that_comes_after_a_later_one_tells_nothing(world: Any) -> None:
    early = decided(world, 0, {1: "nurture", 2: "nurture"})
    send(world, decided(world, 1, {1: "nurture"}))
    assert send(world, early)["requests"] == 0  # of this run
    assert set(receiver(world)["members"]) == {"org-1"}


def test_an_audience_that_is_switched_off_says_goodbye(world: Any) -> None:
    send(world, decided(world, 0, {1: "nurture", 2: "nurture"}))
    world.policy = world.policy.changed(audience__actions=[])
    send(world, decided(world, 1, {1: "nurture", 2: "nurture"}))
    assert receiver(world)["members"] == {}


# ── exactly once ─────────────────────────────────────────────────────────────────────────────────


def test_killed_anywhere_and_run_again_the_receiver_cannot_tell(make_world: Callable[[str], Any]) -> None:
    def hours(world: Any, die_at: int | None) -> Any:
        """Two hours; in the second, which may die, one account joins, one leaves and one changes, in two requests."""
        world.policy = world.policy.changed(audience__batch=2)
        send(world, decided(world, 0, {1: "nurture", 2: "nurture", 3: "nurture"}))
        run = decided(world, 1, {1: "nurture", 2: "self_serve_onboarding", 4: "nurture"})
        world.mortal(die_at)
        if die_at is None:
            send(world, run)
        else:
            with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
                send(world, run)
            assert type(death.value).__name__ == "Killed"
        effects = world.effects.count
        world.immortal()
        if die_at is not None:
            send(world, run)
        return effects

    def seen(world: Any) -> Any:
        told = receiver(world)
        requests_ = [(r["key"], r["kind"], r["part"], r["accounts"]) for r in told["requests"]]
        outbox = [{k: v for k, v in row.items() if k != "attempts"} for row in world.ledger.dump()["outbox"]]
        outbox.sort(key=lambda row: row["key"])
        return told["members"], requests_, told["odd"], outbox, world.ledger.dump()["audience"]

    world = make_world("undisturbed")
    effects = hours(world, None)
    undisturbed = seen(world)
    assert len(undisturbed[1]) == 4
    assert undisturbed[2] == []
    assert effects >= 10
    for die_at in range(1, effects):
        world = make_world(f"killed-{die_at}")
        hours(world, die_at)
        assert seen(world) == undisturbed, f"killed at effect {die_at}"


@pytest.mark.parametrize("fault", [{"drop": "answer"}, {"drop": "request"}, {"status": 503, "body": "busy"}])
def test_a_lost_answer_is_waited_out_and_told_once(world: Any, fault: dict[str, Any]) -> None:
    world.org.post("faults", [{"match": "/hooks/", "times": 2} | fault])
    assert send(world, decided(world, 0, {1: "nurture"}))["sent"] == 1
    state = receiver(world)
    assert set(state["members"]) == {"org-1"}
    assert (len(state["requests"]), state["odd"]) == (1, [])


def test_what_cannot_be_sent_now_waits_in_its_order(world: Any) -> None:
    world.org.post("faults", [{"match": "/hooks/", "times": 5, "status": 503, "body": "busy"}])
    with pytest.raises(DeliveryFailed, match="503"):
        send(world, decided(world, 0, {1: "nurture", 2: "nurture"}))
    send(world, decided(world, 1, {1: "nurture", 3: "nurture"}))
    state = receiver(world)
    assert set(state["members"]) == {"org-1", "org-3"}
    assert [r["kind"] for r in state["requests"]] == ["everybody", "changes"]
    assert state["odd"] == []


def test_a_refused_request_is_listed_and_never_lost(world: Any) -> None:
    world.org.post("faults", [{"match": "/hooks/", "times": 1, "status": 400, "body": "no"}])
    with pytest.raises(DeliveryFailed, match="HTTP_400") as failed:
        send(world, decided(world, 0, {1: "nurture"}))
    (refused,) = failed.value.summary["refused"]
    assert [row.key for row in world.ledger.unsent()] == [refused["key"]]
    send(world, decided(world, 1, {1: "nurture", 2: "nurture"}))
    assert set(receiver(world)["members"]) == {"org-2"}
    world.ledger.retry([refused["key"]])
    send(world, decided(world, 2, {1: "nurture", 2: "nurture"}))
    assert set(receiver(world)["members"]) == {"org-1", "org-2"}


def test_a_stop_comes_between_two_requests_and_loses_none(world: Any) -> None:
    world.policy = world.policy.changed(audience__batch=1)
    asked = iter([None, None, "enough"])
    with pytest.raises(Stopped):
        send(world, decided(world, 0, {1: "nurture", 2: "nurture", 3: "nurture"}), stopped=lambda: next(asked))
    assert len(receiver(world)["requests"]) == 2
    send(world, decided(world, 1, {1: "nurture", 2: "nurture", 3: "nurture"}))
    state = receiver(world)
    assert (set(state["members"]), state["odd"]) == ({"org-1", "org-2", "org-3"}, [])
    assert [r["times"] for r in state["requests"]] == [1, 1, 1]


# ── signature and address ────────────────────────────────────────────────────────────────────────


def test_a_wrong_secret_or_clock_is_refused_and_named_and_nothing_is_lost(world: Any) -> None:
    run = decided(world, 0, {1: "nurture"})
    with pytest.raises(DeliveryFailed, match="401.*secret"):
        send(world, run, secret="another secret, long enough")
    with pytest.raises(DeliveryFailed, match="401"):
        send(world, run, passed=iter([0.0, 301.0, 301.0]).__next__)
    assert receiver(world)["members"] == {}
    send(world, run, passed=iter([0.0, 299.0]).__next__)
    assert set(receiver(world)["members"]) == {"org-1"}


@pytest.mark.parametrize(
    ("address", "secret", "wrong"),
    [
        ("http://hooks.example/audience", SECRET, "not encrypted"),
        ("https://user:word@hooks.example/audience", SECRET, "user and password"),
        ("", SECRET, "host is missing"),
        ("https://hooks.example/audience", "short", "password is missing or short"),
        ("https://hooks.example/audience", None, "password is missing or short"),
    ],
)
def test_an_address_without_tls_or_a_weak_secret_is_refused(address: str, secret: str | None, wrong: str) -> None:
    with pytest.raises(ConnectionConfigError, match=wrong):
        Webhook(Connection("audience_default", host=address, password=secret), AS_OF)


# ── planted bugs: what the tests above would see ─────────────────────────────────────────────────


def what_is_wrong(world: Any) -> list[str]:
    """How the receiver could tell that something went wrong."""
    state = receiver(world)
    told = [f"{change} contradicts what came before" for change in state["odd"]]
    return told + [f"{r['kind']} part {r['part']} of {r['run']} twice" for r in twice(state["requests"])]


def twice(requests_: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: set[tuple[str, str, int]] = set()
    return [r for r in requests_ if (key := (r["run"], r["kind"], r["part"])) in seen or seen.add(key)]


def lived(world: Any, monkeypatch: pytest.MonkeyPatch, bug: str | None) -> list[str]:
    """Two hours with a lost answer and, in the second, a death at each of its first effects, under a planted bug."""
    if bug == "a key of its own for each attempt":
        keys = iter(range(1_000))
        whole = Webhook._once
        monkeypatch.setattr(Webhook, "_once", lambda self, key, body: whole(self, f"{key}-{next(keys)}", body))
    if bug == "the receiver's state is kept after the sending":
        tell = Ledger.tell_audience

        def only_requests(self: Any, *given: Any, **how: Any) -> None:
            tell(self, *given[:3], {}, [], **how)  # a process that dies now has forgotten whom it told of

        monkeypatch.setattr(Ledger, "tell_audience", only_requests)
    world.org.post("faults", [{"match": "/hooks/", "times": 1, "drop": "answer"}])
    send(world, decided(world, 0, {1: "nurture", 2: "nurture"}))
    later = decided(world, 1, {1: "nurture", 2: "self_serve_onboarding", 3: "nurture"})
    for die_at in range(1, 9):
        world.mortal(die_at)
        try:
            send(world, later)
        except BaseException as death:
            assert type(death).__name__ == "Killed"
        world.immortal()
    send(world, later)
    return what_is_wrong(world)


@pytest.mark.parametrize(
    "bug", [None, "a key of its own for each attempt", "the receiver's state is kept after the sending"]
)
def test_an_audience_that_is_sent_twice_is_seen(world: Any, monkeypatch: pytest.MonkeyPatch, bug: str | None) -> None:
    assert bool(lived(world, monkeypatch, bug)) is (bug is not None)
