"""What the model takes from the code: its tables, its pure functions, and the order of its steps.

Nothing here is written anew. The moves of a handoff are `states.LEGAL`; what the CRM shows leads to moves by
`one_touch.moves`, and deadlines to endings by `one_touch.ending`; the outbox's table is what the ledger does on an
empty database; the order of steps is read from the source of the functions that take them.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from onetouch.crm_sync.comparison import _finding
from onetouch.crm_sync.one_touch import ending, moves
from onetouch.delivery.back_off import back_off
from onetouch.delivery.deliver import _deliver, _send_all, _write_context, _write_tasks
from onetouch.delivery.send import _settled, send
from onetouch.delivery.withdraw import may_end, withdraw
from onetouch.ledger import ENDED, LEGAL, IllegalMove, Ledger, Outbox
from onetouch.ledger.outbox import SETTLED
from onetouch.ledger.tables import outbox
from onetouch.policy import read_policy
from sqlalchemy import update

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""The moment of every run of the model: time is how old its handoffs are."""

ROWS = {
    "pending": ("pending", ""),
    "sending": ("sending", ""),
    "sent": ("sent", ""),
    "failed": ("failed", "refused"),
    "ended": ("failed", ENDED),
    "settled": ("failed", SETTLED),
}
"""State of an outbox row in the model → its columns `state` and `reason`."""

OPERATIONS: dict[str, Callable[[Ledger, str], Any]] = {
    "begin": lambda ledger, key: ledger.begin([key]),
    "arrived": lambda ledger, key: ledger.sent_all({key: "id"}),
    "found": lambda ledger, key: ledger.sent_all({key: "id"}, found=True),
    "unanswered": lambda ledger, key: ledger.unanswered_all({key: "no answer"}),
    "refused for now": lambda ledger, key: ledger.failed_all({key: ("locked", True)}),
    "refused": lambda ledger, key: ledger.failed_all({key: ("refused", False)}),
    "abandon": lambda ledger, key: _ends(ledger, key),
}
"""What the delivery does to a row of the outbox."""

STEPS: dict[Callable[..., Any], dict[str, str]] = {
    _deliver: {
        "withdraw_overtaken": "overtaken", "_open_what_may_go": "open", "_read_outbox": "take up", "_send_all": "send",
    },
    _send_all: {"_write_context": "context", "pre_send_recheck": "recheck", "_write_tasks": "task"},
    _write_context: {"send": "send", "_move": "move"},
    _write_tasks: {"send": "send", "_move": "move", "close_tasks": "close"},
    send: {"begin": "begin", "write": "write", "sent_all": "record"},
    withdraw: {"close": "close", "move": "move"},
    back_off: {"ending": "look", "close": "close", "move": "move"},
}  # fmt: skip
"""Function → the calls in it that are steps of the model, with the names of those."""


def order(function: Callable[..., Any], calls: Mapping[str, str]) -> tuple[str, ...]:
    """The steps in the order in which the source of a function calls them, each once; functions within are left out.

    Raises LookupError naming the calls that are not made any more.
    """
    found: dict[str, None] = {}

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.Lambda):
                visit(child)
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in calls:
                found.setdefault(calls[name])

    for statement in ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body:  # type: ignore[attr-defined]
        visit(statement)
    if missing := sorted(set(calls.values()) - found.keys()):
        raise LookupError(
            f"{function.__qualname__} does not call {', '.join(missing)} any more: mend judges/model/code"
        )
    return tuple(found)


@cache
def program() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The steps of a delivery, in blocks: (block, steps)."""
    orders = {function: order(function, calls) for function, calls in STEPS.items()}
    withdrawal = orders[withdraw]

    def block(name: str) -> tuple[str, ...]:
        if name in ("overtaken", "recheck"):
            return ("look", *withdrawal)
        if name in ("open", "take up"):
            return ("do",)
        inner = orders[_write_context if name == "context" else _write_tasks]
        return tuple(s for step in inner for s in (orders[send] if step == "send" else (step,)))

    names = [name for outer in orders[_deliver] for name in (orders[_send_all] if outer == "send" else (outer,))]
    return tuple((name, block(name)) for name in names)


def back_off_steps() -> tuple[str, ...]:
    """The steps of `back_off`."""
    return order(back_off, STEPS[back_off])


@cache
def outbox_table() -> Mapping[tuple[str, str], str | None]:
    """(operation, state of the row) → its state after; None: IllegalMove. Each is done to a ledger in memory."""
    ledger = Ledger("sqlite://")
    ledger.migrate()
    run = ledger.begin_run(NOW, read_policy(), False)
    names = {columns: name for name, columns in ROWS.items()}
    table: dict[tuple[str, str], str | None] = {}
    for operation, do in OPERATIONS.items():
        for name, (state, reason) in ROWS.items():
            # A row of its own for each: what was sent stays sent, and the database sees to it.
            key = f"{operation}, {name}"
            its = {"key": key, "destination": "crm", "kind": "task", "payload": {}}
            ledger.open_handoff({"account_id": key, "as_of": NOW, "reasons": []}, run, lambda _, row=its: [row])
            with ledger.writing() as connection:
                connection.execute(
                    update(outbox)
                    .where(outbox.c.key == key)
                    .values(state=state, reason=reason, external_id="id" if name == "sent" else None)
                )
            try:
                do(ledger, key)
            except IllegalMove:
                table[operation, name] = None
                continue
            [after] = ledger.outbox(keys=[key])
            kept = after.reason if after.reason in (ENDED, SETTLED) else ROWS[after.state][1]
            table[operation, name] = names[after.state, kept]
    ledger.close()
    return table


def _ends(ledger: Ledger, key: str) -> None:
    [row] = ledger.outbox(keys=[key])
    ledger.move(str(row.handoff_id), "withdrawn", NOW)


@dataclass(frozen=True)
class Code:
    """What the model takes from the code. A planted bug is another value of one of these."""

    legal: Mapping[str, frozenset[str]] = field(default_factory=lambda: LEGAL)
    moves: Callable[..., list[dict[str, Any]]] = moves
    ending: Callable[..., tuple[str, str] | None] = ending
    may_end: Callable[..., list[Any]] = may_end
    settled: Callable[[Outbox], Any] = _settled
    finding: Callable[..., Any] = _finding
    outbox: Mapping[tuple[str, str], str | None] = field(default_factory=outbox_table)
    program: tuple[tuple[str, tuple[str, ...]], ...] = field(default_factory=program)
    back_off: tuple[str, ...] = field(default_factory=back_off_steps)
    left_out: frozenset[str] = frozenset()
    """Guards that are left out: of these names in `actions`."""
