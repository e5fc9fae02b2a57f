import random
from datetime import timedelta
from functools import partial

import pandas as pd
import pytest
from onetouch import events
from onetouch.signals import compute
from onetouch.sources import fetch_rows

from tests.events.stager import AS_OF, HOUR
from tests.sources.answers import answer, event, member, packed

NOW = AS_OF + timedelta(minutes=40)


def step(number, name, moment, account="acme", **changes):
    time = f"{moment:%Y-%m-%d %H:%M:%S.%f}"
    return moment, event(
        number,
        event_type=name,
        event_time=time,
        server_upload_time=time,
        groups={"organisation": [account]},
        **changes,
    )


@pytest.fixture
def ask(stager):
    def ask(steps, accounts=("acme",), now=NOW, policy=stager.policy, bought=False, same=None):
        """Account → moment of those in progress, or of those that have bought."""
        members = [(member(moment, n), packed([row])) for n, (moment, row) in enumerate(steps)]
        answer(stager.folder / "a.zip", members)
        fetched, held = [], [*stager.lake.list("raw", ""), *stager.lake.list("events", "")]

        def fetch(source, start, end):
            fetched.append((source, start, end))
            return fetch_rows(source, policy, start, end, folder=stager.folder)

        found = events.fresh_checkouts(stager.lake, policy, stager.run(), accounts, now, fetch, same)
        assert fetched == [("amplitude", AS_OF - timedelta(hours=policy.events.overlap_hours), now)]
        assert [*stager.lake.list("raw", ""), *stager.lake.list("events", "")] == held
        if bought == "by themselves":
            return {account: at for account, checkout in found.items() if (at := checkout.self_serve_at)}
        return {account: checkout.at for account, checkout in found.items() if checkout.bought == bought}

    return ask


started = partial(step, 1, "checkout_started")


def test_a_checkout_started_after_scoring_is_seen(ask):
    moment = AS_OF + timedelta(minutes=20)
    assert ask([started(moment)]) == {"acme": moment}


def test_one_under_another_domain_of_the_company_is_its_own(ask):
    moment = AS_OF + timedelta(minutes=20)
    steps = [started(moment), step(2, "checkout_started", moment + timedelta(minutes=1), "other")]
    later = moment + timedelta(minutes=1)
    assert ask(steps, ("stands",), same={"acme": "stands", "other": "nobody"}) == {"stands": moment}
    assert ask(steps, ("stands",), same={"acme": "stands", "other": "stands"}) == {"stands": later}


def test_one_received_before_scoring_still_counts(ask):
    assert ask([started(AS_OF - 5 * HOUR)]) == {"acme": AS_OF - 5 * HOUR}


@pytest.mark.parametrize("ending", ["checkout_completed", "plan_upgraded"])
def test_one_that_ended_since_is_not_in_progress(ask, ending):
    steps = [started(AS_OF - HOUR), step(2, ending, AS_OF)]
    assert ask(steps) == {}
    assert ask(steps, bought=True) == {"acme": AS_OF}


@pytest.mark.parametrize("ending", ["checkout_completed", "plan_upgraded"])
def test_a_purchase_needs_no_beginning(ask, ending):
    assert ask([step(1, ending, AS_OF)], bought=True) == {"acme": AS_OF}


def test_a_checkout_begun_after_a_purchase_is_in_progress_again(ask):
    steps = [step(1, "checkout_completed", AS_OF - HOUR), step(2, "checkout_started", AS_OF)]
    assert (ask(steps), ask(steps, bought=True)) == ({"acme": AS_OF}, {})


def test_one_begun_again_after_its_end_is(ask):
    steps = [started(AS_OF - 3 * HOUR), step(2, "checkout_abandoned", AS_OF - 2 * HOUR)]
    assert ask([*steps, step(3, "checkout_started", AS_OF - HOUR)]) == {"acme": AS_OF - HOUR}


def test_who_has_just_given_up_may_come_back_by_themselves(ask):
    begun = started(NOW - 26 * HOUR)
    assert ask([begun, step(2, "checkout_abandoned", NOW - 24 * HOUR)]) == {}
    moment = NOW - 24 * HOUR + timedelta(seconds=1)
    assert ask([begun, step(2, "checkout_abandoned", moment)]) == {"acme": moment}
    # Begun before anything read again: the abandonment alone tells of a checkout.
    assert ask([step(2, "checkout_abandoned", moment)]) == {"acme": moment}
    assert ask([begun, step(2, "checkout_abandoned", moment), step(3, "checkout_completed", NOW - HOUR)]) == {}
    # At the very moment of a start it is taken to be before it.
    assert ask([begun, step(2, "checkout_abandoned", NOW - 26 * HOUR)]) == {"acme": NOW - 26 * HOUR}


def test_what_is_in_progress_is_what_the_signals_say_of_the_same_events(ask, stager):
    """Two ways to the same answer: steps around every edge, staged and summed up, and asked again."""
    rng = random.Random(11)
    edges = [0.5, 1, 23, 24, 25, 47, 71, 72, 73, 80]
    names = ["checkout_started", "checkout_started", "checkout_abandoned", "checkout_completed", "plan_upgraded"]
    accounts, steps = [f"a{n}" for n in range(120)], []
    for account in accounts:
        for _ in range(rng.randint(1, 4)):
            at = AS_OF - HOUR * rng.choice(edges) + timedelta(seconds=rng.choice([-1, 0, 1]))
            received = max(at, AS_OF - 40 * HOUR)
            row = step(len(steps), rng.choice(names), received, account)[1]
            steps.append((received, row | {"event_time": f"{at:%Y-%m-%d %H:%M:%S.%f}"}))
    found, bought = ask(steps, accounts, now=AS_OF), ask(steps, accounts, now=AS_OF, bought=True)
    by_themselves = ask(steps, accounts, now=AS_OF, bought="by themselves")
    stager.stage()
    table, _ = compute(stager.lake, stager.policy, pd.DataFrame({"account_id": accounts}), AS_OF)
    signals = table.to_pandas().set_index("account_id")
    assert set(signals["checkout_state"]) == {"none", "started", "stalled", "abandoned", "completed"}
    in_progress = signals[signals["checkout_state"].isin(["started", "stalled"])]
    assert found == in_progress["checkout_at"].to_dict()
    assert 30 < len(found) < 90
    completed = signals.loc[signals["checkout_state"] == "completed", "checkout_at"].to_dict()
    assert completed.items() <= bought.items()
    assert set(signals.loc[signals.index.isin(bought.keys() - completed.keys()), "checkout_state"]) <= {"none"}
    assert len(completed) > 10
    # What was surely bought by the customer itself is what the signals say, unless another checkout is in progress.
    told = signals.loc[~signals.index.isin(found), "bought_at"].dropna().to_dict()
    assert by_themselves == told
    assert len(told) > len(completed)


def test_a_purchase_outlives_a_checkout_that_was_given_up_since(ask, stager):
    paid = AS_OF - 40 * HOUR
    steps = [step(1, "checkout_completed", paid), started(paid + HOUR), step(3, "checkout_abandoned", paid + 2 * HOUR)]
    assert ask(steps) == {}
    assert ask(steps, bought="by themselves") == {"acme": paid}


def test_a_higher_plan_that_was_sold_is_no_purchase_of_their_own(ask):
    steps = [step(1, "plan_upgraded", AS_OF)]
    assert (ask(steps, bought=True), ask(steps, bought="by themselves")) == ({"acme": AS_OF}, {})


def test_other_accounts_and_other_events_say_nothing(ask):
    assert ask([started(AS_OF, "other"), step(2, "pricing_viewed", AS_OF)]) == {}


def test_accounts_are_told_apart_as_in_staging(ask):
    moment = AS_OF - HOUR
    by_mail = (moment, step(1, "checkout_started", moment)[1] | {"groups": {}, "user_id": "jo@mail.acme.co.uk"})
    alone = (moment, step(2, "checkout_started", moment)[1] | {"groups": {}, "user_id": "jo@gmail.com"})
    assert ask([by_mail, alone], ["acme.co.uk", "user:jo@gmail.com", "acme"]) == {
        "acme.co.uk": moment,
        "user:jo@gmail.com": moment,
    }


def test_one_begun_long_ago_but_received_late_was_given_up(ask):
    received, long_ago = AS_OF - HOUR, AS_OF - timedelta(hours=80)
    row = step(1, "checkout_started", received)[1] | {"event_time": f"{long_ago:%Y-%m-%d %H:%M:%S.%f}"}
    assert ask([(received, row)]) == {}


def test_names_are_those_of_the_policy(ask, stager):
    vocabulary = {"Upgrade Clicked": stager.policy.vocabulary["checkout_started"]}
    policy = stager.policy.model_copy(update={"vocabulary": vocabulary})
    assert ask([started(AS_OF), step(2, "Upgrade Clicked", AS_OF)], policy=policy) == {"acme": AS_OF}
    assert ask([started(AS_OF)], policy=policy.model_copy(update={"vocabulary": {}})) == {}


def test_nobody_asked_about_and_nothing_received(ask):
    assert ask([started(AS_OF)], accounts=[]) == {}
    assert ask([]) == {}


def test_a_step_without_a_group_is_its_persons_accounts(ask, stager):
    """What the lake and the events since the run say of persons places it, as it does for the signals."""
    stager.receive([event(1, user_id="u-1", groups={"organisation": ["acme"]}, device_id="d-1"),
                    event(2, user_id="u-2", groups={"organisation": ["beta"]}),
                    event(3, user_id="u-2", groups={"organisation": ["gamma"]})])  # fmt: skip
    stager.stage()
    moment = AS_OF + timedelta(minutes=5)
    joined = step(10, "session_started", moment, "delta", user_id="u-3")

    def ungrouped(number, **who):
        at, row = step(number, "checkout_started", moment, **who)
        return at, row | {"groups": {}}

    steps = [
        ungrouped(11, user_id="u-1"), ungrouped(12, user_id="u-2"), joined, ungrouped(13, user_id="u-3"),
        ungrouped(14, user_id="u-4"),
    ]  # fmt: skip
    accounts = ["acme", "beta", "gamma", "delta", "epsilon", "user:u-1"]
    assert ask(steps, accounts) == dict.fromkeys(["acme", "beta", "gamma", "delta"], moment)
    assert ask([ungrouped(15, user_id=None, device_id="d-1")], accounts) == {"acme": moment}
