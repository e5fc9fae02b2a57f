"""Reading a policy file: the file is laid over the preset it extends, if any, and the defaults, and then validated."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from onetouch.policy.naming import Replaced
from onetouch.policy.schema import Policy
from onetouch.policy.upgrade import renamed


class PolicyError(ValueError):
    """A policy file that cannot be used. The message names file, field, value and what is allowed."""


PRESETS = ("default", "weighted")
"""The presets a policy may extend: S4's points, or S0's weighted indicators laid over them."""


def preset_document(name: str = "default") -> dict[str, Any]:
    """A whole preset as plain values."""
    document = _shipped("default")
    return document if name == "default" else overlay(document, _shipped(name))


def _shipped(name: str) -> dict[str, Any]:
    text = files("onetouch.policy").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    # libyaml's loader, where it is installed, is ten times as fast; a user's own file is read by the Python loader,
    # whose error messages are clearer.
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
    document = renamed(_document(path))[0]
    preset = document.pop("extends", "default")
    if preset not in PRESETS:
        raise PolicyError(f"{path}: extends: {_short(preset)} is not allowed; allowed: {', '.join(PRESETS)}")
    try:
        return Policy.model_validate(overlay(preset_document(preset), document))
    except ValidationError as error:
        raise PolicyError("\n".join(problems(error, path))) from error


def former_names(path: Path | str) -> list[Replaced]:
    """The former names of signals that a policy file uses; `read_policy` replaces them with today's names.

    Raises PolicyError for a file that is no mapping.
    """
    return renamed(_document(Path(path)))[1]


def _document(path: Path) -> dict[str, Any]:
    """The document in a policy file. Raises PolicyError: unreadable file, not YAML, no mapping."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read ({error}); give the path of a YAML file") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise PolicyError(f"{path}:{line} is not YAML: {getattr(error, 'problem', error)}") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise PolicyError(f"{path}: is a {type(document).__name__}; a policy is a mapping of sections")
    return document


def overlay(base: Any, over: Any) -> Any:
    """`over` laid over `base`: mappings are merged key by key, everything else is replaced whole."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: overlay(base.get(k), v) for k, v in over.items()}}
    return over


def problems(
    error: ValidationError, where: Path | str, model: type[BaseModel] = Policy, at: tuple[str, ...] = ()
) -> list[str]:
    """One line per problem: file, field, value, what is allowed; `at`: the place of the `model` within the policy."""
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in (*at, *problem["loc"])) or "(file)"
        if problem["type"] == "extra_forbidden":
            allowed = _fields_at(model, problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(allowed)}"
            lines.append(f"{where}: {field}: unknown key (value {_short(problem['input'])}); {hint}")
        else:
            why = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {field}: {_short(problem['input'])} is not allowed; {why}")
    return lines


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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
