"""The model of the delivery, explored to a bound: no promise broken, every handoff ends, planted bugs are found."""

from __future__ import annotations

import pytest
from onetouch.ledger import LEGAL, STATES

from judges.model.actions import Bound
from judges.model.bugs import ALONE, BUGS, HELD, LARGE, SMALL, TWICE, edges
from judges.model.code import OPERATIONS, ROWS, Code, order, outbox_table, program
from judges.model.explore import explore

DEFAULT = [
    Bound(1, 2, {"crash": 1, "answer lost": 1, "checkout": 1}),
    Bound(1, 2, {"complete": 1, "delete": 1, "refused": 1, "late": 1}),
    Bound(2, 2, {"crash": 1}),
    HELD,
    ALONE,
]

LONG = [
    SMALL,
    TWICE,
    LARGE,
    Bound(1, 2, {"crash": 2, "answer lost": 1, "complete": 1, "delete": 1, "call": 1, "reply": 1, "checkout": 1}),
    Bound(2, 2, {"crash": 1, "refused": 1, "locked": 1, "delete": 1, "complete": 1}),
    Bound(2, 2, {"crash": 1, "late": 1, "delete": 1, "checkout": 1, "checkout over": 1}),
    Bound(1, 2, {"crash": 1, "complete": 1, "reopen": 1, "deal": 1, "reply": 1}),
    Bound(2, 2, {"account deleted": 1, "crash": 1, "answer lost": 1, "request lost": 1}),
]


FAR = {"deaf", "never-released", "unheard", "no-lock"}
"""Bugs that take more than a few seconds to find."""

NEVER_MADE = {("decided", "expired"), ("context_written", "expired"), ("touched", "won"), ("touched", "lost")}
"""Legal moves that no step makes any more: what was not delivered is withdrawn, and a deal counts as a reply first."""


def judged(bound: Bound) -> None:
    explored = explore(bound)
    print(explored)
    assert explored.broken is None, str(explored)
    assert any(state == "task_open" for state, *_ in explored.seen), "a bound in which nothing is sent proves nothing"


@pytest.mark.parametrize("bound", DEFAULT, ids=str)
def test_no_promise_is_broken_and_every_handoff_ends(bound: Bound) -> None:
    judged(bound)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("bound", LONG, ids=str)
def test_nor_within_larger_bounds(bound: Bound) -> None:
    judged(bound)


@pytest.mark.parametrize("name", sorted(BUGS.keys() - FAR))
def test_a_planted_bug_is_found(name: str) -> None:
    found(name)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(FAR))
def test_a_planted_bug_that_is_far_is_found(name: str) -> None:
    found(name)


def found(name: str) -> None:
    """As the shortest way to it, step by step."""
    explored = explore(BUGS[name].within, BUGS[name].code())
    assert explored.broken is not None, f"{name} is not found any more: {BUGS[name].wrong}"
    assert explored.path
    print(f"{name}: {BUGS[name].wrong}\n{explored}")


def test_the_shortest_way_to_a_bug_is_told() -> None:
    found = explore(BUGS["no-recheck"].within, BUGS["no-recheck"].code())
    assert found.path[-1] == "A: task writes: ok"
    assert "the customer starts to buy" in found.path
    assert "promise 1 (never interrupt)" in str(found)


@pytest.mark.parametrize(
    ("state", "to", "code"),
    [edge[1:] for edge in edges() if edge[0] == "taken" and edge[1:3] not in NEVER_MADE],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_move_that_the_table_lacks_is_found(state: str, to: str, code: Code) -> None:
    broken = explore(ALONE, code).broken
    assert str(broken).endswith(f"{state} → {to} is refused, though no other process was there")


@pytest.mark.parametrize(("state", "to"), [("withdrawn", "task_open"), ("expired", "withdrawn")])
def test_a_move_that_the_table_has_too_many_is_found(state: str, to: str) -> None:
    """Two processes are needed: one that moves what the other has ended."""
    code = next(code for what, *edge, code in edges() if what == "put" and edge == [state, to])
    broken = explore(Bound(1, 2, {"complete": 1, "checkout": 1}), code).broken
    assert str(broken).endswith(f"a handoff that was {state} is {to}")


@pytest.mark.long
@pytest.mark.parametrize(("state", "to"), sorted(NEVER_MADE))
def test_legal_moves_that_no_step_makes(state: str, to: str) -> None:
    code = next(code for what, *edge, code in edges() if what == "taken" and edge == [state, to])
    assert explore(ALONE, code).broken is None, f"{state} → {to} is made after all: take it off the list"


# ── what it takes from the code ──────────────────────────────────────────────────────────────────


def test_the_order_of_the_delivery_is_read_from_its_source() -> None:
    assert [name for name, _ in program()] == ["overtaken", "open", "take up", "context", "recheck", "task"]
    assert dict(program())["task"] == ("begin", "write", "record", "move", "close")


def test_the_order_follows_the_source() -> None:
    def first_the_other(ledger: object) -> None:
        ledger.b(ledger.a())  # type: ignore[attr-defined]
        ledger.a()  # type: ignore[attr-defined]

    assert order(first_the_other, {"a": "A", "b": "B"}) == ("A", "B")
    with pytest.raises(LookupError, match="does not call C any more"):
        order(first_the_other, {"c": "C"})


def test_the_outboxes_table_is_whole_and_what_was_sent_stays_sent() -> None:
    table = outbox_table()
    assert table.keys() == {(operation, row) for operation in OPERATIONS for row in ROWS}
    assert {after for (_, row), after in table.items() if row == "sent"} == {"sent"}
    assert table["abandon", "pending"] == table["abandon", "sending"] == "ended"


def test_the_moves_are_the_ledgers() -> None:
    assert Code().legal is LEGAL
    assert LEGAL.keys() == set(STATES)
