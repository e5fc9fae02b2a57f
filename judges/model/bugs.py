"""Bugs that are planted in what the model takes from the code, and within which bound each must be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from onetouch.crm_sync import one_touch

from judges.model.actions import Bound
from judges.model.code import Code

SMALL = Bound(1, 2, {"crash": 1, "answer lost": 1, "complete": 1, "delete": 1, "checkout": 1})
TWICE = Bound(2, 2, {"crash": 1, "answer lost": 1})
HELD = Bound(1, 2, {"crash": 1, "stop": 1})
LARGE = Bound(2, 2, {"crash": 1, "answer lost": 1, "stop": 1})
ALONE = Bound(1, 1, {"crash": 1, "complete": 1, "reply": 1, "deal": 1, "checkout": 1, "account deleted": 1})
"""One process alone: nobody has moved a handoff meanwhile, so no move that is made may be refused."""


@dataclass(frozen=True)
class Bug:
    """`code`: the code with the bug. `within`: the bound in which it is found."""

    wrong: str
    code: Callable[[], Code]
    within: Bound = SMALL


def _order(*names: str) -> Code:
    code = Code()
    blocks = dict(code.program)
    return replace(code, program=tuple((name, blocks[name]) for name in names))


def _steps(block: str, *steps: str) -> Code:
    code = Code()
    return replace(code, program=tuple((n, steps if n == block else its) for n, its in code.program))


def _without(guard: str) -> Callable[[], Code]:
    return lambda: Code(left_out=frozenset({guard}))


def _outbox(operation: str, row: str, after: str | None) -> Callable[[], Code]:
    return lambda: replace(Code(), outbox={**Code().outbox, (operation, row): after})


def _legal(**changed: frozenset[str]) -> dict[str, frozenset[str]]:
    return {**Code().legal, **changed}


def _released_untouched(handoff: Any, touches: Any, policy: Any, as_of: Any) -> tuple[str, str] | None:
    end = one_touch.ending(handoff, touches, policy, as_of)
    return ("released", end[1]) if end and end[0] == "expired" else end


def _never_ends(handoff: Any, touches: Any, policy: Any, as_of: Any) -> tuple[str, str] | None:
    return None if handoff.state == "touched" else one_touch.ending(handoff, touches, policy, as_of)


def _deaf(*about: Any) -> list[Any]:
    return [move for move in one_touch.moves(*about) if move["to_state"] != "touched"]


def _deaf_finding(*about: Any) -> Any:
    found = Code().finding(*about)
    return None if found and any(move["to_state"] == "touched" for move in found.moves) else found


BUGS: dict[str, Bug] = {
    "task-before-context": Bug(
        "the tasks are written before the context",
        lambda: _order("overtaken", "open", "take up", "task", "context", "recheck"),
    ),
    "recheck-after-tasks": Bug(
        "the recheck comes after the tasks",
        lambda: _order("overtaken", "open", "take up", "context", "task", "recheck"),
    ),
    "no-recheck": Bug("the recheck is left out", _without("recheck")),
    "no-look-up": Bug(
        "a row that may have arrived is sent again without looking it up", _without("look-up before sending again")
    ),
    "sure-of-nothing": Bug(
        "a row without an answer is queued as if it had not been sent", _without("unanswered is unsure")
    ),
    "sent-before-begun": Bug(
        "a row is marked only after it was sent", lambda: _steps("task", "write", "begin", "record", "move", "close")
    ),
    "dead-again": Bug("a row that was sent is sent again", _outbox("begin", "sent", "sending")),
    "left-open": Bug(
        "the task of a handoff that ended meanwhile is not closed, nor looked for",
        lambda: replace(
            Code(left_out=frozenset({"close what has ended meanwhile", "unheard tasks"})), finding=lambda *_: None
        ),
        HELD,
    ),
    "moved-before-closed": Bug(
        "back_off moves the handoff before it closes the task",
        lambda: replace(Code(), back_off=("look", "move", "close")),
    ),
    "rep-closed-it": Bug(
        "a task that the rep has closed may be expired", lambda: replace(Code(), may_end=lambda handoffs, _: handoffs)
    ),
    "released-untouched": Bug(
        "an untouched handoff is released, and the table allows it",
        lambda: replace(
            Code(),
            ending=_released_untouched,
            legal=_legal(task_open=frozenset({"touched", "withdrawn", "expired", "released"})),
        ),
    ),
    "never-released": Bug("silence does not end a handoff", lambda: replace(Code(), ending=_never_ends)),
    "deaf": Bug("touches are not read", lambda: replace(Code(), moves=_deaf, finding=_deaf_finding)),
    "second-handoff": Bug(
        "a handoff is opened beside an active one",
        lambda: Code(left_out=frozenset({"another is active", "what the decision knew"})), TWICE,
    ),
    "knew-nothing": Bug(
        "a handoff is opened although another has ended since the decision", _without("what the decision knew"),
        Bound(2, 2, {"complete": 1, "checkout": 1}),
    ),
    "unheard": Bug(
        "a task that the ledger never heard of is not looked for before the next is written",
        _without("unheard tasks"), LARGE,
    ),
    "no-lock": Bug("two processes send at once", _without("lock")),
}  # fmt: skip


def edges() -> Iterator[tuple[str, str, str, Code]]:
    """The table of legal moves with one move taken out, and with one put in: (taken or put, from, to, code)."""
    legal = Code().legal
    for state, following in legal.items():
        for to in legal:
            if to in following:
                yield "taken", state, to, replace(Code(), legal=_legal(**{state: following - {to}}))
            elif to != state:
                yield "put", state, to, replace(Code(), legal=_legal(**{state: following | {to}}))
