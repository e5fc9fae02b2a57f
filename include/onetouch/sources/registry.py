"""The registry of sources: one line each; a source's module is imported when it is used."""

from __future__ import annotations

from importlib import import_module

from onetouch.policy import Policy, PolicyError, suggestion
from onetouch.sources.protocol import Source
from onetouch.sources.raw import ExportError

SOURCES = {
    "amplitude": "onetouch.sources.amplitude",
}
"""Name of a source → the module that holds it as SOURCE."""


def source_of(name: str) -> Source:
    """The source of that name. Raises ExportError for a name that is not registered."""
    if name not in SOURCES:
        raise ExportError(f"source {name!r} is not known; known: {', '.join(sorted(SOURCES))}")
    source: Source = import_module(SOURCES[name]).SOURCE
    return source


def check_sources(policy: Policy, where: object = "policy") -> None:
    """Raises PolicyError, beginning with `where`, when a policy names a source that is not registered."""
    for name in policy.sources:
        if name not in SOURCES:
            hint = suggestion(name, SOURCES)
            raise PolicyError(f"{where}: sources: {name!r} is not allowed; {hint}allowed: {', '.join(sorted(SOURCES))}")
