"""The states of a handoff and the moves between them. The migrations hold the same rules as database triggers."""

from __future__ import annotations

STATES = (
    "decided",
    "context_written",
    "task_open",
    "touched",
    "replied",
    "won",
    "lost",
    "withdrawn",
    "released",
    "expired",
)

LEGAL: dict[str, frozenset[str]] = {
    "decided": frozenset({"context_written", "withdrawn", "expired"}),
    "context_written": frozenset({"task_open", "withdrawn", "expired"}),
    "task_open": frozenset({"touched", "withdrawn", "expired"}),
    # A deal may close without a logged reply. Only silence leads to `released`, so a reply rules it out (S0).
    "touched": frozenset({"replied", "won", "lost", "released", "withdrawn"}),
    "replied": frozenset({"won", "lost", "withdrawn"}),
    "won": frozenset(),
    "lost": frozenset(),
    "withdrawn": frozenset(),
    "released": frozenset(),
    "expired": frozenset(),
}
"""State → states it may move to."""

TERMINAL = frozenset(state for state, following in LEGAL.items() if not following)
"""States in which an episode has ended."""

ACTIVE = frozenset(STATES) - TERMINAL
"""States in which an account is being handled; at most one handoff of an account is in one of them."""


class LedgerError(Exception):
    """The ledger refused an operation. The message holds ids and states, never personal data."""


class IllegalMove(LedgerError):
    """The state machine does not allow this change of state."""


class NotInLedger(LedgerError, LookupError):
    """No such run, policy, handoff or outbox key."""


def check_move(handoff_id: str, from_state: str, to_state: str) -> None:
    """Raises IllegalMove unless `from_state` → `to_state` is legal."""
    if to_state not in LEGAL[from_state]:
        allowed = ", ".join(sorted(LEGAL[from_state])) or "nothing: the episode has ended"
        raise IllegalMove(f"handoff {handoff_id}: {from_state} → {to_state} is not a legal move; allowed: {allowed}")
