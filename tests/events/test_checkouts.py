from datetime import timedelta
from functools import partial

import pytest
from onetouch import events
from onetouch.exports import fetch_rows

from tests.events.stager import AS_OF, HOUR
from tests.exports.answers import answer, event, member, packed

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
    def ask(steps, accounts=("acme",), now=NOW, policy=stager.policy):
        members = [(member(moment, n), packed([row])) for n, (moment, row) in enumerate(steps)]
        answer(stager.folder / "a.zip", members)
        fetched = []

        def fetch(source, start, end):
            fetched.append((source, start, end))
            return fetch_rows(source, policy, start, end, folder=stager.folder)

        found = events.fresh_checkouts(stager.lake, policy, stager.run(), accounts, now, fetch)
        assert fetched == [("amplitude", AS_OF - timedelta(hours=policy.events.overlap_hours), now)]
        assert not stager.lake.exists("raw") and not stager.lake.exists("events")
        return found

    return ask


started = partial(step, 1, "checkout_started")


def test_a_checkout_started_after_scoring_is_seen(ask):
    moment = AS_OF + timedelta(minutes=20)
    assert ask([started(moment)]) == {"acme": moment}


def test_one_received_before_scoring_still_counts(ask):
    assert ask([started(AS_OF - 5 * HOUR)]) == {"acme": AS_OF - 5 * HOUR}


@pytest.mark.parametrize("ending", ["checkout_completed", "checkout_abandoned"])
def test_one_that_ended_since_is_not_in_progress(ask, ending):
    assert ask([started(AS_OF - HOUR), step(2, ending, AS_OF)]) == {}


def test_one_begun_again_after_its_end_is(ask):
    steps = [started(AS_OF - 3 * HOUR), step(2, "checkout_abandoned", AS_OF - 2 * HOUR)]
    assert ask([*steps, step(3, "checkout_started", AS_OF - HOUR)]) == {"acme": AS_OF - HOUR}


def test_other_accounts_and_other_events_say_nothing(ask):
    assert ask([started(AS_OF, "other"), step(2, "pricing_viewed", AS_OF)]) == {}


def test_accounts_are_told_apart_as_in_staging(ask):
    moment = AS_OF - HOUR
    by_mail = (moment, step(1, "checkout_started", moment)[1] | {"groups": {}, "user_id": "jo@mail.acme.co.uk"})
    alone = (moment, step(2, "checkout_started", moment)[1] | {"groups": {}, "user_id": "jo@gmail.com"})
    assert ask([by_mail, alone], ["acme.co.uk", "jo@gmail.com", "acme"]) == {
        "acme.co.uk": moment,
        "jo@gmail.com": moment,
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
