"""Reads the text files that a policy may name: lists of companies or people, one entry a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from onetouch.policy.schema import entry_of
from onetouch.policy.written import PolicyError

_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
_HEADERS = {"entry", "domain", "domains", "email", "e-mail", "account", "account_id", "id", "who", "company", "person"}
"""First cells that mark the first line of a file as its header."""


class Entry(NamedTuple):
    """What a line names, the reason behind its first comma ("": none), and its number, which counts from 1."""

    entry: str
    reason: str
    line: int


def entries_in(path: Path, key: str) -> Iterator[Entry]:
    """The entries of the file that the policy's `key` names, without empty lines, comments (`#`) and a header.

    Raises PolicyError when the file cannot be read as text, or a line holds a reason without an entry.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a ValueError: no UTF-8, or a path that no file can have
        shown = path if str(path).isprintable() else repr(str(path))
        raise PolicyError(
            f"{key}: {shown} cannot be read ({type(error).__name__}); give a text file of one entry a line"
        ) from None
    for line, content in enumerate(text.splitlines(), start=1):
        content = content.strip()
        if not content or content.startswith("#"):
            continue
        entry, reason = entry_of(content)
        if not entry:
            raise PolicyError(f"{key}: {path}: line {line} has no entry before the comma; give one, or remove it")
        if line == 1 and entry.lower() in _HEADERS:
            continue
        yield Entry(entry, reason, line)


def host_of(entry: str) -> str:
    """The host of a domain as people write it: `https://www.Rival.example/de`, `@rival.example`, `*.rival.example`."""
    text = entry.strip().lower().lstrip("@*.")
    host = urlsplit(text if "//" in text else f"//{text}").hostname or text
    return host.removeprefix("www.").rstrip(".")


def is_host(text: str) -> bool:
    """Whether a text in lower case is a host, as `host_of` gives it."""
    return _HOST.fullmatch(text) is not None
