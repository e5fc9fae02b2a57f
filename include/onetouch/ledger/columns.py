"""Column types that behave alike on SQLite and PostgreSQL: moments in UTC and JSON documents."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator

from onetouch.policy import current_name


def utc(moment: datetime) -> datetime:
    """A plain datetime in UTC. Raises ValueError when `moment` has no time zone."""
    if to_plain := getattr(moment, "to_pydatetime", None):  # a pandas Timestamp
        moment = to_plain(warn=False)
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; give an aware datetime")
    return moment.astimezone(UTC)


def encode(document: Any) -> str:
    """Canonical JSON, ASCII only, so that any text (NUL, lone surrogates) is stored alike on both engines.

    Raises ValueError on NaN and TypeError on a type that JSON does not have (NumPy's scalars are taken as numbers).
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_scalar)


def _scalar(value: Any) -> Any:
    import numpy as np  # imported here and below, so that a command that reads only the ledger starts without them

    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def missing(value: Any) -> bool:
    """Whether a value of a frame's row is unknown: None, NaN, NaT or NA."""
    import numpy as np
    import pandas as pd

    return (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, float | np.floating) and math.isnan(value))
    )


def clean(content: str) -> str:
    """Text without the characters PostgreSQL (NUL) or UTF-8 (lone surrogates) cannot hold."""
    return content.replace("\0", "").encode("utf-8", "ignore").decode()


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC to the microsecond."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC; without a zone for SQLite, which keeps none and whose text then sorts by time."""
        if value is None:
            return None
        return utc(value).replace(tzinfo=None) if dialect.name == "sqlite" else utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The stored moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Document(TypeDecorator[Any]):
    """A JSON value as canonical text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """The value as canonical JSON; None is SQL's NULL."""
        return None if value is None else encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The parsed document."""
        return None if value is None else json.loads(value)


def storable(value: Any) -> Any:
    """A value from another system in a form that lake and ledger can store: NUL and lone surrogates are removed."""
    return clean(value) if isinstance(value, str) else value


class SignalNames(Document):
    """A list of signal names; names from earlier releases are read as the current ones."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The parsed list, with the current names."""
        names = super().process_result_value(value, dialect)
        return None if names is None else [current_name(name) for name in names]
