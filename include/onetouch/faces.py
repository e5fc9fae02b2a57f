"""Lazy imports for the faces of rooms, which are the packages of the library.

A room's `__init__.py`, its face, lists the names that the room offers as imports under `if TYPE_CHECKING:`, where type
checkers, linters and editors read them, and ends with `show(__name__)`. From then on each of these names is imported
when it is first used (PEP 562), so using one name of a room does not import the dependencies of all the others:

    from typing import TYPE_CHECKING

    from onetouch.faces import show

    if TYPE_CHECKING:
        from onetouch.audit.explain import Explanation, explain

    __all__ = ["Explanation", "explain"]
    show(__name__)
"""

from __future__ import annotations

import ast
import importlib
import sys
from types import ModuleType
from typing import Any


class Face(ModuleType):
    """The module of a room whose names are imported when they are first used."""

    _files: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._files:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._files[name]), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Python sets each imported file of the room as an attribute here. A file with the same name as something that
        # the room offers (explain.py) must not hide it.
        if isinstance(value, ModuleType) and name in self._files:
            value = getattr(importlib.import_module(self._files[name]), name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._files})


def show(room: str) -> None:
    """Makes the face of the room (its `__name__`) import each name under `if TYPE_CHECKING:` when it is first used.

    Raises ImportError when `__all__` differs from the listed names.
    """
    face = sys.modules[room]
    assert face.__spec__ is not None and face.__spec__.loader is not None
    source = face.__spec__.loader.get_source(room)  # type: ignore[attr-defined]  # every loader of files has it
    files: dict[str, str] = {}
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for line in block.body:
                assert isinstance(line, ast.ImportFrom) and line.module
                files |= {alias.name: line.module for alias in line.names}
    if odd := set(files) ^ set(face.__all__):
        raise ImportError(f"{room}: {', '.join(sorted(odd))}: in __all__ or under TYPE_CHECKING only; list it in both")
    face.__class__ = Face
    face.__dict__["_files"] = files


def load_all() -> None:
    """Imports every name of the faces imported so far, and of the faces that are imported thereby.

    For a process that forks its work, so that its children need not import these modules again.
    """
    loaded: set[str] = set()
    while new := {name: face for name, face in sys.modules.items() if isinstance(face, Face) and name not in loaded}:
        for face in new.values():
            for name in face.__all__:
                getattr(face, name)
        loaded |= set(new)
