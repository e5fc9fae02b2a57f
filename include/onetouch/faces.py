"""Faces of rooms that load a file only when something of it is asked for.

A room's `__init__.py`, its face, lists what the room offers as imports under `if TYPE_CHECKING:`, where type checkers,
linters and editors read them, and ends with `show(__name__)`. From then on each of these names is imported when it is
first asked for (PEP 562), so that whoever needs one thing of a room does not wait for the libraries of all the others:

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
    """A room whose names are imported when they are first asked for."""

    _files: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._files:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._files[name]), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Python sets each file of the room here once it is imported. One that is called as what it offers (explain.py)
        # must not hide that.
        if isinstance(value, ModuleType) and name in self._files:
            value = getattr(importlib.import_module(self._files[name]), name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._files})


def show(room: str) -> None:
    """Makes the face of the room (its `__name__`) import what it lists under `if TYPE_CHECKING:` when it is asked for.

    Raises ImportError when `__all__` and what is listed differ.
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
    """Imports all that the faces known so far promise, and that of the faces these lead to.

    For a process that forks its work: what it has imported, its children need not.
    """
    loaded: set[str] = set()
    while new := {name: face for name, face in sys.modules.items() if isinstance(face, Face) and name not in loaded}:
        for face in new.values():
            for name in face.__all__:
                getattr(face, name)
        loaded |= set(new)
