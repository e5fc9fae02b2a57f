"""Slack's mrkdwn as safe HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup, escape

_CODE: Final = re.compile(r"```(.+?)```|`([^`\n]+)`", re.DOTALL)
_CONTROL: Final = re.compile(r"<([^<>\n]+)>")
_STYLES: Final = (
    (re.compile(r"(?<![\w*])\*(\S(?:[^*\n]*?\S)?)\*(?![\w*])"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![\w_])_(\S(?:[^_\n]*?\S)?)_(?![\w_])"), r"<em>\1</em>"),
    (re.compile(r"(?<![\w~])~(\S(?:[^~\n]*?\S)?)~(?![\w~])"), r"<s>\1</s>"),
)
_EMOJI: Final = {
    "rotating_light": "🚨", "fire": "🔥", "white_check_mark": "✅", "warning": "⚠️", "bell": "🔔", "alarm_clock": "⏰",
    "chart_with_upwards_trend": "📈", "chart_with_downwards_trend": "📉", "bar_chart": "📊", "dart": "🎯", "tada": "🎉",
    "eyes": "👀", "moneybag": "💰", "hourglass": "⌛", "x": "❌", "arrow_up": "⬆️", "arrow_down": "⬇️", "bulb": "💡",
    "large_green_circle": "🟢", "large_yellow_circle": "🟡", "red_circle": "🔴", "no_entry": "⛔", "zap": "⚡",
    "leftwards_arrow_with_hook": "↩️",
    "point_right": "👉", "wave": "👋", "handshake": "🤝", "speech_balloon": "💬", "calendar": "📅", "rocket": "🚀",
}  # fmt: skip
_RICH: Final = {
    "rich_text_section": "<div>{}</div>",
    "rich_text_quote": "<blockquote>{}</blockquote>",
    "rich_text_preformatted": "<pre>{}</pre>",
}
_TAGS: Final = {"code": "code", "bold": "strong", "italic": "em", "strike": "s"}


def render(text: str, names: Mapping[str, str]) -> Markup:
    """`text` as people see it; `names`: id of a user or channel → its name."""
    out, at = Markup(), 0
    for match in _CODE.finditer(text):
        out += _lines(text[at : match.start()], names)
        around = Markup("<pre>{}</pre>") if match[1] else Markup("<code>{}</code>")
        out += around.format(_plain(match[1] or match[2]).strip("\n"))
        at = match.end()
    return out + _lines(text[at:], names)


def rich(elements: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Markup:
    """The elements of a rich_text block, whose text is shown literally."""
    return Markup("").join(_rich(element, names) for element in elements)


def _rich(element: Mapping[str, Any], names: Mapping[str, str]) -> Markup:
    kind = element["type"]
    if kind == "rich_text_list":
        tag = "ol" if element.get("style") == "ordered" else "ul"
        items = Markup("").join(
            Markup("<li>{}</li>").format(rich(item["elements"], names)) for item in element["elements"]
        )
        return Markup("<{0}>{1}</{0}>").format(Markup(tag), items)  # noqa: S704 - one of two
    if kind in _RICH:
        return Markup(_RICH[kind]).format(rich(element["elements"], names))  # noqa: S704 - our own tags
    shown = _piece(element, names)
    for style, tag in _TAGS.items():
        if element.get("style", {}).get(style):
            shown = Markup("<{0}>{1}</{0}>").format(Markup(tag), shown)  # noqa: S704 - one of four
    return shown


def _piece(element: Mapping[str, Any], names: Mapping[str, str]) -> Markup:
    kind = element["type"]
    if kind in ("user", "channel"):
        mark, target = ("@", element["user_id"]) if kind == "user" else ("#", element["channel_id"])
        return Markup('<span class="mention">{}{}</span>').format(mark, names.get(target, target))
    if kind == "broadcast":
        return Markup('<span class="mention loud">@{}</span>').format(element["range"])
    if kind == "emoji":
        return escape(_EMOJI.get(element["name"], f":{element['name']}:"))
    if kind == "link" and re.match(r"(https?://|mailto:)", element["url"], re.IGNORECASE):
        link = Markup('<a href="{}" rel="noreferrer noopener">{}</a>')
        return link.format(element["url"], element.get("text") or element["url"])
    return Markup("<br>").join(escape(line) for line in str(element.get("text", "")).split("\n"))


def plain(text: str) -> Markup:
    """A plain_text object: only emoji are replaced."""
    return Markup("<br>").join(escape(_emoji(line)) for line in text.split("\n"))


def _plain(text: str) -> str:
    """Text with Slack's three entities decoded."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _emoji(text: str) -> str:
    return re.sub(r":([a-z0-9_+-]+):", lambda m: _EMOJI.get(m[1], m[0]), text)


def _lines(text: str, names: Mapping[str, str]) -> Markup:
    out, quote = [], []
    for line in [*text.split("\n"), None]:
        if line is not None and re.match(r"(&gt;|>)\s?", line):
            quote.append(_inline(re.sub(r"^(&gt;|>)\s?", "", line), names))
            continue
        if quote:
            out.append(Markup("<blockquote>{}</blockquote>").format(Markup("<br>").join(quote)))
            quote = []
        if line is not None:
            out.append(_inline(line, names))
    return Markup("<br>").join(out).replace(Markup("</blockquote><br>"), Markup("</blockquote>"))


def _inline(text: str, names: Mapping[str, str]) -> Markup:
    """One line: control sequences are replaced apart from the rest, so that styles may span them."""
    held: list[Markup] = []

    def hold(match: re.Match[str]) -> str:
        held.append(_control(match[1], names))
        return f"\x00{len(held) - 1}\x00"

    safe = str(escape(_emoji(_plain(_CONTROL.sub(hold, text)))))
    for pattern, html in _STYLES:
        safe = pattern.sub(html, safe)
    return Markup(re.sub("\x00(\\d+)\x00", lambda m: str(held[int(m[1])]) if int(m[1]) < len(held) else "", safe))  # noqa: S704 - escaped above


def _control(inside: str, names: Mapping[str, str]) -> Markup:
    target, _, label = inside.partition("|")
    mark, rest = target[:1], target[1:]
    if mark in "@#" and rest:
        return Markup('<span class="mention">{}{}</span>').format(mark, _plain(label) or names.get(rest, rest))
    if mark == "!":
        return Markup('<span class="mention loud">@{}</span>').format(_plain(label) or rest.partition("^")[0])
    url = _plain(target)
    if re.match(r"(https?://|mailto:)", url, re.IGNORECASE):
        return Markup('<a href="{}" rel="noreferrer noopener">{}</a>').format(url, _plain(label) or url)
    return escape(f"<{_plain(inside)}>")
