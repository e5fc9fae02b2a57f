"""The buttons of an alert: the first press of the rep who has the task counts, and the CRM's task says the same."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import pytest
import requests
import uvicorn
from onetouch.chat.slack import Slack
from onetouch.connections import Connection
from onetouch.console import PATH, Presses
from onetouch.delivery import alert_reps
from onetouch.sandbox.slack import user_id

from tests.delivery.test_escalate import AS_OF, DUE, HOUR, decided, hour, rules, shown
from tests.delivery.world import OTHER, OWNER, Killed

SECRET = "a-signing-secret"
RITA, OTTO = user_id("rita@rep.example"), user_id("otto@rep.example")


class Office:
    """A company whose Slack has a signing secret, and the address where its presses arrive."""

    def __init__(self, world: Any, url: str) -> None:
        self.world, self.url = world, url
        self.policy, self.ledger = world.policy, world.ledger
        self.now = AS_OF + HOUR

    def stopped(self) -> str | None:
        return None

    def required_connection(self, conn_id: str) -> Connection:
        assert conn_id == "slack_default"
        extra = {"base_url": f"{self.world.org.url}/api/", "signing_secret": SECRET}
        return Connection(conn_id, password="xoxb-sandbox", extra=extra)

    def slack(self, sleep: Any = None) -> Slack:
        return Slack(self.required_connection("slack_default"), sleep=lambda _: None)

    def presses(self, button: str, user: str = RITA, number: int = 0, **more: Any) -> dict[str, Any]:
        """Somebody presses a button of an alert; gives the HTTP status that Slack was answered with."""
        posts = [post for post in self.world.org.posts() if post["thread_ts"] is None]
        post = posts[number]
        given = {"channel": post["channel"], "ts": post["ts"], "user": user, "action_id": f"onetouch_{button}"}
        given |= {"url": self.url, "secret": SECRET} | more
        self.world.org.clock(self.now)
        answer = requests.post(f"{self.world.org.url}/_sandbox/press", json=given, timeout=10)
        assert answer.ok, answer.text
        return dict(answer.json())

    def told(self) -> list[str]:
        """What those who pressed were told alone."""
        return [said["text"] for said in self.world.org.state()["told"]]


@contextmanager
def served(app: Any) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    thread = Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def office(world: Any) -> Iterator[Office]:
    rules(world, None)
    office = Office(world, "")
    world.slack = office.slack
    with served(Presses(lambda: office, lambda: office.now)) as url:
        office.url = url
        yield office


def given(world: Any, *numbers: int) -> None:
    world.accounts(*numbers)
    world.org.clock(AS_OF)
    run = world.run()
    world.decide(run, *numbers, due_at=DUE)
    world.deliver(run)
    alert_reps(world.lake, world.ledger, world.policy, run, world.slack(), now=run.as_of, held=None)


def elements(post: dict[str, Any]) -> list[str]:
    return [e["text"]["text"] for block in post["blocks"] if block["type"] == "actions" for e in block["elements"]]


def test_only_where_a_secret_is_set_there_are_buttons(office: Office) -> None:
    world = office.world
    given(world, 1)
    (post,) = world.org.posts()
    assert elements(post) == ["Done", "Snooze", "Not now", "Would have bought anyway"]
    world.slack = lambda sleep=None: Slack(
        Connection("slack_default", password="xoxb-sandbox", extra={"base_url": f"{world.org.url}/api/"})
    )
    run = world.run(AS_OF + HOUR)
    world.accounts(2)
    world.decide(run, 2, due_at=DUE)
    world.deliver(run)
    alert_reps(world.lake, world.ledger, world.policy, run, world.slack(), now=run.as_of, held=None)
    assert elements(world.org.posts()[-1]) == []


@pytest.mark.parametrize(
    ("button", "disposition"),
    [("done", None), ("not_now", "Not now"), ("anyway", "Would have bought anyway")],
)
def test_a_press_is_said_at_once_and_done_in_the_crm_by_the_next_run(
    office: Office, button: str, disposition: str | None
) -> None:
    world = office.world
    given(world, 1)
    assert office.presses(button)["status"] == 200
    (post,) = world.org.posts()
    assert elements(post) == []
    assert f"{disposition or 'Done'}, says @" in shown(post)
    (row,) = [row for row in world.ledger.outbox() if row.kind == "press"]
    assert (row.payload["by"], row.payload["at"]) == (RITA, office.now.isoformat())
    hour(world, AS_OF + 2 * HOUR, 1)
    task = world.task(1)
    assert (task["Status"], task["Onetouch_Disposition__c"]) == ("Completed", disposition)
    hour(world, AS_OF + 3 * HOUR, 1)
    assert world.handoff(1).state == "touched"
    touches = world.ledger.touches(["org-1"])
    assert [None if noted != noted else noted for noted in touches["disposition"]] == [disposition]
    (post,) = world.org.posts()
    assert "Contacted" in shown(post)


def test_a_second_press_and_the_same_one_again_change_nothing(office: Office) -> None:
    world = office.world
    given(world, 1)
    # Two people look at the same message: the second one's screen still has the buttons.
    before = world.org.sql
    (post,) = world.org.posts()
    first = office.presses("done")
    blocks = json.dumps(post["blocks"])
    before("UPDATE message SET blocks = ? WHERE ts = ?", blocks, post["ts"])
    assert office.presses("done", trigger_id=first["trigger_id"])["status"] == 200  # Slack sends it once more
    assert office.told() == []
    before("UPDATE message SET blocks = ? WHERE ts = ?", blocks, post["ts"])
    assert office.presses("not_now")["status"] == 200
    assert office.told() == ["Nothing was changed: 'Done' was pressed before."]
    assert len([row for row in world.ledger.outbox() if row.kind == "press"]) == 1
    hour(world, AS_OF + 2 * HOUR, 1)
    assert world.task(1)["Onetouch_Disposition__c"] is None


def test_somebody_else_is_told_politely_and_nothing_happens(office: Office) -> None:
    given(office.world, 1)
    assert office.presses("done", user=OTTO)["status"] == 200
    assert office.told()[0].startswith("Nothing was changed: only the rep who has this task")
    assert [row for row in office.world.ledger.outbox() if row.kind == "press"] == []
    assert elements(office.world.org.posts()[0]) != []


def test_a_handoff_that_is_over_or_unknown_says_so(office: Office) -> None:
    world = office.world
    given(world, 1)
    world.ledger.move(world.handoff(1).handoff_id, "withdrawn", AS_OF + HOUR, "checkout: started")
    office.presses("done")
    assert office.told() == ["Nothing was changed: this task is over or was done already (withdrawn)."]
    world.org.sql("UPDATE message SET blocks = replace(blocks, ?, 'nobody')", world.handoff(1).handoff_id)
    office.presses("done")
    assert office.told()[-1] == "This task is not known here any more."


@pytest.mark.parametrize("wrong", [{"secret": "another"}, {"age": 301}, {"age": -301}])
def test_what_slack_has_not_signed_or_signed_too_long_ago_is_refused(office: Office, wrong: dict[str, Any]) -> None:
    given(office.world, 1)
    assert office.presses("done", **wrong)["status"] == 401
    assert [row for row in office.world.ledger.outbox() if row.kind == "press"] == []


@pytest.mark.parametrize(
    "headers", [{}, {"X-Slack-Request-Timestamp": "soon", "X-Slack-Signature": "v0=0"}, {"X-Slack-Signature": "v0=é"}]
)
def test_other_requests_get_nowhere(office: Office, headers: dict[str, str]) -> None:
    send = {name: value.encode() for name, value in headers.items()}
    assert requests.post(office.url, b"payload={}", headers=send, timeout=10).status_code == 401
    assert requests.get(office.url, timeout=10).status_code == 404
    assert requests.post(f"{office.url}/more", b"", timeout=10).status_code == 404
    assert requests.post(office.url, b"x" * 300_000, timeout=10).status_code == 413


def test_snooze_puts_off_the_reminder_and_nothing_else(office: Office) -> None:
    world = office.world
    given(world, 1)
    office.now = DUE - HOUR
    office.presses("snooze")
    office.presses("snooze")
    assert office.told() == ["You are not reminded before Tue 18 Nov, 19:00 UTC. The task stays due when it was."] * 2
    assert len([row for row in world.ledger.outbox() if row.kind == "snooze"]) == 1
    for at, reminders in ((DUE, 0), (DUE + 2 * HOUR, 0), (DUE + 3 * HOUR, 1)):
        hour(world, at, 1)
        assert len([post for post in world.org.posts() if post["thread_ts"] not in (None, post["ts"])]) == reminders
    assert world.task(1)["Status"] == "Not Started"


def test_what_the_rep_has_done_in_the_crm_meanwhile_stands(office: Office) -> None:
    world = office.world
    given(world, 1)
    office.presses("not_now")
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", Onetouch_Disposition__c="Good")
    run = world.run(AS_OF + 2 * HOUR)
    decided(world, run, 1)
    world.deliver(run)
    assert world.task(1)["Onetouch_Disposition__c"] == "Good"


def test_dying_at_any_moment_does_each_task_once(office: Office) -> None:
    world = office.world
    given(world, *range(1, 9))
    for number in range(8):
        office.presses("not_now", number=number)
    run = world.run(AS_OF + 2 * HOUR)
    decided(world, run, 1)
    for die_at in range(1, 13):
        world.mortal(die_at)
        with suppress(Killed):
            world.deliver(run)
        world.immortal()
    world.deliver(run)
    tasks = world.org.tasks()
    ends = {(task["Status"], task["Onetouch_Disposition__c"], task["OwnerId"]) for task in tasks}
    assert (len(tasks), ends) == (8, {("Completed", "Not now", OWNER)})
    assert {row.state for row in world.ledger.outbox() if row.kind == "press"} == {"sent"}


def test_a_hostile_name_stays_text_beside_buttons(office: Office) -> None:
    world = office.world
    world.accounts(1)
    world.org.clock(AS_OF)
    run = world.run()
    name = "<!channel> `x` *b* <https://evil.example|here> @everyone"
    world.decide(run, 1, due_at=DUE, signals={"name": name})
    world.deliver(run)
    alert_reps(world.lake, world.ledger, world.policy, run, world.slack(), now=run.as_of, held=None)
    office.presses("done")
    (post,) = world.org.posts()
    assert post["notifies"] == []
    assert "&lt;!channel&gt;" in post["text"]
    assert not [block for block in post["blocks"] if "mrkdwn" in str(block)]


def test_a_task_given_on_can_be_pressed_by_who_has_it_now(office: Office) -> None:
    world = office.world
    given(world, 1)
    world.ledger.reassign(world.handoff(1).handoff_id, OTHER, "otto@rep.example")
    office.presses("done", user=RITA)
    assert office.told()[0].startswith("Nothing was changed")
    office.presses("done", user=OTTO)
    assert [row.payload["by"] for row in world.ledger.outbox() if row.kind == "press"] == [OTTO]


def test_of_two_announcements_only_the_new_owners_has_buttons(office: Office) -> None:
    world = office.world
    given(world, 1)
    world.org.sql("UPDATE User SET IsActive = 0 WHERE Id = ?", OWNER)
    for later in (5, 6):
        hour(world, AS_OF + later * HOUR, 1)
    first, again = [post for post in world.org.posts() if post["thread_ts"] is None]
    assert elements(first) == []
    assert "due" not in shown(first)
    assert elements(again) == ["Done", "Snooze", "Not now", "Would have bought anyway"]
    office.presses("done", user=OTTO, number=1)
    assert "Done, says @" in shown(world.org.posts()[-1])


def test_an_answer_goes_only_to_slack(office: Office) -> None:
    from onetouch.chat import ChatError, Press

    press = Press("done", "h", RITA, "t", "https://evil.example/collect")
    with pytest.raises(ChatError, match="not Slack's"):
        office.slack().answer(press, "no")
    office.slack().answer(press._replace(answer_to=""), "nothing to say")
    assert office.told() == []
