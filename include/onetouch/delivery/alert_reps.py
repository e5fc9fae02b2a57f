"""Announces each new task to its owner in the chat, once, and updates the announcement as the task changes.

What is new of the account afterwards is a reply in the thread of the announcement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from onetouch.catalogue import SIGNALS_BY_NAME
from onetouch.chat import Chat, ChatError, Message, Place, post_once
from onetouch.crm import Thing
from onetouch.crm_sync import timezones
from onetouch.delivery.alert_message import UNKNOWN, Told, digest, erased, now_with, one, payload_of, reply
from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.leavers import has_left, known_reps
from onetouch.delivery.presses import PRESS, SNOOZE, buttons, put_off, said
from onetouch.handoff import Alert, alert, near_moment, zone
from onetouch.lake import Lake, rows_where
from onetouch.ledger import ALERT_LINK, ESCALATION, PSEUDONYM, REASSIGNMENT, Handoff, Ledger, Outbox, Run
from onetouch.policy import NEXT_REP, Policy

_FOLLOWED = timedelta(days=30)
"""Ours: how long after the end of a handoff its message is still updated."""

_BEGUN = ("pending", "sending")

_HANDED_ON = {
    "late": "not contacted in time.",
    "left": "its owner is no longer active in the CRM.",
    "away": "its owner is away.",
    "territory": "the account belongs to another territory now.",
}
"""Why a task has gone to somebody else (`leavers.Because`; late: it was escalated) → how its former owner is told."""

Page = Callable[[Thing, str], str | None]
"""A thing and its id in the CRM → where people open it (`Crm.page`)."""


def no_page(thing: Thing, record_id: str) -> None:
    """The CRM is not known."""


_WITH_THE_REP = ("task_open", "touched")
"""States in which the owner is told what is new of the account."""

_LEFT_BEHIND = (
    "contacted by a rep who is no longer active in the CRM. It stays as it is: give the record to somebody who goes on."
)


def alert_reps(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    chat: Chat | None,
    *,
    now: datetime,
    held: str | None,
    page: Page = no_page,
) -> dict[str, Any]:
    """Announces every open task that was not announced yet, and updates earlier announcements whose task has changed.

    An alert goes to the alerts channel, to the owner as a direct message, or to both (`slack.alerts_to`); when the
    chat does not know the owner, it goes to the channel. More than `slack.digest_above` new tasks become one message
    a channel. During the rep's quiet hours, in the rep's time zone at `now`, an alert waits; if its task ends
    meanwhile, it is dropped. Alerts are ordered by due time, then account.

    The owner of an open or touched handoff is told of the account's trigger events since the decision, in the thread of
    the announcement: once for each kind of event and day of the owner's zone (`slack.tell_events`). Of a task that is
    due and untouched the owner is reminded there, once (`assignment.remind`). A task that was given to another rep is
    announced to its new owner like a new one, and its former owner is told in the thread of the earlier announcement.
    When the rep of a touched handoff has left, that is said there, once, and nothing else is done.

    Only one process at a time posts, and no task is announced twice, even after a crash. An announcement is updated,
    which notifies nobody, when its task is touched, replied to, won, lost, withdrawn, released, expired or reassigned.
    A message that was deleted in Slack stays deleted. The message about a forgotten account is emptied. With `held`
    (why nothing may be sent) nothing is sent and `chat` may be None.

    Returns {"alerts": tasks of this run, "posted": those announced by now, "earlier": tasks of earlier runs announced
    only now, "waiting": for the end of quiet hours, "updated": announcements updated, "gone": announcements that can
    no longer be updated, "unknown_owners": tasks announced in the channel because the chat does not know their owner,
    "failed": [{handoff_id, reason}]}, and "told": replies posted, if there were any; a repeated run returns the same.
    Raises DeliveryFailed, after all other messages, when a message failed, and LedgerError when another process keeps
    the lock too long.
    """
    mine = [h for h in ledger.handoffs(run_id=run.run_id) if h.task_id]
    summary: dict[str, Any] = {
        "alerts": len(mine), "posted": 0, "earlier": 0, "waiting": 0, "updated": 0, "gone": 0, "unknown_owners": 0,
        "failed": [],
    }  # fmt: skip
    if not held and chat is not None:
        with ledger.alone("alerts"):
            _Round(lake, ledger, policy, run, chat, now, summary, page).go()
    for row in ledger.outbox(keys=[_key(h) for h in mine]):
        summary["posted"] += row.state == "sent"
        summary["unknown_owners"] += bool(row.payload.get("owner_unknown"))
    if summary["failed"]:
        named = [(f"handoff {row['handoff_id']}", row["reason"]) for row in summary["failed"]]
        raise DeliveryFailed("alerts could not be posted or updated", summary, named)
    return summary


class _Round:
    """All announcements and updates due at one moment."""

    def __init__(
        self,
        lake: Lake,
        ledger: Ledger,
        policy: Policy,
        run: Run,
        chat: Chat,
        now: datetime,
        summary: dict[str, Any],
        page: Page,
    ) -> None:
        self.lake, self.ledger, self.policy, self.run, self.chat = lake, ledger, policy, run, chat
        self.now, self.summary, self.page = now, summary, page
        self.zones = timezones(lake, run.run_id)
        self.hopeless: dict[str, str] = {}  # channel → why it cannot be posted to at this moment
        self.handoffs = {h.handoff_id: h for h in ledger.handoffs()}
        self.events = self._events()
        self.reps = known_reps(lake, run)

    def go(self) -> None:
        """Drops alerts of closed handoffs, replies to earlier ones, posts new ones, and updates those whose handoff has
        changed."""
        self._read()
        if self._settle():
            self._read()
        self._reply()
        if self._announce():
            self._read()
        self._put_right()
        self._keep_links()
        for row in self.ledger.outbox(run_id=self.run.run_id, destination=self.chat.name):
            self.summary["updated"] += row.kind == "alert_update" and row.state == "sent"
            self.summary["gone"] += row.kind == "alert_update" and row.state == "failed"
            if row.kind == "alert_reply" and row.state == "sent":
                self.summary["told"] = self.summary.get("told", 0) + 1

    def _read(self) -> None:
        """The outbox rows of every handoff that is open, ended not long ago, or of a forgotten account."""
        since = self.now - _FOLLOWED
        followed = [
            h.handoff_id
            for h in self.handoffs.values()
            if h.closed_at is None or h.closed_at > since or h.account_id.startswith(PSEUDONYM)
        ]
        self.alerts: dict[str, list[Outbox]] = {}  # by handoff
        self.updates: dict[str, list[Outbox]] = {}  # by the key of the alert
        self.replies: dict[str, list[Outbox]] = {}  # by handoff
        self.given_on: dict[str, list[Outbox]] = {}  # by handoff, in order: each time another rep got its task
        self.pressed: dict[str, Outbox] = {}  # by handoff
        self.snoozed: dict[str, list[Outbox]] = {}  # by handoff
        self.linked: set[str] = set()  # handoffs of which it is kept where their alert can be opened
        self.elsewhere: set[str] = set()  # handoffs announced in another chat: the policy named that one then
        for row in self.ledger.outbox(handoff_ids=followed):
            if row.kind == "alert" and row.destination != self.chat.name:
                self.elsewhere.add(str(row.handoff_id))
            elif row.kind == "alert":
                self.alerts.setdefault(str(row.handoff_id), []).append(row)
            elif row.kind == "alert_reply" and row.destination == self.chat.name:
                self.replies.setdefault(str(row.handoff_id), []).append(row)
            elif row.kind == ALERT_LINK and row.state == "sent":
                self.linked.add(str(row.handoff_id))
            elif row.kind in (ESCALATION, REASSIGNMENT) and row.state == "sent" and row.payload:
                self.given_on.setdefault(str(row.handoff_id), []).append(row)
            elif row.kind == PRESS and row.payload:
                self.pressed[str(row.handoff_id)] = row
            elif row.kind == SNOOZE:
                self.snoozed.setdefault(str(row.handoff_id), []).append(row)
            elif row.kind == "alert_update" and row.destination == self.chat.name:
                place, _, rest = row.key.partition("_update:")
                self.updates.setdefault(f"{place}:{rest.partition(':')[0]}", []).append(row)

    def _events(self) -> dict[str, list[tuple[str, datetime]]]:
        """Account id → signal and moment of its last trigger events, as the run knows them, of those with the reps."""
        triggers = self.policy.routing.triggers if self.policy.slack.tell_events else []
        ids = [h.account_id for h in self.handoffs.values() if h.state in _WITH_THE_REP]
        if not (triggers and ids and self.lake.exists("signals", f"{self.run.run_id}.parquet")):
            return {}
        rows = rows_where(self.lake, "signals", self.run.run_id, "account_id", ids)
        return {
            row["account_id"]: [(n, at) for n in triggers if (at := row.get(f"{n}_at")) is not None] for row in rows
        }

    def _handoff(self, row: Outbox) -> Handoff:
        return self.handoffs[str(row.handoff_id)]

    # ── announcing ───────────────────────────────────────────────────────────────────────────────

    def _settle(self) -> bool:
        """Records which messages arrived, and drops the others, where a task ended while they were being sent.

        Returns whether there were any.
        """
        over = [row for row in _begun(self.alerts) if self._handoff(row).state != "task_open"]
        over += [row for row in _begun(self.replies) if not self._matters(row)]
        for row in over:
            posting = self._row(row.payload["digest"]) if "digest" in row.payload else row
            try:
                place = self._arrived(posting)
            except ChatError as error:
                self._failed([row], str(error))
            else:
                if place is None:
                    self.ledger.failed(row.key, "over before it was announced", retryable=False)
                elif posting is not row:
                    self._sent([row], place)
        return bool(over)

    def _matters(self, row: Outbox) -> bool:
        """Whether what a reply says is still of use."""
        state = self._handoff(row).state
        if row.key.startswith("alert_owner_left:"):
            return state in ("touched", "replied")
        return state in (("task_open",) if row.payload.get("while_open") else _WITH_THE_REP)

    def _arrived(self, row: Outbox) -> Place | None:
        """The place of a message that may have been posted; None when it was not."""
        if row.state == "sending" and (place := self.chat.find(str(row.payload["channel"]), row.key, _thread(row))):
            self._sent([row], place)
            return place
        return Place.of(row) if row.state == "sent" else None

    def _announce(self) -> bool:
        """Posts the tasks that were not announced yet; returns whether there were any.

        A task decided after this run is announced by its own run, unless it is part of a digest begun with this one's.
        """
        opened = [h for h in self.handoffs.values() if h.state == "task_open" and h.decided_at <= self.run.as_of]
        fresh = [h for h in opened if h.handoff_id not in self.alerts and h.handoff_id not in self.elsewhere]
        begun = [row for row in _begun(self.alerts) if self._handoff(row) in opened]
        handed = [h for h in opened if self._handed_on(h)]
        waiting = {h.handoff_id for h in (*fresh, *handed, *map(self._handoff, begun)) if self._quiet(h)}
        self.summary["waiting"] = len(waiting)
        laid_out = self._lay_out([h for h in (*fresh, *handed) if h.handoff_id not in waiting])
        done: set[str] = set()
        for row in [*begun, *laid_out]:
            together = row.payload.get("digest")
            if row.handoff_id in waiting or together in done:
                continue
            if together is None:
                self._post([row])
            else:
                done.add(together)
                self._post(self._members(together), together)
        return bool(begun or laid_out)

    def _handed_on(self, handoff: Handoff) -> bool:
        """Whether the handoff was announced to its former owner, and escalated to one who was told nothing yet."""
        row = self._last_given(handoff)
        there = self.alerts.get(handoff.handoff_id, [])
        told = row is not None and any(alert.key == self._key_of(row) for alert in there)
        return row is not None and row.payload["to"] == handoff.owner_id and bool(there) and not told

    def _last_given(self, handoff: Handoff) -> Outbox | None:
        """The row by which the handoff got its present owner from another rep; None: it did not."""
        return next(iter(self.given_on.get(handoff.handoff_id, [])[::-1]), None)

    @staticmethod
    def _key_of(row: Outbox) -> str:
        """The key of the announcement to the rep whom this row has given a task."""
        if row.kind == ESCALATION:
            return f"alert_escalated:{row.handoff_id}"
        _, its_id, number = row.key.split(":")
        return f"alert_reassigned_{number}:{its_id}"

    def _quiet(self, handoff: Handoff) -> bool:
        start, end = self.policy.slack.quiet_from, self.policy.slack.quiet_until
        if start is None:
            return False
        local = self.now.astimezone(zone(self._timezone(handoff))).time()
        return start <= local < end if start <= end else local >= start or local < end

    def _timezone(self, handoff: Handoff) -> str:
        return self.zones.get(handoff.owner_id or "") or self.policy.assignment.working_time.timezone

    def _lay_out(self, fresh: list[Handoff]) -> list[Outbox]:
        """Outbox rows for the tasks not announced yet: each with its channel, its text, and its digest if any."""
        texts = self._texts(fresh)
        last = datetime.max.replace(tzinfo=UTC)
        fresh = sorted(fresh, key=lambda h: (h.due_at or last, texts[h.handoff_id].account, h.handoff_id))
        rows: list[dict[str, Any]] = []
        hopeless = ""
        for handoff in fresh:
            if hopeless:
                self._note(handoff.handoff_id, hopeless)
                continue
            try:
                places, unknown = self._places(handoff)
            except ChatError as error:
                self._note(handoff.handoff_id, str(error))
                hopeless = str(error) if error.is_hopeless else ""
                continue
            self.summary["unknown_owners"] += unknown and handoff.run_id != self.run.run_id
            kept = payload_of(texts[handoff.handoff_id], self._timezone(handoff), handoff, self._pages(handoff))
            kept |= {"owner_unknown": unknown}
            for key, to, channel in places:
                rows.append(self._new(key, "alert", handoff, kept | {"to": to, "channel": channel}))
        if len(fresh) > self.policy.slack.digest_above:
            rows += self._gathered(rows)
        laid_out = self.ledger.put_all(rows)
        return [row for row in laid_out if row.kind == "alert"]

    def _pages(self, handoff: Handoff) -> dict[str, str]:
        """Where the task and the account are in the CRM."""
        ids: dict[Thing, str | None] = {"task": handoff.task_id, "account": handoff.crm_account_id}
        found = {thing: self.page(thing, record) for thing, record in ids.items() if record}
        return {thing: url for thing, url in found.items() if url} if self.policy.slack.links else {}

    def _places(self, handoff: Handoff) -> tuple[list[tuple[str, str, str]], bool]:
        """Outbox key, kind of place and channel of each message about a new task; whether the owner is unknown."""
        rules = self.policy.slack
        if handoff.handoff_id in self.alerts:  # the team knows of it: only the new owner is told
            row = self._last_given(handoff)
            assert row is not None  # `_handed_on`
            key, direct = self._key_of(row), None
            if rules.alerts_to != "channel":
                direct = self.chat.direct(self.chat.user(handoff.owner_email))
            where = [(key, "owner", direct)] if direct else [(key, "channel", rules.alerts_channel)]
            return where, rules.alerts_to != "channel" and not direct
        key = _key(handoff)
        channel = [(key, "channel", rules.alerts_channel)]
        if rules.alerts_to == "channel":
            return channel, False
        direct = self.chat.direct(self.chat.user(handoff.owner_email))
        if direct is None:
            return channel, True
        if rules.alerts_to == "owner":
            return [(key, "owner", direct)], False
        return [*channel, (f"alert_owner:{handoff.handoff_id}", "owner", direct)], False

    def _gathered(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The digests of those rows, one a channel; the payload of each row gets the key of its digest."""
        by_channel: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_channel.setdefault(row["payload"]["channel"], []).append(row)
        digests = []
        for channel, theirs in by_channel.items():
            if len(theirs) > 1:
                name = hashlib.sha256(" ".join(row["key"] for row in theirs).encode()).hexdigest()[:32]
                key, ids = f"alert_digest:{name}", [row["handoff_id"] for row in theirs]
                digests.append(self._new(key, "alert_digest", None, {"channel": channel, "handoffs": ids}))
                for row in theirs:
                    row["payload"] |= {"digest": key}
        return digests

    def _new(self, key: str, kind: str, handoff: Handoff | None, payload: dict[str, Any]) -> dict[str, Any]:
        run_id = handoff.run_id if handoff and kind == "alert" else self.run.run_id
        return {"key": key, "destination": self.chat.name, "kind": kind, "run_id": run_id,
                "handoff_id": handoff and handoff.handoff_id, "payload": payload}  # fmt: skip

    def _post(self, rows: list[Outbox], together: str | None = None) -> None:
        """Posts one message: for one row, or the digest of many rows, which count as sent when the digest is."""
        key, first = together or rows[0].key, rows[0]
        # A channel corrected in the policy applies at once; a direct message keeps the recipient it was begun for.
        mine = first.payload.get("to") == "owner"
        channel = str(first.payload["channel"]) if mine else self.policy.slack.alerts_channel
        if channel in self.hopeless:
            self._failed(rows, self.hopeless[channel])
            return
        try:
            place = post_once(
                self.chat,
                self.ledger,
                self._message(rows, together),
                key=key,
                kind="alert_digest" if together else "alert",
                channel=channel,
                run_id=self.run.run_id if together else first.run_id,
                handoff_id=None if together else first.handoff_id,
            )
        except ChatError as error:
            self._refused(channel, rows, error)
            return
        unsent = [row for row in rows if row.state in _BEGUN]
        if together:
            self._sent(unsent, place)
        news = [row for row in unsent if row.key == _key(self._handoff(row))]
        self.summary["earlier"] += sum(self._handoff(row).run_id != self.run.run_id for row in news)

    def _message(self, rows: list[Outbox], together: str | None) -> Message:
        if _forgotten(rows[0]):
            return erased()
        told = []
        for row in rows:
            handoff = self._handoff(row)
            its = Told.now(row.payload, handoff, self.chat.user(handoff.owner_email))
            if press := self.pressed.get(handoff.handoff_id):
                its = its.pressed_by(said(press))
            elif its.handed_on and self._told_anew(handoff):  # that announcement has the buttons and the due time
                its = replace(its, alert=replace(its.alert, due=""))
            elif self.chat.takes_presses:
                its = replace(its, buttons=buttons(handoff.handoff_id))
            told.append(its)
        return digest(told, self.chat.name.capitalize()) if together else one(told[0])

    def _told_anew(self, handoff: Handoff) -> bool:
        """Whether the present owner, who got the task with a clock of their own, has an announcement of their own."""
        last, there = self._last_given(handoff), self.alerts.get(handoff.handoff_id, [])
        return last is not None and last.kind == REASSIGNMENT and self._key_of(last) in {row.key for row in there}

    def _members(self, together: str) -> list[Outbox]:
        """The rows of a digest in their order, without those whose task ended before it was posted."""
        order = {its_id: n for n, its_id in enumerate(self._row(together).payload["handoffs"])}
        rows = self.ledger.outbox(destination=self.chat.name, handoff_ids=order.keys())
        rows = [row for row in rows if row.payload.get("digest") == together and row.state != "failed"]
        return sorted(rows, key=lambda row: order[str(row.handoff_id)])

    def _row(self, key: str) -> Outbox:
        return self.ledger.outbox(keys=[key])[0]

    def _keep_links(self) -> None:
        """Keeps where the announcement of each open handoff can be opened, for its record to lead there.

        It is a convenience: when the chat does not tell, the next run asks again. A direct message is nobody else's.
        """
        if not self.policy.crm.alert_link:
            return
        for handoff in self.handoffs.values():
            if handoff.state not in _WITH_THE_REP or handoff.handoff_id in self.linked:
                continue
            there = self._announced(handoff, None)
            if there is None or _direct(there):
                continue
            try:
                address = self.chat.link(Place.of(there))
            except ChatError as error:
                if error.is_hopeless:
                    return
                continue
            row = self._new(f"{ALERT_LINK}:{handoff.handoff_id}", ALERT_LINK, handoff, {"of": there.key})
            self.ledger.put_all([row])
            self.ledger.sending(row["key"])
            self.ledger.sent_all({row["key"]: address})

    # ── what is new afterwards ───────────────────────────────────────────────────────────────────

    def _reply(self) -> None:
        """Replies to the announcements that are in the chat, with what is new of their accounts."""
        theirs = [
            h
            for h in self.handoffs.values()
            if (h.state in _WITH_THE_REP or self._left_behind(h)) and not self._quiet(h)
        ]
        news: list[dict[str, Any]] = []
        for handoff in theirs:
            try:
                news += self._news(handoff)
            except ChatError as error:
                self._note(handoff.handoff_id, str(error))
                if error.is_hopeless:
                    break
        new = self.ledger.put_all(news) if news else []
        laid_out = {row.key: row for row in [*_begun(self.replies), *new]}
        for row in laid_out.values():
            if self._handoff(row) in theirs and row.state in _BEGUN:
                self._post_reply(row)

    def _news(self, handoff: Handoff) -> Iterator[dict[str, Any]]:
        """The outbox rows of what is to be told of the handoff and was not told yet."""
        where, told = zone(self._timezone(handoff)), {row.key for row in self.replies.get(handoff.handoff_id, [])}
        for given in self.given_on.get(handoff.handoff_id, ()):
            _, _, number = given.key.partition(f":{handoff.handoff_id}")
            key = f"alert_handed_on:{handoff.handoff_id}{number.replace(':', '/')}"
            if key not in told and (row := self._announced(handoff, given.payload["from"])):
                former = self.chat.user(given.payload["from_email"])
                here = {"user": former, "now_with": given.payload["to_email"]}
                yield self._reply_row(key, handoff, row, _HANDED_ON[given.payload.get("because", "late")], here)
        there = self._announced(handoff, handoff.owner_id)
        if there is None:
            return
        key = f"alert_owner_left:{handoff.handoff_id}/{handoff.owner_id}"
        if self._left_behind(handoff) and key not in told:
            yield self._reply_row(key, handoff, there, _LEFT_BEHIND, {"user": None})
        last, due = self._last_given(handoff), handoff.due_at
        key = f"alert_reminder:{handoff.handoff_id}"
        if last and last.kind == REASSIGNMENT:  # its clock has started anew
            key += f"/{last.key.rpartition(':')[2]}"
        untouched = handoff.state == "task_open" and due is not None and due <= self.run.as_of
        untouched &= last is None or last.kind == REASSIGNMENT
        untouched &= handoff.handoff_id not in self.pressed
        untouched &= not put_off(self.snoozed.get(handoff.handoff_id, []), self.now)
        if self.policy.assignment.remind and untouched and key not in told:
            assert due is not None
            said = f"not contacted yet: the first message was due {near_moment(due, where)}"
            yield self._reply_row(key, handoff, there, said, {"while_open": True})
        for name, at in self.events.get(handoff.account_id, ()):
            day = at.astimezone(where).date().isoformat()
            if self.run.as_of >= at > handoff.decided_at and not self._told(handoff, name, at, day):
                happened = SIGNALS_BY_NAME[name].happened
                assert happened is not None  # routing.triggers holds no others
                said = f"since then they {happened.clause}, {near_moment(at, where)}"
                key = f"alert_event:{handoff.handoff_id}/{name}/{day}"
                yield self._reply_row(key, handoff, there, said, {"event": name, "at": at.isoformat(), "day": day})

    def _left_behind(self, handoff: Handoff) -> bool:
        """Whether a rep was in touch and has left since: nobody but people can say who goes on with it."""
        goes_on = handoff.state in ("touched", "replied") and self.policy.assignment.when_owner_leaves == NEXT_REP
        return goes_on and has_left(self.reps, handoff.owner_id)

    def _told(self, handoff: Handoff, name: str, at: datetime, day: str) -> bool:
        """Whether the owner was told of this event, of a later one of its kind, or of one of its kind that day."""
        told = [row.payload for row in self.replies.get(handoff.handoff_id, []) if row.payload.get("event") == name]
        return any(day == row["day"] or at <= datetime.fromisoformat(row["at"]) for row in told)

    def _announced(self, handoff: Handoff, owner_id: str | None) -> Outbox | None:
        """The announcement in whose thread this owner is told: the one to that owner, a direct message before others;
        else the channel's."""

        def rank(row: Outbox) -> tuple[bool, bool]:
            theirs = row.payload["owner"] == owner_id
            return not theirs, _direct(row) is not theirs

        rows = self.alerts.get(handoff.handoff_id, [])
        return min((row for row in rows if row.state == "sent" and "alert" in row.payload), key=rank, default=None)

    def _reply_row(
        self, key: str, handoff: Handoff, announced: Outbox, said: str, kept: dict[str, Any]
    ) -> dict[str, Any]:
        place = Place.of(announced)
        payload = {"channel": place.channel, "thread": place.message, "to": announced.payload.get("to"), **kept}
        if "user" not in payload:
            payload["user"] = self.chat.user(handoff.owner_email)
            if _direct(announced) and announced.payload["owner"] != handoff.owner_id:  # somebody else's conversation
                direct = self.chat.direct(payload["user"])
                payload |= {"channel": direct or self.policy.slack.alerts_channel, "thread": None}
                payload["to"] = "owner" if direct else "channel"
        news = Alert(account=announced.payload["alert"]["account"], why=said)
        return self._new(key, "alert_reply", handoff, payload | {"alert": asdict(news)})

    def _post_reply(self, row: Outbox) -> None:
        channel, now = str(row.payload["channel"]), row.payload.get("now_with")
        if channel in self.hopeless:
            self._failed([row], self.hopeless[channel])
            return
        try:
            post_once(
                self.chat,
                self.ledger,
                reply(
                    Alert(**row.payload["alert"]),
                    row.payload["user"],
                    direct=_direct(row),
                    now_with=now_with(self.chat.user(now)) if now else (),
                ),
                key=row.key,
                kind=row.kind,
                channel=channel,
                run_id=row.run_id,
                handoff_id=row.handoff_id,
                reply_to=_thread(row),
            )
        except ChatError as error:
            if error.is_over:  # its announcement was deleted: nobody wants to hear of it
                self.ledger.failed(row.key, error.code, retryable=False)
            else:
                self._refused(channel, [row], error)

    # ── updating ─────────────────────────────────────────────────────────────────────────────────

    def _put_right(self) -> None:
        """Updates every message whose handoff has changed since it was posted."""
        wrong: dict[Place, list[Outbox]] = {}
        emptied = [row for rows in self.replies.values() for row in rows if _forgotten(row)]
        for row in [*(row for rows in self.alerts.values() for row in rows), *emptied]:
            if row.state == "sent" and self._says_otherwise(row):
                wrong.setdefault(Place.of(row), []).append(row)
        updates = {row.key: self._update_of(row) for rows in wrong.values() for row in rows}
        self.ledger.put_all(updates.values())
        for place, rows in wrong.items():
            self._write_anew(place, rows, [updates[row.key]["key"] for row in rows])

    def _says_otherwise(self, row: Outbox) -> bool:
        """Whether its message shows another state or owner than the handoff has; False once it cannot be changed."""
        updates = self.updates.get(row.key, [])
        if _forgotten(row):
            return not any(u.key.endswith(":forgotten") and u.state in ("sent", "failed") for u in updates)
        if "alert" not in row.payload:  # written by an earlier version: its text is not known
            return False
        if any(update.state == "failed" for update in updates):
            return False
        shown = max((u for u in updates if u.state == "sent"), key=lambda u: u.payload["step"], default=None)
        says = shown.payload if shown else {"state": "task_open", "owner": row.payload["owner"]}
        handoff = self._handoff(row)
        return (says["state"], says["owner"]) != (handoff.state, handoff.owner_id)

    def _update_of(self, row: Outbox) -> dict[str, Any]:
        handoff, updates = self._handoff(row), self.updates.get(row.key, [])
        place, _, its_id = row.key.partition(":")
        if _forgotten(row):
            return self._new(f"{place}_update:{its_id}:forgotten", "alert_update", handoff, {})
        now = {"state": handoff.state, "owner": handoff.owner_id}
        key, n = f"{place}_update:{its_id}:{handoff.state}", 1
        known = {update.key: update for update in updates}
        while key in known and (known[key].state == "sent" or now.items() - known[key].payload.items()):
            n += 1  # a task may change hands again and again
            key = f"{place}_update:{its_id}:{handoff.state}:{n}"
        return self._new(key, "alert_update", handoff, now | {"step": len(updates) + 1})

    def _write_anew(self, place: Place, rows: list[Outbox], keys: list[str]) -> None:
        if place.channel in self.hopeless:
            self._failed(rows, self.hopeless[place.channel])
            return
        # Older updates of the same message that were never sent: this update covers them, too.
        stale = [u.key for row in rows for u in self.updates.get(row.key, []) if u.state in _BEGUN]
        keys = list(dict.fromkeys((*keys, *stale)))
        there = [r for of in self.alerts.values() for r in of if r.external_id == str(place)]
        together = next((row.payload["digest"] for row in there if "digest" in row.payload), None)
        try:
            message = self._message(self._members(together) if together else rows, together)
            self.ledger.sending(*keys)
            self.chat.update(place, message)
        except ChatError as error:
            if error.is_over:
                self.ledger.failed_all(dict.fromkeys(keys, (error.code, False)))
                return
            self._refused(place.channel, rows, error)
        else:
            self.ledger.sent_all(dict.fromkeys(keys, str(place)))

    # ── accounting ───────────────────────────────────────────────────────────────────────────────

    def _sent(self, rows: Sequence[Outbox], place: Place) -> None:
        if rows:
            self.ledger.sending(*(row.key for row in rows))
            self.ledger.sent_all({row.key: str(place) for row in rows})

    def _refused(self, channel: str, rows: Sequence[Outbox], error: ChatError) -> None:
        if error.is_hopeless:
            self.hopeless[channel] = str(error)
        self._failed(rows, str(error))

    def _failed(self, rows: Sequence[Outbox], reason: str) -> None:
        for row in rows:
            self._note(str(row.handoff_id), reason)

    def _note(self, handoff_id: str, reason: str) -> None:
        self.summary["failed"].append({"handoff_id": handoff_id, "reason": reason})

    def _texts(self, handoffs: list[Handoff]) -> dict[str, Alert]:
        """The text for each handoff, from the decision of its run; without a decision, only that a task waits."""
        by_run: dict[str, list[Handoff]] = {}
        for handoff in handoffs:
            by_run.setdefault(handoff.run_id, []).append(handoff)
        texts: dict[str, Alert] = {}
        for run_id, theirs in by_run.items():
            ids = [h.account_id for h in theirs]
            rooms = ("decisions", "signals")
            kept = all(self.lake.exists(room, f"{run_id}.parquet") for room in rooms)
            decisions, signals = (
                {r["account_id"]: r for r in rows_where(self.lake, room, run_id, "account_id", ids)} if kept else {}
                for room in rooms
            )
            for h in theirs:
                decision = decisions.get(h.account_id)
                texts[h.handoff_id] = (
                    # A task that was delivered late, or given to somebody else, has a due time of its own.
                    alert(
                        decision | ({"due_at": h.due_at} if h.due_at else {}),
                        signals.get(h.account_id, {}),
                        self.policy,
                        self._timezone(h),
                    )
                    if decision
                    else UNKNOWN
                )
        return texts


def _begun(rows: dict[str, list[Outbox]]) -> list[Outbox]:
    """The rows that are laid out and not known to have arrived."""
    return [row for theirs in rows.values() for row in theirs if row.state in _BEGUN]


def _direct(row: Outbox) -> bool:
    """Whether its message is a direct message to the owner."""
    return row.payload.get("to") == "owner"


def _thread(row: Outbox) -> Place | None:
    """The announcement in whose thread a reply is; None for an announcement, and for a reply without one."""
    thread = row.payload.get("thread")
    return Place(str(row.payload["channel"]), str(thread)) if thread else None


def _forgotten(row: Outbox) -> bool:
    """Whether the row belongs to a forgotten account: its payload was then erased."""
    return not row.payload


def _key(handoff: Handoff) -> str:
    return f"alert:{handoff.handoff_id}"
