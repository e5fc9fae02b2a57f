"""Slack's checks of Block Kit: what is refused, and with which messages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_MAX_BLOCKS: Final = 50
MAX_CHARACTERS: Final = 13_200
_BROADCAST: Final = re.compile(r"<!(channel|here|everyone)")

FileState = Callable[[dict[str, Any]], bool]


def read_blocks(value: Any) -> list[Any] | None:
    """Blocks from a list or from JSON text; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def check_blocks(blocks: list[Any], usable_file: FileState) -> list[str]:
    """The problems Slack would report, each with its JSON pointer; empty when the blocks are valid.

    `usable_file` says whether a `slack_file` object names a processed picture.
    """
    if len(blocks) > _MAX_BLOCKS:
        return [f"no more than {_MAX_BLOCKS} items allowed [json-pointer:/blocks]"]
    problems: list[str] = []
    ids: set[str] = set()
    for i, block in enumerate(blocks):
        at = f"/blocks/{i}"
        if not isinstance(block, dict):
            problems.append(f"must be an object [json-pointer:{at}]")
            continue
        check = _CHECKS.get(str(block.get("type")))
        if not check:
            problems.append(f"unsupported type: {block.get('type')} [json-pointer:{at}/type]")
            continue
        block_id = block.get("block_id")
        if block_id is not None and (not isinstance(block_id, str) or len(block_id) > 255 or block_id in ids):
            problems.append(
                f"`block_id` must be a unique string of at most 255 characters [json-pointer:{at}/block_id]"
            )
        elif block_id is not None:
            ids.add(block_id)
        problems.extend(check(block, at, usable_file))
    return problems


def count_characters(blocks: list[Any]) -> int:
    """The number of characters in all texts of the blocks."""
    return sum(len(text) for block in blocks for text in _texts(block))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("text", "alt_text", "title", "image_url", "url") and isinstance(inner, str):
                yield inner
            else:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _text(value: Any, at: str, most: int, *, plain: bool = False) -> list[str]:
    if not isinstance(value, dict):
        return [f"missing required field: text [json-pointer:{at}]"]
    kinds = ("plain_text",) if plain else ("plain_text", "mrkdwn")
    if value.get("type") not in kinds:
        return [f"must be one of: {', '.join(kinds)} [json-pointer:{at}/type]"]
    extra = value.keys() - {"type", "text", "emoji" if value["type"] == "plain_text" else "verbatim"}
    if extra:
        return [f"invalid additional property: {sorted(extra)[0]} [json-pointer:{at}]"]
    return _string(value.get("text"), f"{at}/text", most)


def _string(value: Any, at: str, most: int) -> list[str]:
    if not isinstance(value, str):
        return [f"must be a string [json-pointer:{at}]"]
    if not value:
        return [f"must be more than 0 characters [json-pointer:{at}]"]
    if len(value) > most:
        return [f"must be less than {most + 1} characters [json-pointer:{at}]"]
    return []


def _section(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    problems = _extra(block, at, {"text", "fields", "accessory", "expand"})
    if "text" not in block and "fields" not in block:
        problems.append(f"must provide at least one of: text, fields [json-pointer:{at}]")
    if "text" in block:
        problems += _text(block["text"], f"{at}/text", 3000)
    if "fields" in block:
        fields = block["fields"]
        if not isinstance(fields, list) or not 1 <= len(fields) <= 10:
            return [*problems, f"must be a list of 1 to 10 items [json-pointer:{at}/fields]"]
        for i, item in enumerate(fields):
            problems += _text(item, f"{at}/fields/{i}", 2000)
    if "accessory" in block:
        problems += _element(block["accessory"], f"{at}/accessory", usable_file)
    return problems


def _header(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    return _extra(block, at, {"text", "level"}) + _text(block.get("text"), f"{at}/text", 150, plain=True)


def _divider(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    return _extra(block, at, set())


def _image(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    problems = _extra(block, at, {"alt_text", "image_url", "slack_file", "title"})
    problems += _string(block.get("alt_text"), f"{at}/alt_text", 2000)
    if "title" in block:
        problems += _text(block["title"], f"{at}/title", 2000, plain=True)
    if ("image_url" in block) == ("slack_file" in block):
        problems.append(f"must provide exactly one of: image_url, slack_file [json-pointer:{at}]")
    elif "slack_file" in block:
        file = block["slack_file"]
        if not isinstance(file, dict) or len(file.keys() & {"id", "url"}) != 1 or not usable_file(file):
            problems.append(f"invalid slack file [json-pointer:{at}/slack_file]")
    else:
        url = block["image_url"]
        problems += _string(url, f"{at}/image_url", 3000)
        if not problems and not url.startswith("https://"):
            problems.append(f"downloading image failed [json-pointer:{at}/image_url]")
    return problems


def _context(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    problems = _extra(block, at, {"elements"})
    elements = block.get("elements")
    if not isinstance(elements, list) or not 1 <= len(elements) <= 10:
        return [*problems, f"must be a list of 1 to 10 items [json-pointer:{at}/elements]"]
    for i, element in enumerate(elements):
        where = f"{at}/elements/{i}"
        if isinstance(element, dict) and element.get("type") == "image":
            problems += _image(element, where, usable_file)
        else:
            problems += _text(element, where, 3000)
    return problems


def _actions(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    problems = _extra(block, at, {"elements"})
    elements = block.get("elements")
    if not isinstance(elements, list) or not 1 <= len(elements) <= 25:
        return [*problems, f"must be a list of 1 to 25 items [json-pointer:{at}/elements]"]
    ids: set[str] = set()
    for i, element in enumerate(elements):
        where = f"{at}/elements/{i}"
        problems += _element(element, where, usable_file)
        its_id = element.get("action_id") if isinstance(element, dict) else None
        if its_id in ids:
            problems.append(f"`action_id` must be unique within its block [json-pointer:{where}/action_id]")
        elif isinstance(its_id, str):
            ids.add(its_id)
    return problems


def _element(element: Any, at: str, usable_file: FileState) -> list[str]:
    if not isinstance(element, dict):
        return [f"must be an object [json-pointer:{at}]"]
    if element.get("type") == "image":
        return _image(element, at, usable_file)
    if element.get("type") != "button":
        return [f"unsupported type: {element.get('type')} [json-pointer:{at}/type]"]
    problems = _text(element.get("text"), f"{at}/text", 75, plain=True)
    if "action_id" in element:
        problems += _string(element["action_id"], f"{at}/action_id", 255)
    if extra := element.keys() - _BUTTON:
        problems.append(f"invalid additional property: {sorted(extra)[0]} [json-pointer:{at}]")
    if "url" in element:
        problems += _string(element["url"], f"{at}/url", 3000)
    if "value" in element:
        problems += _string(element["value"], f"{at}/value", 2000)
    if element.get("style") not in (None, "primary", "danger"):
        problems.append(f"must be one of: primary, danger [json-pointer:{at}/style]")
    return problems


_BUTTON: Final = {"type", "text", "action_id", "url", "value", "style", "confirm", "accessibility_label"}


def _markdown(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    return _extra(block, at, {"text"}) + _string(block.get("text"), f"{at}/text", 12_000)


def _rich_text(block: dict[str, Any], at: str, usable_file: FileState) -> list[str]:
    return _extra(block, at, {"elements"}) + _each(block.get("elements"), f"{at}/elements", _RICH, "rich text")


def _each(
    elements: Any, at: str, known: Mapping[str, Callable[[dict[str, Any], str], list[str]]], what: str
) -> list[str]:
    if not isinstance(elements, list) or not elements:
        return [f"must be a list of {what} elements [json-pointer:{at}]"]
    problems: list[str] = []
    for i, element in enumerate(elements):
        where = f"{at}/{i}"
        kind = str(element.get("type")) if isinstance(element, dict) else "none"
        if kind not in known:
            problems.append(f"unsupported type: {kind} [json-pointer:{where}/type]")
        else:
            problems += known[kind](element, where)
    return problems


def _rich_section(element: dict[str, Any], at: str) -> list[str]:
    return _each(element.get("elements"), f"{at}/elements", _INLINE, "inline")


def _rich_list(element: dict[str, Any], at: str) -> list[str]:
    problems = (
        []
        if element.get("style") in ("bullet", "ordered")
        else [f"must be one of: bullet, ordered [json-pointer:{at}/style]"]
    )
    return problems + _each(element.get("elements"), f"{at}/elements", {"rich_text_section": _rich_section}, "section")


def _inline(name: str, *more: str) -> Callable[[dict[str, Any], str], list[str]]:
    """The check of an inline element that needs the text `name` and may have `more`."""

    def check(element: dict[str, Any], at: str) -> list[str]:
        problems = _string(element.get(name), f"{at}/{name}", MAX_CHARACTERS)
        style = element.get("style", {})
        if (
            not isinstance(style, dict)
            or style.keys() - _STYLES
            or not all(isinstance(v, bool) for v in style.values())
        ):
            problems.append(f"invalid style [json-pointer:{at}/style]")
        extra = element.keys() - {"type", "style", name, *more}
        return problems + [f"invalid additional property: {other} [json-pointer:{at}]" for other in sorted(extra)]

    return check


_STYLES: Final = {"bold", "italic", "strike", "code", "underline"}
_INLINE: Final = {
    "text": _inline("text"),
    "user": _inline("user_id"),
    "channel": _inline("channel_id"),
    "emoji": _inline("name", "unicode"),
    "link": _inline("url", "text"),
    "broadcast": _inline("range"),
}
_RICH: Final = {
    "rich_text_section": _rich_section,
    "rich_text_quote": _rich_section,
    "rich_text_preformatted": _rich_section,
    "rich_text_list": _rich_list,
}


def notified(text: str, blocks: list[Any]) -> list[str]:
    """Which of channel, here and everyone a message notifies, besides the people it mentions. If there are blocks, only
    they count; commands in plain and rich text have no effect."""
    found = {name for shown in ([*_parsed(blocks)] if blocks else [text]) for name in _BROADCAST.findall(shown)}
    return sorted(found | {*_broadcasts(blocks)})


def _parsed(value: Any) -> Iterator[str]:
    """The texts of blocks that Slack reads as mrkdwn."""
    if isinstance(value, dict) and value.get("type") in ("mrkdwn", "markdown"):
        yield str(value.get("text", ""))
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _parsed(inner)


def _broadcasts(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value.get("type") == "broadcast":
        yield str(value.get("range"))
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _broadcasts(inner)


def _extra(block: dict[str, Any], at: str, allowed: set[str]) -> list[str]:
    extra = block.keys() - allowed - {"type", "block_id"}
    return [f"invalid additional property: {name} [json-pointer:{at}]" for name in sorted(extra)]


_CHECKS: Final[dict[str, Callable[[dict[str, Any], str, FileState], list[str]]]] = {
    "section": _section,
    "header": _header,
    "divider": _divider,
    "image": _image,
    "context": _context,
    "actions": _actions,
    "markdown": _markdown,
    "rich_text": _rich_text,
}
