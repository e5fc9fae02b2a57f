"""Reading a policy file: the file is laid over the preset it extends, if any, and the defaults, and then validated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from onetouch.policy.naming import Replaced
from onetouch.policy.schema import FROM_FILE, Policy, suggestion
from onetouch.policy.upgrade import renamed
from onetouch.policy.written import PolicyError, field_of, read_document, short

MOST = 10**15  # ours: no amount of anything in a policy is larger
LONGEST = {"days": 36_500, "hours": 876_000, "weeks": 5_200}  # ours: a century, which stands for "without end"
PRESETS = ("default", "weighted")
"""The presets a policy may extend: S4's points, or S0's weighted indicators laid over them."""


def preset_document(name: str = "default") -> dict[str, Any]:
    """A whole preset as plain values."""
    document = _shipped("default")
    return document if name == "default" else overlay(document, _shipped(name))


def _shipped(name: str) -> dict[str, Any]:
    text = files("onetouch.policy").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    # libyaml's loader, where it is installed, is ten times as fast; a user's own file is read strictly (`written`).
    document: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe ones
    return document


def read_policy(path: Path | str | None = None) -> Policy:
    """The policy of `path` laid over what it `extends` (mappings merged, lists replaced; None: the defaults).

    The file may use the names that signals had in former releases.

    Raises PolicyError: unreadable file, not YAML, unknown key, value out of range.
    """
    if path is None:
        return Policy.model_validate(preset_document())
    path = Path(path)
    document = renamed(read_document(path))[0]
    preset = document.pop("extends", "default")
    if preset not in PRESETS:
        raise PolicyError(f"{path}: extends: {short(preset)} is not allowed; allowed: {', '.join(PRESETS)}")
    try:
        policy = Policy.model_validate(overlay(preset_document(preset), document), context=FROM_FILE)
    except ValidationError as error:
        raise PolicyError("\n".join(problems(error, path))) from error
    if beyond := [f"{path}: {line}" for line in _beyond(policy.document(), ())]:
        raise PolicyError("\n".join(beyond))
    return policy


def _beyond(value: Any, at: tuple[str, ...]) -> Iterator[str]:
    """A line for each number that nobody can mean."""
    if isinstance(value, dict | list):
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _beyond(item, (*at, str(step)))
    elif isinstance(value, int | float):
        if abs(value) > MOST:
            yield f"{field_of(at)}: {short(value)} is not allowed; give a number up to {MOST:,}"
        for unit, most in LONGEST.items():
            if value > most and any(key == unit or key.endswith(f"_{unit}") for key in at[-2:]):
                yield f"{field_of(at)}: {short(value)} is not allowed; give {most:,} {unit} or fewer: that is a century"


def former_names(path: Path | str) -> list[Replaced]:
    """The former names of signals that a policy file uses; `read_policy` replaces them with today's names.

    Raises PolicyError for a file that is no mapping.
    """
    return renamed(read_document(Path(path)))[1]


def overlay(base: Any, over: Any) -> Any:
    """`over` laid over `base`: mappings are merged key by key, everything else is replaced whole."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: overlay(base.get(k), v) for k, v in over.items()}}
    return over


def problems(
    error: ValidationError, where: Path | str, model: type[BaseModel] = Policy, at: tuple[str, ...] = ()
) -> list[str]:
    """One line per problem: file, field, value, what is allowed; `at`: the place of the `model` within the policy."""
    return [f"{where}: {_said(problem, model, at)}" for problem in error.errors()]


def _said(problem: ErrorDetails, model: type[BaseModel], at: tuple[str, ...]) -> str:
    field, given = field_of((*at, *problem["loc"])) or "(file)", problem["input"]
    if problem["type"] == "extra_forbidden":
        allowed = _fields_at(model, problem["loc"][:-1])
        hint = suggestion(str(problem["loc"][-1]), allowed) or f"allowed: {', '.join(allowed)}"
        return f"{field}: unknown key (value {short(given)}); {hint.strip()}"
    return f"{field}: {short(given)} is not allowed; {_wanted(problem, model)}"


def _wanted(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """What would be allowed, in a line."""
    kind, given, said = problem["type"], problem["input"], " ".join(problem["msg"].split())
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        keys = _fields_at(model, problem["loc"])
        return "give a mapping, a line `key: value` for each" + (f" of {', '.join(keys)}" if keys else "")
    if kind == "list_type":
        return "give a list: [one, another]"
    if kind == "string_type" and isinstance(given, bool | int | float | date):
        return "put it in quotes" + (": YAML reads yes, no, on and off as true and false" if given in (0, 1) else "")
    if kind == "literal_error":
        expected = problem["ctx"]["expected"]
        return suggestion(str(given), re.findall(r"'([^']*)'", expected)) + f"allowed: {expected}"
    return "Field required: add it" if kind == "missing" else said.removeprefix("Value error, ")


def _fields_at(model: Any, loc: tuple[Any, ...]) -> list[str]:
    """Keys allowed at a place of a document that the model describes."""
    for step in loc:
        if isinstance(model, type) and issubclass(model, BaseModel) and step in model.model_fields:
            model = model.model_fields[step].annotation
        while getattr(model, "__args__", None) and not (isinstance(model, type) and issubclass(model, BaseModel)):
            model = model.__args__[-1] if getattr(model, "__origin__", None) is dict else model.__args__[0]
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [f.alias or name for name, f in model.model_fields.items()]
    return []
