"""The error a stage of delivery raises when rows failed, after all other rows are done."""

from __future__ import annotations

from typing import Any

_SHOWN = 10
"""Names and reasons in a message; the summary holds all."""


class DeliveryFailed(Exception):
    """Some rows could not be delivered; all others were. `summary` is the stage's accounting, with each reason.

    `failed`: (name, reason) of each; the message gives every reason once, with the names it applies to.
    """

    def __init__(self, what: str, summary: dict[str, Any], failed: list[tuple[str, str]]) -> None:
        befell: dict[str, list[str]] = {}
        for name, reason in failed:
            befell.setdefault(reason, []).append(name)
        told = [f"{reason} ({_listed(names)})" for reason, names in list(befell.items())[:_SHOWN]]
        if len(befell) > _SHOWN:
            told.append(f"and {len(befell) - _SHOWN} more reasons")
        super().__init__(f"{len(failed)} {what}: {'; '.join(told)}")
        self.summary = summary


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
