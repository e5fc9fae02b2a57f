"""Where a document names signals, and how such names are replaced.

The types of the document's model mark those places: `NAME` marks a text that is the name of a signal (or of a column
made from one, such as `{signal}_at`), `PLACEHOLDERS` a text with such names in braces, `Overlay` a mapping laid over
another model's document. Names are found by walking the types, so a vendor's event or a person's text that happens to
be spelled like a signal stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from onetouch.policy import texts

Table = Mapping[str, str]
"""Signal of a former release → its name today."""


class Mark(Enum):
    """What a text of a document holds."""

    NAME = "the name of a signal, or of a column made from one"
    PLACEHOLDERS = "a text with such names in braces"


NAME, PLACEHOLDERS = Mark


@dataclass(frozen=True)
class Overlay:
    """Marks a mapping that holds a part of a document of `model`."""

    model: type[BaseModel]


@dataclass(frozen=True)
class Replaced:
    """One replaced name: its place, as a path into the document, and both names."""

    field: str
    old: str
    new: str


MOMENTS = ("_at", "_ago")
"""Suffixes of the column that holds when a signal last occurred, and of the fact that says how long ago that was."""

CONTEXT = "context:"
"""Prefix of the name of an obstacle that is a missing field of the account record."""


def new_name(name: str, table: Table) -> str:
    """Today's name of a signal, of the column of its last moment, or of the obstacle of its absence."""
    if name.startswith(CONTEXT):
        return CONTEXT + new_name(name.removeprefix(CONTEXT), table)
    if name in table:
        return table[name]
    for suffix in MOMENTS:
        signal = name.removesuffix(suffix)
        if signal != name and signal in table:
            return table[signal] + suffix
    return name


def replace_names(document: Any, model: type[BaseModel], table: Table) -> tuple[Any, list[Replaced]]:
    """A copy of a document of `model`, or of a part of one, with today's names; and the names that were replaced.

    Parts that do not fit the model are left alone: the validation that reads the document next reports what is wrong.
    """
    found: list[Replaced] = []

    def leaf(path: str, old: str, replaced: str, new: Callable[[str], str]) -> str:
        if replaced != old:
            names = texts.names(old) if "{" in old else {old}
            found.extend(Replaced(path, name, new(name)) for name in sorted(names) if new(name) != name)
        return replaced

    def new(name: str) -> str:
        return new_name(name, table)

    def walk(value: Any, kind: Any, marks: tuple[Any, ...], path: str) -> Any:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            return walk(value, kind, (*marks, *more), path)
        if get_origin(kind) in (Union, UnionType):
            kinds = [k for k in get_args(kind) if k is not NoneType]
            fitting = [k for k in kinds if _holds(k, value)]
            return walk(value, (fitting or kinds)[0], marks, path)
        overlay = next((mark.model for mark in marks if isinstance(mark, Overlay)), None)
        if overlay is not None:
            return walk(value, overlay, (), path)
        if isinstance(value, str):
            if NAME in marks:
                return leaf(path, value, new(value), new)
            if PLACEHOLDERS in marks:
                return leaf(path, value, texts.rename(value, new), new)
            return leaf(path, value, table.get(value, value), new) if kind is Any else value
        if isinstance(value, Mapping):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                fields = {f.alias or name: f for name, f in kind.model_fields.items()}
                return {
                    key: walk(item, fields[key].annotation, tuple(fields[key].metadata), _below(path, key))
                    if key in fields
                    else item
                    for key, item in value.items()
                }
            of_keys, of_values = get_args(kind) if get_origin(kind) is dict else (str, Any if kind is Any else str)
            return {
                walk(key, of_keys, (), path): walk(item, of_values, (), _below(path, key))
                for key, item in value.items()
            }
        if isinstance(value, list):
            of_items = (get_args(kind) or (Any,))[0] if get_origin(kind) is list else kind
            return [walk(item, of_items, (), _below(path, place)) for place, item in enumerate(value)]
        return value

    return walk(document, model, (), ""), found


def _holds(kind: Any, value: Any) -> bool:
    """Whether the value may belong to this member of a union."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    origin = get_origin(bare) or bare
    if isinstance(value, Mapping):
        return origin is dict or (isinstance(origin, type) and issubclass(origin, BaseModel))
    return origin is list if isinstance(value, list) else isinstance(value, str) and origin is str


def _below(path: str, step: Any) -> str:
    return f"{path}.{step}" if path else str(step)
