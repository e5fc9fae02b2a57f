"""Seventeen faults of a vendor or of its tracking, each planted in a frame of canonical events."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

INTENT = (
    "pricing_viewed", "plan_question_asked", "demo_requested", "premium_feature_attempted", "limit_reached",
    "sso_configured", "permissions_changed", "teammate_invited",
)  # fmt: skip
HOURS_OFF = 8

Fault = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def _half(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame[rng.random(len(frame)) < 0.5]


def _tenth(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame[rng.random(len(frame)) < 0.1]


def _nothing(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.head(0)


def _without(name: str) -> Fault:
    return lambda frame, rng: frame[frame["event"] != name]


def _renamed(*names: str) -> Fault:
    """Names in the vendor's other spelling: `Checkout Started`."""

    def plant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        theirs = frame["event"].isin(names) if names else pd.Series(True, index=frame.index)
        spelled = frame["event"].str.replace("_", " ").str.title()
        return frame.assign(event=frame["event"].mask(theirs, spelled))

    return plant


def _twice(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return pd.concat([frame, frame.assign(event_id=frame["event_id"] + "-again")])


def _storm(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A client that sends a third of the events thirty times, each with a time of its own."""
    some = frame[rng.random(len(frame)) < 1 / 3]
    more = pd.concat([some] * 29)
    later = pd.to_timedelta(rng.integers(1, 60_000_000, len(more)), unit="us")
    again = more.assign(
        event_id=[f"{n}-{i}" for i, n in enumerate(more["event_id"])], occurred_at=more["occurred_at"] + later
    )
    return pd.concat([frame, again])


def _one(column: str, value: str | None) -> Fault:
    return lambda frame, rng: frame.assign(**{column: value}).astype({column: "str"})


def _shifted(hours: int) -> Fault:
    return lambda frame, rng: frame.assign(occurred_at=frame["occurred_at"] + pd.Timedelta(hours=hours))


def _without_properties(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(properties="{}")


FAULTS: dict[str, Fault] = {
    "nothing arrives": _nothing,
    "a tenth of the volume": _tenth,
    "half of the volume": _half,
    "a client repeats itself thirtyfold": _storm,
    "checkout_started is missing": _without("checkout_started"),
    "checkout_started is renamed": _renamed("checkout_started"),
    "checkout_completed is missing": _without("checkout_completed"),
    "feature_used is missing": _without("feature_used"),
    "the events of intent are renamed": _renamed(*INTENT),
    "every event is renamed": _renamed(),
    "every event twice, under new ids": _twice,
    "all events from one user": _one("user_id", "u-1"),
    "no event has a user": _one("user_id", None),
    "all events of one account": _one("account_id", "null"),
    "times are 8 hours ahead": _shifted(HOURS_OFF),
    "times are 8 hours late": _shifted(-HOURS_OFF),
    "no event has properties": _without_properties,
}
