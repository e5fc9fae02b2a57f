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

from onetouch.chat.slack import escape
from onetouch.handoff import Alert, plain, without_addresses
from onetouch.handoff.words import capital, count, near_moment, zone
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

    `became` is what is said of its state, a word and the rest (both empty: open), `user` the Slack id of its present
    owner (None: not known there), `handed_on` whether that is another than the one it was announced to, `direct`
    whether the message is the owner's own.
    """

    alert: Alert
    state: str
    became: tuple[str, str] = ("", "")
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
    open_now = told.state == "task_open"
    # Whoever has it now is named once: before the line, or after it as news.
    mention = [] if told.direct or (told.handed_on and open_now) else _mention(told.user)
    elements = [_section([*mention, *([_text(" ")] if mention else []), *_line(told)])]
    if not open_now:
        elements.append(_section(_news(told)))
    elif told.handed_on:
        elements.append(_section([_text("Now with "), *(_mention(told.user) or [_text("a colleague")])]))
    blocks: Blocks = [{"type": "rich_text", "elements": elements}]
    if open_now:
        blocks.append(_small(_details(told.alert)))
    line = told.alert.text if open_now else f"{''.join(told.became)} · {told.alert.account} — {told.alert.why}"
    return (f"<@{told.user}>: {escape(line)}" if mention and told.user else escape(line)), blocks


def erased() -> tuple[str, Blocks]:
    """What is left of a message about an account that was forgotten."""
    text = "A task of an account that was deleted."
    return text, [_small(text)]


def digest(tasks: Sequence[Told]) -> tuple[str, Blocks]:
    """One message for many tasks, in the order given, grouped by owner; what has no room is counted."""
    groups: dict[str | None, list[Told]] = {}
    for told in sorted(tasks, key=lambda told: told.user is None):
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
        head = [*_mention(user, "Owner not known in Slack"), _text(f" · {count(len(theirs), 'task')}")]
        listed = {"type": "rich_text_list", "style": "bullet", "elements": items}
        blocks.append({"type": "rich_text", "elements": [listed] if tasks[0].direct else [_section(head), listed]})
    title = count(len(tasks), "new task")
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
    if told.state != "task_open":
        return [*_line(told), _text(" · "), *_news(told)]
    rest = (f" · due {told.alert.due}" if told.alert.due else "") + (" · handed on" if told.handed_on else "")
    return [*_line(told), _text(rest)] if rest else _line(told)


def _news(told: Told) -> list[dict[str, Any]]:
    """What became of it, after its emoji."""
    said, more = told.became
    emoji = {"type": "emoji", "name": _BECAME[told.state][0]}
    return [emoji, _text(f" {said}", bold=True), *([_text(more)] if more else [])]


def _became(handoff: Handoff, where: tzinfo) -> tuple[str, str]:
    """("Withdrawn", ": checkout started"), ("Contacted", " Tue 18 Nov, 11:00 CET")."""
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
        "dossier in your task list",
    ]
    return capital(" · ".join(part for part in parts if part))


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
