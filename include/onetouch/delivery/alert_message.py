"""How an alert looks in Slack: a message for one task, a digest for many, and what became of each.

What a message may hold: the account's name, why now, how urgent, the score, the due time, what became of the task, and
its owner as a mention. Nothing else: no user's name or e-mail address, no dossier, no text of a customer. All of it
stands in rich text, which Slack shows as it is: a name with `<!channel>`, a link, `*` or a backtick in it does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from onetouch.delivery.slack import escape
from onetouch.handoff import Alert, plain, without_addresses
from onetouch.handoff.words import capital, count, moment, zone
from onetouch.ledger import Handoff

Blocks = list[dict[str, Any]]

_BLOCKS, _CHARACTERS = 46, 11_000
"""Ours: owners and characters a digest holds; Slack takes 50 blocks and 13,200 characters."""

_BECOMES = 170
"""Ours: characters kept free for what becomes of a task, so that a digest written anew holds the same tasks."""

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
"""State → emoji, and how it is said. Without one the task is open."""

_STRUCK = frozenset({"lost", "withdrawn", "released", "expired"})
"""Nothing is left to do: the line is struck through."""

_MOMENTS = {"touched": "touched_at", "replied": "replied_at", "won": "closed_at", "lost": "closed_at"}


@dataclass(frozen=True)
class Told:
    """One task in a message: what was said of it, and how things are now.

    `user` is the Slack id of its present owner (None: not known there), `handed_on` whether that is another than the
    one it was announced to, `direct` whether the message is the owner's own.
    """

    alert: Alert
    state: str
    became: str = ""
    user: str | None = None
    handed_on: bool = False
    direct: bool = False

    @classmethod
    def now(cls, payload: dict[str, Any], handoff: Handoff, user: str | None) -> Told:
        """The task of an outbox row as its handoff stands."""
        return cls(
            alert=Alert(**payload["alert"]) if "alert" in payload else UNKNOWN,
            state=handoff.state,
            became=_became(handoff, zone(payload.get("timezone"))),
            user=user,
            handed_on="owner" in payload and payload["owner"] != handoff.owner_id,
            direct=payload.get("to") == "owner",
        )


UNKNOWN = Alert("A new task", "on your list in the CRM")
"""What is said when the decision is no longer at hand."""


def payload_of(alert: Alert, timezone: str | None, handoff: Handoff) -> dict[str, Any]:
    """What the outbox keeps of an announcement, so that it can be written anew; `Told.now` reads it."""
    return {"alert": asdict(alert), "timezone": timezone, "owner": handoff.owner_id}


def one(told: Told) -> tuple[str, Blocks]:
    """A message of its own: text for notifications, and blocks."""
    mention = [] if told.direct and not told.handed_on else _mention(told.user)
    elements = [_section([*mention, *([_text(" ")] if mention else []), *_line(told)])]
    if told.became or told.handed_on:
        elements.append(_section(_news(told)))
    blocks: Blocks = [{"type": "rich_text", "elements": elements}]
    if told.state == "task_open":
        blocks.append(_small(_details(told.alert)))
    says = f"{told.became}: {told.alert.account} — {told.alert.why}" if told.became else told.alert.text
    text = escape(says)
    return (f"<@{told.user}>: {text}" if mention and told.user else text), blocks


def digest(tasks: Sequence[Told]) -> tuple[str, Blocks]:
    """One message for many tasks, in the order given, grouped by owner; what has no room is counted."""
    groups: dict[str | None, list[Told]] = {}
    for told in tasks:
        groups.setdefault(told.user, []).append(told)
    blocks: Blocks = []
    room, shown = _CHARACTERS, 0
    for user, theirs in list(groups.items())[:_BLOCKS]:
        items = []
        for told in theirs:
            room -= len(told.alert.account) + len(told.alert.why) + len(told.alert.due) + _BECOMES
            if room < 0:
                break
            items.append(_section(_item(told)))
        if not items:
            break
        shown += len(items)
        head = [] if tasks[0].direct else [_section([*_mention(user, "No owner known in Slack"), _text(_many(theirs))])]
        listed = {"type": "rich_text_list", "style": "bullet", "elements": items}
        blocks.append({"type": "rich_text", "elements": [*head, listed]})
        if room < 0:
            break
    title = f"{count(len(tasks), 'new task')}"
    if over := sum(told.state != "task_open" for told in tasks):
        title = f"{count(len(tasks), 'task')}, {over} no longer waiting"
    rest = f"And {len(tasks) - shown} more in the CRM. " if shown < len(tasks) else ""
    header = {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}}
    footer = _small(f"{rest}Dossiers and first messages are in the task lists.")
    owners = ", ".join(f"<@{user}> {len(theirs)}" for user, theirs in groups.items() if user)
    named = "" if tasks[0].direct or not owners else f": {owners}"
    return f"{title}{named}", [header, *blocks, footer]


def _line(told: Told) -> list[dict[str, Any]]:
    struck = {"strike": True} if told.state in _STRUCK else {}
    return [
        _text(told.alert.account, bold=True, **struck),
        _text(f" — {told.alert.why}", **struck),
    ]


def _item(told: Told) -> list[dict[str, Any]]:
    line = _line(told)
    if told.became or told.handed_on:
        return [*line, _text("  "), *_news(told)]
    return [*line, _text(f" · due {told.alert.due}" if told.alert.due else "")] if told.alert.due else line


def _news(told: Told) -> list[dict[str, Any]]:
    """What became of it, after its emoji; or with whom it is now."""
    if not told.became:
        return [_text("Now with "), *(_mention(told.user) or [_text("a colleague")])]
    return [{"type": "emoji", "name": _BECAME[told.state][0]}, _text(f" {told.became}", bold=True)]


def _became(handoff: Handoff, where: tzinfo) -> str:
    """ "Withdrawn: checkout started"; empty while the task is open."""
    if handoff.state not in _BECAME:
        return ""
    said = _BECAME[handoff.state][1]
    if at := getattr(handoff, _MOMENTS.get(handoff.state, ""), None):
        return f"{said} {moment(at, where)}"
    reason = plain(without_addresses(plain(handoff.reason, _LONGEST_REASON)), _LONGEST_REASON)
    return f"{said}: {reason}" if reason else said


def _details(alert: Alert) -> str:
    parts = [
        f"{capital(alert.urgency)} priority" if alert.urgency else "",
        f"score {alert.score}" if alert.score else "",
    ]
    parts += [
        f"first message due {alert.due}" if alert.due else "",
        "dossier and a first message are in your task list",
    ]
    return capital(" · ".join(part for part in parts if part))


def _many(theirs: Sequence[Told]) -> str:
    return f" · {count(len(theirs), 'task')}"


def _mention(user: str | None, otherwise: str = "") -> list[dict[str, Any]]:
    if user:
        return [{"type": "user", "user_id": user}]
    return [_text(otherwise, bold=True)] if otherwise else []


def _text(text: str, **style: bool) -> dict[str, Any]:
    return {"type": "text", "text": text} | ({"style": style} if style else {})


def _section(elements: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "rich_text_section", "elements": list(elements)}


def _small(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "plain_text", "text": text, "emoji": False}]}
