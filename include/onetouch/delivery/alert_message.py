"""The text of alerts: a message for one task, a digest for many, each with the outcome of its tasks.

A message may hold the account's name, why now, how urgent, the score, the due time, the outcome of the task, its owner
as a mention, and links to the task and the account's record in the CRM. It holds nothing else: no user's name or e-mail
address, no dossier, no text of a customer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import tzinfo
from typing import Any

from onetouch.chat import (
    Bullets,
    Button,
    Buttons,
    Emoji,
    Footnote,
    Line,
    Lines,
    Link,
    Mention,
    Message,
    Part,
    Text,
    Title,
    message,
)
from onetouch.handoff import Alert, capital, count, near_moment, plain, without_addresses, zone
from onetouch.ledger import Handoff

_OWNERS, _CHARACTERS = 45, 11_000
"""Ours: most owners with a list of their tasks, and most characters, in a digest, to keep it readable; Slack takes 50
blocks and 13,200 characters."""

_HEAD, _COUNTED = 40, 20
"""Characters reserved for the head of an owner's list, and for an owner who is only named with a number."""

_BECOMES = 170
"""Ours: characters reserved for the outcome of a task, so that an updated digest holds the same tasks."""

_LONGEST_REASON = 120

_BECAME = {
    "touched": ("wave", "Contacted"),
    "replied": ("speech_balloon", "They replied"),
    "won": ("tada", "Won"),
    "lost": ("x", "Lost"),
    "withdrawn": ("no_entry", "Withdrawn"),
    "released": ("leftwards_arrow_with_hook", "Back to self-serve"),
    "expired": ("hourglass", "Expired"),
}
"""State → emoji and label. A state that is not listed is an open task."""

_STRUCK = frozenset({"lost", "withdrawn", "released", "expired"})
"""States in which nothing is left to do: the line is struck through."""

_MOMENTS = {"touched": "touched_at", "replied": "replied_at", "won": "closed_at", "lost": "closed_at"}


@dataclass(frozen=True)
class Told:
    """One task in a message: its announcement and its present state.

    `became`: the label of its state and the details after it (both empty: open). `user`: the chat's id of its present
    owner (None: the chat does not know the owner). `handed_on`: whether the owner has changed since the announcement.
    `direct`: whether the message is a direct message to the owner. `pages`: "task" and "account" → where they are in
    the CRM, as far as known. `pressed`: which button was pressed, and by whom, until the CRM tells what became of it;
    `buttons`: those of an open task, in a message of its own.
    """

    alert: Alert
    state: str
    became: tuple[str, str] = ("", "")
    user: str | None = None
    handed_on: bool = False
    direct: bool = False
    pressed: tuple[str, str] | None = None
    buttons: Sequence[Button] = ()
    pages: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def now(cls, payload: dict[str, Any], handoff: Handoff, user: str | None) -> Told:
        """The task of an outbox row, with the present state of its handoff."""
        return cls(  # `pressed` and `buttons` are the caller's
            alert=Alert(**payload["alert"]) if "alert" in payload else UNKNOWN,
            state=handoff.state,
            became=_became(handoff, zone(payload.get("timezone"))),
            user=user,
            handed_on="owner" in payload and payload["owner"] != handoff.owner_id,
            direct=payload.get("to") == "owner",
            pages=payload.get("pages", {}),
        )

    def pressed_by(self, pressed: tuple[str, str]) -> Told:
        """The same task after a button was pressed."""
        return replace(self, pressed=pressed, buttons=())


UNKNOWN = Alert("A new task", "on your list in the CRM")
"""The text when the decision is no longer stored."""


def payload_of(alert: Alert, timezone: str | None, handoff: Handoff, pages: Mapping[str, str]) -> dict[str, Any]:
    """The payload the outbox keeps of an announcement, so that it can be updated; `Told.now` reads it."""
    kept = {"alert": asdict(alert), "timezone": timezone, "owner": handoff.owner_id}
    return kept | ({"pages": dict(pages)} if pages else {})


def one(told: Told) -> Message:
    """The message about a single task."""
    open_now = told.state == "task_open"
    # The present owner is named once: before the line, or after it when the task has changed hands.
    mention = () if told.direct or (told.handed_on and open_now) else _mention(told.user)
    lines: list[Line] = [(*mention, *((Text(" "),) if mention else ()), *_line(told))]
    if not open_now:
        lines.append(_news(told))
    elif told.handed_on:
        lines.append((Text("Now with "), *(_mention(told.user) or (Text("a colleague"),))))
    parts: list[Part] = [Lines(lines)]
    if open_now:
        parts.append(Footnote(_details(told.alert)))
    if links := _links(told):
        parts.append(Lines([links]))
    if open_now and told.pressed:
        name, user = told.pressed
        parts.append(Lines([(Text(name, bold=True), Text(", says "), Mention(user))]))
    elif open_now and told.buttons:
        parts.append(Buttons(told.buttons))
    said = told.alert.text if open_now else f"{''.join(told.became)} · {told.alert.account} — {told.alert.why}"
    return Message([(*mention, Text(f": {said}" if mention else said))], parts)


def reply(news: Alert, user: str | None, *, direct: bool, now_with: Line = ()) -> Message:
    """A message in the thread of an announcement: what is new of its account, to the person whom that has told.

    `direct`: whether it is in a direct message to that person, who is then not mentioned. `now_with`: who has the task
    now, at the end of the sentence.
    """
    mention = () if direct else _mention(user)
    line = (Text(news.account, bold=True), Text(f" — {news.why}"), *now_with)
    said = f"{news.account} — {news.why}"
    return Message(
        [(*mention, Text(f": {said}" if mention else said), *now_with)],
        [Lines([(*mention, *((Text(" "),) if mention else ()), *line)])],
    )


def now_with(user: str | None) -> Line:
    """The end of a sentence that says who has a task now."""
    return Text(" It is now with "), *(_mention(user) or (Text("a colleague"),)), Text(".")


def erased() -> Message:
    """The message that replaces one about an account that was forgotten."""
    text = "A task of an account that was deleted."
    return message(text, Footnote(text))


def digest(tasks: Sequence[Told], chat: str) -> Message:
    """One message for many tasks, in the order given, grouped by owner; every owner is mentioned.

    Where there are more tasks than it has room for, each owner gets an equal share of it, and is told how many more
    there are; owners beyond the limit are named with a number. `chat`: the name of the chat as people write it.
    """
    groups: dict[str | None, list[Told]] = {}
    for told in sorted(tasks, key=lambda told: told.user is None):
        groups.setdefault(told.user, []).append(told)
    listed, counted = list(groups.items())[:_OWNERS], list(groups.items())[_OWNERS:]
    shares = _shares([theirs for _, theirs in listed], _CHARACTERS - _HEAD * len(listed) - _COUNTED * len(counted))
    lists: list[Part] = []
    for (user, theirs), share in zip(listed, shares, strict=True):
        items: list[Line] = [_item(told) for told in theirs[:share]]
        if share < len(theirs):
            items.append((Text(f"and {len(theirs) - share} more in the CRM"),))
        head = (*_mention(user, f"Owner not known in {chat}"), Text(f" · {count(len(theirs), 'task')}"))
        lists.append(Bullets(items, () if tasks[0].direct else head))
    if counted:
        lists.append(Lines([(Text("Also"), *_by_owner([(user, len(theirs)) for user, theirs in counted]))]))
    title = count(len(tasks), "new task")
    if over := sum(told.state != "task_open" for told in tasks):
        title = f"{count(len(tasks), 'task')}, {over} no longer waiting"
    where = "Dossiers and first messages are in the task lists."
    if all(told.alert.brief for told in tasks):
        where = "First messages are in the task lists, dossiers on the accounts' records."
    owners = [] if tasks[0].direct else [(user, len(theirs)) for user, theirs in groups.items()]
    return Message([(Text(title), *_by_owner(owners))], [Title(title), *lists, Footnote(where)])


def _shares(lists: Sequence[Sequence[Told]], room: int) -> list[int]:
    """How many tasks of each list are shown: one more of each in turn, as long as there is room."""
    shares = [0] * len(lists)
    for turn in range(max(map(len, lists), default=0)):
        for place, theirs in enumerate(lists):
            if turn >= len(theirs) or shares[place] < turn:
                continue
            alert = theirs[turn].alert
            cost = len(alert.account) + len(alert.why) + len(alert.due) + _BECOMES
            if cost <= room:
                room -= cost
                shares[place] += 1
    return shares


def _by_owner(owners: Sequence[tuple[str | None, int]]) -> Line:
    """ ": @ana 3, @ben 1", without owners whom the chat does not know."""
    named: Line = ()
    for user, n in owners:
        if user:
            named += (Text(", " if named else ": "), Mention(user), Text(f" {n}"))
    return named


_PAGES = {"task": "Open the task", "account": "Open the record"}


def _links(told: Told) -> Line:
    """Links to what is known to be in the CRM."""
    links = [Link(said, told.pages[name]) for name, said in _PAGES.items() if name in told.pages]
    return tuple(piece for link in links for piece in (Text(" · "), link))[1:]


def _line(told: Told) -> Line:
    struck = told.state in _STRUCK
    url = told.pages.get("task") or told.pages.get("account")
    name = told.alert.account
    named = Link(name, url, bold=True, struck=struck) if url else Text(name, bold=True, struck=struck)
    return named, Text(f" — {told.alert.why}", struck=struck)


def _item(told: Told) -> Line:
    if told.state != "task_open":
        return (*_line(told), Text(" · "), *_news(told))
    rest = (f" · due {told.alert.due}" if told.alert.due else "") + (" · handed on" if told.handed_on else "")
    return (*_line(told), Text(rest)) if rest else _line(told)


def _news(told: Told) -> Line:
    """The outcome of the task, after its emoji."""
    said, more = told.became
    return Emoji(_BECAME[told.state][0]), Text(f" {said}", bold=True), *((Text(more),) if more else ())


def _became(handoff: Handoff, where: tzinfo) -> tuple[str, str]:
    """Label and details of a state: ("Withdrawn", ": checkout started"), ("Contacted", " Tue 18 Nov, 11:00 CET")."""
    if handoff.state not in _BECAME:
        return "", ""
    said = _BECAME[handoff.state][1]
    if at := getattr(handoff, _MOMENTS.get(handoff.state, ""), None):
        return said, f" {near_moment(at, where)}"
    reason = plain(without_addresses(plain(handoff.reason, _LONGEST_REASON)), _LONGEST_REASON)
    return said, f": {reason}" if reason else ""


def _details(alert: Alert) -> str:
    parts = [
        f"{capital(alert.urgency)} priority" if alert.urgency else "",
        f"score {alert.score}" if alert.score else "",
    ]
    parts += [
        f"first message due {alert.due}" if alert.due else "",
        "dossier on the account's record" if alert.brief else "dossier in your task list",
    ]
    return capital(" · ".join(part for part in parts if part))


def _mention(user: str | None, otherwise: str = "") -> Line:
    if user:
        return (Mention(user),)
    return (Text(otherwise, bold=True),) if otherwise else ()
