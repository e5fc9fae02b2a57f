"""Seeds whose runs also tell the receiver of the audience what changed, and the judge of what the receiver was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from onetouch.connections import Connection
from onetouch.delivery import Webhook
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.sandbox.audience import PATH
from onetouch.stop import WhyStopped
from tenacity import wait_fixed

from judges.faults.process import Process, Scheduler
from judges.faults.wire import BASE, Org, Session
from judges.faults.world import OPTED_OUT, World

SEEDS = (3,)
"""Seeds that have an audience: those with this remainder by sixteen."""

TOLD_ONCE = 16
"""The promise that the receiver is told of each change once; it has no number among the guarantees."""

FAULTS = ("request lost", "answer lost", "answer lost", "delivered twice", "late", "503", "429")
"""What may happen to a request to the receiver."""


def webhook(org: Org, session: Session, scheduler: Scheduler, process: Process, stopped: WhyStopped) -> Webhook:
    """The webhook of one process, whose requests the session carries."""
    return Webhook(
        Connection("audience_default", host=f"{BASE}{PATH}", password=str(org.store.setting("audience_secret"))),
        scheduler.now,
        stopped=stopped,
        wait=wait_fixed(5),
        sleep=lambda seconds: scheduler.sleep(process, seconds),
        passed=lambda: scheduler.now.timestamp(),
        session=session,
    )


class Told:
    """Judges what the receiver was told: by its own memory of requests, and by who is nurtured at the end."""

    def __init__(self, world: World, policy: Policy, violated: Callable[[int, str], None]) -> None:
        self.world, self.policy, self.violated = world, policy, violated
        self.expected: set[str] = set()
        self._last: Run | None = None

    def decided(self, run: Run, actions: Mapping[str, str]) -> None:
        """Records who is in the audience of a run that may send."""
        if run.real and (self._last is None or run.as_of >= self._last.as_of):
            self._last = run
            self.expected = {account for account, action in actions.items() if action in self.policy.audience.actions}

    def final(self) -> None:
        """Judges after the quiet runs: nobody is told twice, nothing contradicts, and everybody is there.

        Who opted out is in no audience, but not every run of the simulator reads who did, so nothing is asked of them.
        """
        state = self.world.org.audience.state()
        for what in state["odd"]:
            self.violated(TOLD_ONCE, f"the receiver was told what contradicts what it knew: {what}")
        parts = Counter((request["run"], request["kind"], request["part"]) for request in state["requests"])
        for (run, kind, part), times in parts.items():
            if times > 1:
                self.violated(TOLD_ONCE, f"{kind}, part {part} of {run}, was told {times} times under keys of its own")
        asked = {account.account_id for account in self.world.accounts if not account.at(OPTED_OUT)}
        there, expected = asked & set(state["members"]), asked & self.expected
        if there != expected:
            lost, more = expected - there, there - expected
            self.violated(TOLD_ONCE, f"the receiver was not told of {sorted(lost)}, nor that {sorted(more)} left")
