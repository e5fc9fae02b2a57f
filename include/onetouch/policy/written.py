"""The YAML of a policy file, read strictly: what a person could not have meant is refused, by its line and its key.

YAML lets the later of two equal keys win, reads `17:45` as the number 1,065 and the key `on` as true, and lets a few
lines stand for a billion. None of that may happen to a rule of engagement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import yaml


class PolicyError(ValueError):
    """A policy file that cannot be used. The message names file, field, value and what is allowed."""


MOST_NODES = (
    100_000  # ours: keys and values of a file, aliases counted as often as they are used; the default has 2,000
)

_LIKE = {"timestamp": "2015-01-31", "int": "10", "float": "0.5", "bool": "true"}
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    """Reads times of day as the texts that they are, not as numbers to the base of 60."""

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        if ":" in node.value:
            return node.value
        return self.construct_yaml_float(node) if node.tag.endswith("float") else self.construct_yaml_int(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def read_document(path: Path) -> dict[str, Any]:
    """The document in a policy file. Raises PolicyError, with a line that names the place, for whatever is no policy:
    an unreadable file, no YAML, a key given twice, a value that YAML cannot read or nobody can mean.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        said = f"byte {error.start} is no UTF-8; save the file as UTF-8"
        raise PolicyError(f"{path}: cannot be read ({said})") from None
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path}: cannot be read ({error}); give the path of a YAML file") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            what = "list" if isinstance(node, yaml.SequenceNode) else "single value"
            raise PolicyError(f"{path}: is a {what}; a policy is a mapping of sections")
        _Nodes(path, loader).check(node, ())
        return dict(loader.construct_document(node))
    except yaml.YAMLError as error:
        raise PolicyError(_no_yaml(path, error)) from None
    except RecursionError:
        raise PolicyError(f"{path}: is nested too deeply; a policy has six levels at most") from None


def _no_yaml(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    said = " ".join(str(problem).split())
    fix = "mend the line, or put its text in quotes"
    if "'\\t'" in said:
        fix = "indent with spaces"
    elif "block end" in said:
        fix = "indent it like the lines above that it belongs to"
    return f"{path}:{where} is not YAML: {said}; {fix}"


class _Nodes:
    """Checks the nodes of a file before any value is made of them."""

    def __init__(self, path: Path, loader: _Loader) -> None:
        self._path, self._loader = path, loader
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def check(self, node: yaml.Node, at: tuple[str, ...]) -> int:
        """Checks a node and all below it; returns how many nodes it stands for. Keys become texts, as written."""
        if id(node) in self._open:
            self._refuse(node, at, "refers to itself; write out what is meant")
        if (known := self._sizes.get(id(node))) is not None:
            return known
        self._open.add(id(node))
        size = 1
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node, at)
        elif isinstance(node, yaml.SequenceNode):
            size = 1 + sum(self.check(item, (*at, str(place))) for place, item in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            size = self._mapping(node, at)
        if size > MOST_NODES:
            self._refuse(node, at, f"stands for more than {MOST_NODES:,} values; a policy is smaller")
        self._open.discard(id(node))
        self._sizes[id(node)] = size
        return size

    def _mapping(self, node: yaml.MappingNode, at: tuple[str, ...]) -> int:
        size, lines = 1, dict[str, int]()
        for place, (key, value) in enumerate(node.value):
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, at, "has a key that is no text; write keys as words")
            if key.tag != _MERGE:
                if key.value in lines:
                    says = f"is given twice, first in line {lines[key.value]}; keep one of them"
                    self._refuse(key, (*at, key.value), says)
                lines[key.value] = key.start_mark.line + 1
                self._text(key, key.value, at)
                key = yaml.ScalarNode(_TEXT, key.value, key.start_mark, key.end_mark)
                node.value[place] = (key, value)
            size += 1 + self.check(value, (*at, key.value))
        return size

    def _scalar(self, node: yaml.ScalarNode, at: tuple[str, ...]) -> None:
        if node.tag == _MERGE:  # `[<<]`
            node.tag = _TEXT
        try:
            value = self._loader.construct_object(node)
        except (ValueError, OverflowError, LookupError, AttributeError) as error:  # the 13th month, `!!int ""`
            kind = node.tag.rpartition(":")[2]
            says = f"is no date ({error}); write one" if kind == "timestamp" else f"cannot be read as {kind}; write it"
            self._refuse(node, at, f"{short(node.value)} {says} like {_LIKE.get(kind, 'a text')}, any text in quotes")
        if isinstance(value, str):
            self._text(node, value, at)

    def _text(self, node: yaml.Node, value: str, at: tuple[str, ...]) -> None:
        if any("\ud800" <= char <= "\udfff" for char in value):
            self._refuse(node, at, f"{short(value)} is not allowed; it holds half a character; remove it")

    def _refuse(self, node: yaml.Node, at: tuple[str, ...], says: str) -> NoReturn:
        field = field_of(at) or "(file)"
        raise PolicyError(f"{self._path}: line {node.start_mark.line + 1}: {field}: {says}")


def field_of(steps: tuple[Any, ...]) -> str:
    """The path of a key as it is told: steps with dots between them, a step that is no plain text in quotes."""
    return ".".join(text if (text := str(step)).isprintable() and text else repr(text) for step in steps)


def short(value: object) -> str:
    """A value as an error message shows it: on one line, and no longer than it helps."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
