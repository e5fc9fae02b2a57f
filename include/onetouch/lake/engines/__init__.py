"""The registry of engines, which read, compute and write tables of the lake. An engine is imported when it is used."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from onetouch.lake.engines.protocol import ISO_8601, Engine

if TYPE_CHECKING:
    from onetouch.lake.files import Files

__all__ = ["DEFAULT_ENGINE", "ENGINES", "ISO_8601", "Engine", "open_engine"]

ENGINES = {
    "duckdb": "onetouch.lake.engines.duckdb:DuckDB",
}
"""Name of an engine → module and class; `open_engine` calls the class with a lake and limits."""

DEFAULT_ENGINE = "duckdb"


def open_engine(name: str, lake: Files, **limits: Any) -> AbstractContextManager[Engine]:
    """A session of the engine `name` on a lake; `limits` as in `Lake.engine`. Raises ValueError for an unknown name."""
    if name not in ENGINES:
        raise ValueError(f"engine {name!r} is not known; known: {', '.join(sorted(ENGINES))}")
    module, kind = ENGINES[name].split(":")
    session: AbstractContextManager[Engine] = getattr(import_module(module), kind)(lake, **limits)
    return session
