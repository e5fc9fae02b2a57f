"""What may happen in a state of the model: a step of a process, its death, a fault, the rep, the customer, time.

A step is one transaction of the ledger or one request to the CRM; what a process only computes belongs to the step
before. Each names the function whose step it is. A step may break a promise: then it gives the promise's words, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

from onetouch.crm import Outcome
from onetouch.ledger import Outbox
from onetouch.policy import Policy, read_policy

from judges.model.code import NOW, ROWS, Code
from judges.model.state import ID, IDLE, Episode, Process, State, World, handoff, seen, task

RUN = SimpleNamespace(as_of=NOW, run_id="r")
EMAILS = {"rep": "rep@rep.example"}

PROMISES = {
    1: "never interrupt",
    2: "never without context",
    3: "one touch",
    4: "exactly one task",
    5: "an end is final, and true",
}


class Broken(NamedTuple):
    """A broken promise."""

    promise: int
    text: str

    def __str__(self) -> str:
        return f"promise {self.promise} ({PROMISES[self.promise]}): {self.text}"


class Next(NamedTuple):
    """What may happen, the state it leads to, and the promise it breaks. `fair`: who does it, of those who do not wait
    for ever (a process that can go on, time); empty for what need not happen."""

    what: str
    state: State
    broken: Broken | None = None
    fair: str = ""


@dataclass(frozen=True)
class Bound:
    """How much may happen: the bound of an exploration.

    `happens`: event or fault → how often at most. Events: checkout, checkout over, call, complete, delete, reopen,
    reply, deal, account deleted, stop. Faults: crash, request lost, answer lost, late (arrives after its sender has
    given up), refused (for good), locked (for now).
    """

    episodes: int = 1
    processes: int = 2
    happens: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.happens)

    def __str__(self) -> str:
        happens = ", ".join(f"{what} {n}" for what, n in self.happens.items())
        return f"1 account, {self.episodes} episodes, {self.processes} processes; at most {happens or 'nothing else'}"


FAULTS = ("request lost", "answer lost", "late", "refused", "locked")


class Model:
    """The model with what it takes from the code."""

    def __init__(self, bound: Bound, code: Code | None = None) -> None:
        self.bound, self.code = bound, code or Code()
        self._answers: dict[Any, Any] = {}
        self.terminal = {state for state, following in self.code.legal.items() if not following}
        self.ended_for_good = {state for state, following in Code().legal.items() if not following}
        self.place = {name: i for i, name in enumerate(bound.names)}
        before = (("extract", ("look", "adopt", "follow")), ("back_off", self.code.back_off), ("route", ("do",)))
        after = (("deliver", ("wait",)), ("reconcile", ("look", "close", "follow")))
        self.blocks = dict((*before, *self.code.program, *after))
        names = [name for name, _ in (*before, *self.code.program)]
        self.following = dict(zip(names, [*names[1:], "release"], strict=True))
        self.locked = {name for name, _ in self.code.program}
        self.first = self.code.program[0][0]
        self._steps: dict[str, Callable[[State, int], Iterator[Next]]] = {
            f"{block}.{step}": getattr(self, f"_{step}" if step in _SHARED else f"_{block}_{step}".replace(" ", "_"))
            for block, steps in self.blocks.items()
            for step in steps
        }

    @cached_property
    def start(self) -> State:
        world = World(left=tuple(self.bound.happens.values()))
        return State((), world, (IDLE,) * self.bound.processes)

    def ended(self, state: State) -> bool:
        """Whether there are handoffs, all have ended, and no task of theirs is open (but for what a rep reopened)."""
        return bool(state.episodes) and all(not e.active and e.crm != "open" for e in state.episodes)

    def nexts(self, state: State) -> Iterator[Next]:
        """Everything that may happen in a state."""
        for i, process in enumerate(state.processes):
            if i and process == state.processes[i - 1]:
                continue  # two that are the same do the same
            if process == IDLE:
                yield self._to(state, i, process._replace(at=("extract", 0)), "a run begins", fair="a run")
                yield self._to(
                    state, i, process._replace(at=("reconcile", 0)), "the nightly comparison begins", fair="nightly"
                )
                continue
            block, step = process.at
            for following in self._steps[f"{block}.{self.blocks[block][step]}"](state, i):
                yield following if following.broken else following._replace(broken=_rewritten(state, following.state))
            if (killed := self._spent(state, "crash")) is not None:
                yield self._to(killed, i, IDLE, f"killed before {block}.{self.blocks[block][step]}")
        yield from self._world(state)

    # ── how processes go on ──────────────────────────────────────────────────────────────────────

    def _spent(self, state: State, what: str) -> State | None:
        """The state with one less of this left; None: there is none left."""
        place = self.place.get(what)
        if place is None or not state.world.left[place]:
            return None
        left = state.world.left
        return state._replace(world=state.world._replace(left=(*left[:place], left[place] - 1, *left[place + 1 :])))

    def _to(
        self, state: State, i: int, process: Process, what: str, broken: Broken | None = None, fair: str = ""
    ) -> Next:
        processes = (*state.processes[:i], process, *state.processes[i + 1 :])
        return Next(what, state._replace(processes=tuple(sorted(processes))), broken, fair)

    def _at(self, state: State, i: int) -> str:
        """The name of a process's next step, with what it works on: two processes may be at the same one."""
        process = state.processes[i]
        block, step = process.at
        return f"{block}.{self.blocks[block][step]} {process.of} {' '.join(process.got)}"

    def _goes_on(self, state: State, i: int, what: str, broken: Broken | None = None, **changes: Any) -> Next:
        """The process's next step within its block."""
        process = state.processes[i]
        block, step = process.at
        if step + 1 == len(self.blocks[block]):
            return self._leaves(state, i, what, broken, **changes)
        return self._to(
            state, i, process._replace(at=(block, step + 1), **changes), f"{block} {what}", broken, self._at(state, i)
        )

    def _leaves(self, state: State, i: int, what: str, broken: Broken | None = None, **changes: Any) -> Next:
        """The first step of the next block, of the same handoff unless its work on that is over."""
        process = state.processes[i]
        block = process.at[0]
        after = self.following.get(block)
        if after is None or after == "release":
            return self._releases(state, i, what, broken)
        kept = {"of": process.of, "mine": process.mine} if block in self.locked and block != "overtaken" else {}
        values = {"got": (), "of": 0, "mine": "", **kept} | changes
        return self._to(
            state, i, self._enters(process._replace(**values), after), f"{block} {what}", broken, self._at(state, i)
        )

    def _enters(self, process: Process, block: str) -> Process:
        """The process at the first step of a block, or of the next one that is anything to it."""
        while (block, process.decided) in _NOTHING_TO_DO:
            block = self.following[block]
        return process._replace(at=(block, 0))

    def _fails(self, state: State, i: int, what: str) -> Next:
        """The stage fails: a later run tries again."""
        return self._to(state, i, IDLE, f"{state.processes[i].at[0]} {what}", fair=self._at(state, i))

    def _releases(self, state: State, i: int, what: str, broken: Broken | None = None) -> Next:
        """Nothing more is to be done: the run ends, and with it its lock."""
        return self._to(state, i, IDLE, f"{state.processes[i].at[0]} {what}", broken, self._at(state, i))

    # ── handoffs and rows ────────────────────────────────────────────────────────────────────────

    def _episode(self, state: State, number: int) -> Episode:
        return state.episodes[number - 1]

    def _with(self, state: State, number: int, episode: Episode) -> State:
        return state._replace(episodes=(*state.episodes[: number - 1], episode, *state.episodes[number:]))

    @staticmethod
    def _active(state: State) -> int:
        """The number of the active handoff; 0: none is."""
        for number in range(len(state.episodes), 0, -1):
            if state.episodes[number - 1].active:
                return number
        return 0

    def _moved(self, episode: Episode, to: str) -> tuple[Episode | None, Broken | None]:
        """`Handoffs.move`: the handoff after a move, None when it is not legal; and what promise that breaks."""
        if to == episode.state:
            return episode, None
        if to not in self.code.legal[episode.state]:
            refused = Broken(5, f"{episode.state} → {to} is refused, though no other process was there")
            return None, refused if self.bound.processes == 1 else None
        broken = None
        if episode.state in self.ended_for_good:
            broken = Broken(5, f"a handoff that was {episode.state} is {to}")
        elif to == "released" and not episode.touch:
            broken = Broken(5, "released, but nobody was in touch")
        elif to == "expired" and episode.was_touched:
            broken = Broken(5, "expired, but the ledger knew that a rep was in touch")
        elif to == "expired" and episode.crm == "done":
            broken = Broken(5, "expired, but the rep had done its task")
        elif to == "task_open" and episode.crm == "none":
            broken = Broken(4, "the ledger has a task that does not exist")
        change: dict[str, Any] = {"state": to, "was_touched": episode.was_touched or to == "touched"}
        if to == "task_open":
            change["known"] = True
        if to == "touched":
            change["touch"] = episode.touch or 1  # the ledger has its moment, whatever the rep changes then
        if to in self.terminal:
            rows = {name: self.code.outbox["abandon", getattr(episode, name)] for name in ("context", "task")}
            change |= rows | {"age": 0}
        return episode._replace(**change), broken

    def _row(self, state: State, number: int, row: str, operation: str) -> State | None:
        """The state after an operation on a row of the outbox; None: IllegalMove."""
        episode = self._episode(state, number)
        after = self.code.outbox[operation, getattr(episode, row)]
        return None if after is None else self._with(state, number, episode._replace(**{row: after}))

    # ── the code's own functions, each asked once ────────────────────────────────────────────────

    def _asked(self, ask: Callable[..., Any], *about: Any) -> Any:
        key = (ask.__name__, *about)
        if key not in self._answers:
            self._answers[key] = ask(*about)
        return self._answers[key]

    def _moves(self, episode: Episode, gone: bool) -> tuple[str, ...]:
        """one_touch.moves."""
        steps = self.code.moves(handoff(episode), seen(episode, gone), EMAILS, NOW, _policy().handoff.reply_days)
        return tuple(step["to_state"] for step in steps)

    def _ending(self, episode: Episode) -> str | None:
        """one_touch.ending."""
        end = self.code.ending(handoff(episode), (), _policy(), NOW)
        return None if end is None else str(end[0])

    def _may_end(self, episode: Episode, by_rep: bool) -> bool:
        """withdraw.may_end."""
        return bool(self.code.may_end([handoff(episode)], {ID: Outcome(ok=True, by_rep=by_rep)}))

    def _settled(self, row: str) -> str | None:
        """send._settled: the outcome of a row that is not sent any more."""
        state, reason = ROWS[row]
        its = Outbox("task:h", "crm", "task", None, ID, {}, state, "t" if state == "sent" else None, reason, 1)
        outcome = self.code.settled(its)
        return None if outcome is None else "ok" if outcome.ok else "gone" if outcome.deleted else "refused"

    def _found(self, episode: Episode) -> tuple[bool, tuple[str, ...]]:
        """comparison._finding: whether the task is to be closed, and the moves to be made."""
        there = task(episode)
        found = self.code.finding(ID, {ID: handoff(episode)}, [there] if there else [], EMAILS, RUN)
        if found is None:
            return False, ()
        return found.close is not None, tuple(move["to_state"] for move in found.moves)

    # ── extract_crm (crm_sync.extract_crm.follow) ────────────────────────────────────────────────

    def _extract_look(self, state: State, i: int) -> Iterator[Next]:
        number = self._active(state)
        if not number:
            yield self._leaves(state, i, "finds nothing")
            return
        steps = self._asked(self._moves, self._episode(state, number), state.world.record < 0)
        if not steps:
            yield self._leaves(state, i, "finds nothing new")
            return
        at = 1 if "task_open" in steps else 2
        process = state.processes[i]._replace(at=("extract", at), of=number, got=steps)
        yield self._to(state, i, process, f"extract sees {', '.join(steps)}", fair=self._at(state, i))

    def _extract_adopt(self, state: State, i: int) -> Iterator[Next]:
        process = state.processes[i]
        row = self._episode(state, process.of).task
        after = state if row == "sent" else self._row(state, process.of, "task", "found")
        if after is None:
            yield self._fails(state, i, "fails: the task's row cannot have arrived")
        else:
            yield self._goes_on(after, i, "records that the task has arrived")

    def _follow(self, state: State, i: int) -> Iterator[Next]:
        """crm_sync.extract_crm.move_on: all moves of the handoff, or none."""
        process = state.processes[i]
        episode: Episode | None = self._episode(state, process.of)
        broken = None
        for to in process.got:
            assert episode is not None
            episode, wrong = self._moved(episode, to)
            broken = broken or wrong
            if episode is None:
                yield self._leaves(state, i, f"cannot move to {to}: another run was there", broken)
                return
        assert episode is not None
        after = self._with(state, process.of, episode)
        yield self._leaves(after, i, f"moves to {process.got[-1]}", broken)

    # ── closing tasks (Crm.close_tasks) and ending handoffs ──────────────────────────────────────

    def _close(self, state: State, i: int) -> Iterator[Next]:
        """`got`: the state to end in, or "task" when only the task is to be closed."""
        process = state.processes[i]
        episode, to = self._episode(state, process.of), process.got[0]
        if state.world.stopped:
            yield self._fails(state, i, "is stopped before it closes a task")
            return
        after = self._with(state, process.of, episode._replace(crm="closed") if episode.crm == "open" else episode)
        done = "closes the task" if episode.crm == "open" else f"finds the task {episode.crm}, nothing to close"
        if to == "task":
            yield self._leaves(after, i, done)
        elif self._asked(self._may_end, episode, episode.crm == "done"):
            yield self._goes_on(after, i, done, got=(to,))
        else:
            yield self._gives_up(after, i, "finds that the rep has closed the task")
        if (spent := self._spent(state, "request lost")) is not None:
            yield self._fails(spent, i, "cannot close: the request is lost")
        if (spent := self._spent(after, "answer lost")) is not None and after != state:
            yield self._fails(spent, i, f"{done}, the answer is lost")
        if episode.crm == "open" and (spent := self._spent(state, "refused")) is not None:
            yield self._gives_up(spent, i, "cannot close: the CRM refuses it")

    def _gives_up(self, state: State, i: int, what: str) -> Next:
        """The handoff stays as it is: in the delivery it is left out, the other stages go on."""
        if state.processes[i].at[0] == "recheck":
            return self._releases(state, i, what)
        return self._leaves(state, i, what)

    def _move(self, state: State, i: int) -> Iterator[Next]:
        """withdraw.move; after a row was sent, deliver._move and deliver._settle."""
        process = state.processes[i]
        episode = self._episode(state, process.of)
        block = process.at[0]
        if block in ("context", "task"):
            yield from self._settles(state, i, episode)
            return
        moved, broken = self._moved(episode, process.got[0])
        if moved is not None and moved != episode and episode.crm not in ("none", "deleted"):
            moved = moved._replace(known=True)  # closing told its id
        after = state if moved is None else self._with(state, process.of, moved)
        what = f"moves to {process.got[0]}" if moved is not None else f"cannot end it: it is {episode.state}"
        yield (self._releases if block == "recheck" else self._leaves)(after, i, what, broken)

    # ── back_off ─────────────────────────────────────────────────────────────────────────────────

    def _back_off_look(self, state: State, i: int) -> Iterator[Next]:
        if state.world.stopped:
            yield self._leaves(state, i, "is held")
            return
        number = self._active(state)
        end = self._asked(self._ending, self._episode(state, number)) if number else None
        if end is not None:
            yield self._goes_on(state, i, f"finds it is to be {end}", of=number, got=(end,))
            return
        lately = [n for n, e in enumerate(state.episodes, 1) if self._unheard(e) and not e.age]
        if lately:
            yield self._goes_on(state, i, "looks for the task of one that has ended", of=lately[-1], got=("task",))
        else:
            yield self._leaves(state, i, "finds nothing due")

    def _unheard(self, episode: Episode) -> bool:
        """withdraw.unheard."""
        ended = episode.state in ("withdrawn", "expired") and not episode.known and episode.tried
        return ended and "unheard tasks" not in self.code.left_out

    # ── route ────────────────────────────────────────────────────────────────────────────────────

    def _route_do(self, state: State, i: int) -> Iterator[Next]:
        """What a run decides, from what it has read: to call, to withdraw what is open, or neither."""
        last = len(state.episodes)
        episode = state.episodes[-1] if last else None
        decided = ""
        if episode is not None and episode.active:
            decided = "withdraw" if state.world.checkout == 1 else ""
        elif state.world.checkout != 1 and state.world.record >= 0 and last < self.bound.episodes:
            rests = episode is not None and (episode.was_touched or episode.touch) and episode.age < 2
            decided = "" if rests else "call"
        knew = (last, episode.state if episode else "") if decided else (0, "")
        for what in {decided, ""} if decided == "call" else {decided}:
            process = state.processes[i]._replace(at=("deliver", 0), decided=what, knew=knew if what else (0, ""))
            if state.world.stopped:
                yield self._to(state, i, IDLE, "delivery is held", fair=self._at(state, i))
            elif not any(p.at[0] in self.locked for p in state.processes):
                process = self._enters(process._replace(looked=state.world.checkout == 1), self.first)
                yield self._to(
                    state, i, process, f"route decides {what or 'nothing'}, delivery begins", fair=self._at(state, i)
                )
            else:
                yield self._to(state, i, process, f"route decides {what or 'nothing'}", fair=self._at(state, i))

    def _deliver_wait(self, state: State, i: int) -> Iterator[Next]:
        """deliver.deliver_tasks: one process at a time sends."""
        if state.world.stopped:
            yield self._to(state, i, IDLE, "delivery is held", fair=self._at(state, i))
        elif not any(p.at[0] in self.locked for p in state.processes) or "lock" in self.code.left_out:
            process = self._enters(state.processes[i]._replace(looked=state.world.checkout == 1), self.first)
            yield self._to(state, i, process, "delivery begins", fair=self._at(state, i))

    # ── the delivery (deliver._deliver, deliver._send_all) ───────────────────────────────────────

    def _overtaken_look(self, state: State, i: int) -> Iterator[Next]:
        """withdraw.overtaken."""
        process = state.processes[i]
        number = self._active(state)
        theirs = process.decided == "withdraw" and number == process.knew[0]
        if theirs and self._episode(state, number).state != "replied":
            yield self._goes_on(state, i, "finds a customer who is buying", of=number, got=("withdrawn",))
            return
        yield self._leaves(state, i, "finds nothing")

    def _open_do(self, state: State, i: int) -> Iterator[Next]:
        """Handoffs.open_handoffs."""
        process = state.processes[i]
        last = len(state.episodes)
        stands = bool(last and state.episodes[-1].active) and "another is active" not in self.code.left_out
        knows = process.knew == (last, state.episodes[-1].state if last else "")
        if "what the decision knew" in self.code.left_out:
            knows = True
        if process.decided != "call" or stands or not knows or last >= self.bound.episodes:
            yield self._leaves(state, i, "opens nothing", decided="", knew=(0, ""))
            return
        broken = None
        if last:
            before = state.episodes[-1]
            if before.active:
                broken = Broken(3, f"a second handoff while the first is {before.state}")
            elif before.was_touched and before.age < 2:
                broken = Broken(3, f"a second handoff lately after a touch; the first was {before.state}")
        after = state._replace(episodes=(*state.episodes, Episode()))
        yield self._leaves(after, i, f"opens handoff {last + 1}", broken, decided="", knew=(0, ""))

    def _take_up_do(self, state: State, i: int) -> Iterator[Next]:
        """deliver._read_outbox: what no rep has seen is taken up; what was refused before a crash ends."""
        number = self._active(state)
        if not number or self._episode(state, number).state not in ("decided", "context_written"):
            yield self._releases(state, i, "finds nothing to deliver")
            return
        episode = self._episode(state, number)
        if "failed" in (ROWS[episode.context][0], ROWS[episode.task][0]):
            moved, broken = self._moved(episode, "withdrawn")
            after = state if moved is None else self._with(state, number, moved)
            yield self._releases(after, i, "ends what was refused", broken)
            return
        yield self._leaves(state, i, f"takes up handoff {number}", of=number, mine=episode.state)

    def _begin(self, state: State, i: int) -> Iterator[Next]:
        """send.send, up to `ledger.begin`; `got`: unsure or not, or the outcome of a row that is settled."""
        process = state.processes[i]
        row = process.at[0]
        if process.mine != ("decided" if row == "context" else "context_written"):
            # A handoff whose context was written before; with the blocks in another order, one without context.
            order = [name for name, _ in self.code.program]
            if row == "context" or order.index("task") > order.index("context"):
                yield self._leaves(state, i, "has nothing to send")
                return
        episode = self._episode(state, process.of)
        outcome = self._asked(self._settled, getattr(episode, row))
        after = self._row(state, process.of, row, "begin")
        assert after is not None
        if row == "task" and outcome is None:
            after = self._with(after, process.of, self._episode(after, process.of)._replace(tried=True))
        if outcome is None:
            unsure = getattr(episode, row) == "sending" and "look-up before sending again" not in self.code.left_out
            yield self._goes_on(
                after, i, "begins to send" + (", unsure" if unsure else ""), got=process.got or ("unsure",) * unsure
            )
            return
        at = self.blocks[row].index("move")
        process = process._replace(at=(row, at), got=(outcome,))
        yield self._to(after, i, process, f"{row} finds its row {getattr(episode, row)}", fair=self._at(state, i))

    def _write(self, state: State, i: int) -> Iterator[Next]:
        """Crm.update_accounts and Crm.create_tasks, with what may become of a request."""
        process = state.processes[i]
        kind, unsure = process.at[0], "unsure" in process.got
        if state.world.stopped:
            yield self._fails(state, i, "is stopped before it writes")
            return
        after, outcome, broken = self._arrives(state, process.of, kind, unsure, process.looked)
        looked = state.world.checkout == 1 if kind == "context" else process.looked
        yield self._goes_on(after, i, f"writes: {outcome}", broken, got=(outcome,), looked=looked)
        # A failure to look up first is a request lost, too; then nothing was sent.
        if (spent := self._spent(state, "request lost")) is not None:
            yield self._goes_on(spent, i, "cannot write: the CRM is out of reach", got=("error", *process.got))
        if (spent := self._spent(after, "answer lost")) is not None:
            yield self._goes_on(spent, i, "writes, the answer is lost", broken, got=("unanswered",), looked=looked)
        sent = outcome == "ok" and after != state  # otherwise the look-up has found it, or there is nothing to write to
        if sent and state.world.late is None and (spent := self._spent(state, "late")) is not None:
            late = spent._replace(world=spent.world._replace(late=(kind, process.of)))
            yield self._goes_on(late, i, "writes, the request is late", got=("unanswered",))
        if sent:
            for refusal in ("refused", "locked"):
                if (spent := self._spent(state, refusal)) is not None:
                    yield self._goes_on(spent, i, f"is {refusal}", got=(refusal,))

    def _arrives(
        self, state: State, number: int, kind: str, unsure: bool, looked: bool
    ) -> tuple[State, str, Broken | None]:
        """A request arrives at the CRM: the state after, the row's outcome, and the promise that breaks."""
        episode, world = self._episode(state, number), state.world
        if kind == "context":
            if world.record < 0:
                return state, "gone", None
            return state._replace(world=world._replace(record=number)), "ok", None
        if unsure and episode.crm == "deleted":
            return state, "deleted", None
        if episode.crm not in ("none", "deleted"):
            return state, "ok", None  # its key is taken: the task that is there is adopted
        if world.record < 0:
            return state, "gone", None
        broken = None
        others = [e for n, e in enumerate(state.episodes, 1) if n != number and e.crm == "open"]
        if world.record != number:
            broken = Broken(2, "a task before its context is on the record")
        elif episode.made:
            broken = Broken(4, "a second task of one handoff: the rep had deleted the first")
        elif looked and world.checkout == 1:
            broken = Broken(1, "a task for a customer who was known to be buying")
        elif others:
            broken = Broken(3, "a second open task of one account")
        made = min(2, episode.made + 1)
        return self._with(state, number, episode._replace(crm="open", made=made)), "ok", broken

    def _record(self, state: State, i: int) -> Iterator[Next]:
        """send.send, after the answer."""
        process = state.processes[i]
        row, got = process.at[0], process.got
        operation = {
            "ok": "arrived", "unanswered": "unanswered", "refused": "refused", "gone": "refused", "deleted": "refused",
            "locked": "refused for now", "error": "unanswered" if "unsure" in got else "refused for now",
        }[got[0]]  # fmt: skip
        if got[0] == "unanswered" and "unanswered is unsure" in self.code.left_out:
            operation = "refused for now"
        after = self._row(state, process.of, row, operation)
        if after is None:
            yield self._fails(state, i, f"cannot record {got[0]}: the row is settled")
        elif got[0] == "error":
            yield self._fails(after, i, "records that the CRM is out of reach")
        elif got[0] in ("unanswered", "locked"):
            yield self._releases(after, i, f"records {got[0]}: a later run goes on")
        else:
            yield self._goes_on(after, i, f"records {got[0]}")

    def _settles(self, state: State, i: int, episode: Episode) -> Iterator[Next]:
        process = state.processes[i]
        row, outcome = process.at[0], process.got[0]
        to = ("context_written" if row == "context" else "task_open") if outcome == "ok" else "withdrawn"
        moved, broken = self._moved(episode, to)
        after = state if moved is None else self._with(state, process.of, moved)
        mine = self._episode(after, process.of).state
        what = f"moves to {to}" if moved is not None else f"cannot move to {to}: it is {mine}"
        if outcome != "ok":
            yield self._releases(after, i, what, broken)
        elif row == "context":
            if mine == "context_written":
                yield self._leaves(after, i, what, broken, mine=mine)
            else:
                yield self._releases(after, i, what, broken)
        elif mine in self.terminal and "close what has ended meanwhile" not in self.code.left_out:
            yield self._goes_on(after, i, what, broken, got=("task",), mine=mine)
        else:
            yield self._leaves(after, i, what, broken)

    def _recheck_look(self, state: State, i: int) -> Iterator[Next]:
        """recheck.pre_send_recheck."""
        process = state.processes[i]
        episode = self._episode(state, process.of)
        buying = state.world.checkout == 1
        if "recheck" in self.code.left_out:
            yield self._leaves(state, i, "is left out", looked=buying)
            return
        earlier = state.episodes[: process.of - 1]
        reopened = any(e.known and e.crm == "reopened" for e in earlier)
        if buying or episode.touch or state.world.record < 0 or reopened:
            yield self._goes_on(state, i, "finds a reason against it", got=("withdrawn",), looked=buying)
            return
        outlived = [n for n, e in enumerate(earlier, 1) if (e.known or self._unheard(e)) and e.crm == "open"]
        after = state
        for number in outlived:  # _at_work: an earlier task that merely stayed open is closed
            after = self._with(after, number, self._episode(after, number)._replace(crm="closed"))
        if outlived and state.world.stopped:
            yield self._fails(state, i, "is stopped before it closes a task")
            return
        yield self._leaves(after, i, "finds nothing against it", looked=buying)

    # ── reconcile ────────────────────────────────────────────────────────────────────────────────

    def _reconcile_look(self, state: State, i: int) -> Iterator[Next]:
        """crm_sync.comparison: the safe repairs."""
        process = state.processes[i]
        for number, episode in enumerate(state.episodes, 1):
            close, steps = self._asked(self._found, episode)
            if not (close or steps) or state.world.stopped:
                continue
            at, got = (1, ("task",)) if close else (2, steps)
            found = process._replace(at=("reconcile", at), of=number, got=got)
            yield self._to(state, i, found, f"reconcile finds {', '.join(got)}", fair=self._at(state, i))
            return
        yield self._to(state, i, IDLE, "reconcile finds nothing more", fair=self._at(state, i))

    # ── the world ────────────────────────────────────────────────────────────────────────────────

    def _world(self, state: State) -> Iterator[Next]:
        world = state.world
        if world.late is not None:
            kind, number = world.late
            landed = state._replace(world=world._replace(late=None))
            after, outcome, broken = self._arrives(landed, number, kind, False, False)
            yield Next(f"the late request arrives: {outcome}", after, broken, "late")
        if world.checkout == 0 and (spent := self._spent(state, "checkout")) is not None:
            yield Next("the customer starts to buy", spent._replace(world=spent.world._replace(checkout=1)))
        if world.checkout == 1 and (spent := self._spent(state, "checkout over")) is not None:
            yield Next("the customer stops buying", spent._replace(world=spent.world._replace(checkout=2)))
        if not world.stopped and (spent := self._spent(state, "stop")) is not None:
            yield Next("sending is stopped", spent._replace(world=spent.world._replace(stopped=True)))
        if world.stopped:
            yield Next("sending is resumed", state._replace(world=world._replace(stopped=False)), fair="resume")
        if all(process == IDLE for process in state.processes) and world.late is None:
            yield from self._time(state)
        if world.late is None:
            yield from self._people(state)

    def _time(self, state: State) -> Iterator[Next]:
        """Days pass, or weeks; no run takes so long."""
        days = tuple(e._replace(age=max(1, e.age)) for e in state.episodes)
        weeks = tuple(
            e._replace(
                age=1 if e.active else 2, touch=2 if e.touch else 0, reply=2 if e.reply and e.touch == 2 else e.reply
            )
            for e in state.episodes
        )
        if days != state.episodes:
            yield Next("days pass", state._replace(episodes=days), fair="time")
        if weeks not in (days, state.episodes):
            yield Next("weeks pass", state._replace(episodes=weeks), fair="time")

    def _people(self, state: State) -> Iterator[Next]:
        """What the rep and the customer do."""
        if state.world.record >= 0 and (spent := self._spent(state, "account deleted")) is not None:
            episodes = tuple(e if e.crm == "none" else e._replace(crm="deleted") for e in state.episodes)
            yield Next("the account is deleted", State(episodes, spent.world._replace(record=-1), state.processes))
        for number, episode in enumerate(state.episodes, 1):
            touched = episode.touch or 1
            done: list[tuple[str, Episode]] = []
            if episode.crm == "open":
                done.append(("complete", episode._replace(crm="done", touch=touched)))
                done.append(("delete", episode._replace(crm="deleted")))
            elif episode.crm == "reopened":
                done += [("complete", episode._replace(crm="closed")), ("delete", episode._replace(crm="deleted"))]
            elif episode.crm == "closed":
                done.append(("reopen", episode._replace(crm="reopened")))
            elif episode.crm == "done":
                kept = episode.touch if episode.was_touched or episode.call or episode.deal != "none" else 0
                reopened = episode._replace(crm="open", touch=kept)
                done.append(("reopen", reopened if episode.active else episode._replace(crm="reopened")))
            if episode.active and not episode.touch:
                done.append(("call", episode._replace(call=True, touch=1)))
            if episode.active and episode.touch and not episode.reply:
                done.append(("reply", episode._replace(reply=1)))
            if episode.active and episode.touch and episode.deal == "none":
                done.append(("deal", episode._replace(deal="open")))
            if episode.deal == "open":  # a deal that is open is won or lost some day
                for end in ("won", "lost"):
                    yield Next(f"the deal is {end}", self._with(state, number, episode._replace(deal=end)), fair="deal")
            for what, after in done:
                if (spent := self._spent(state, what)) is not None:
                    yield Next(f"{what}: handoff {number}", self._with(spent, number, after))


_NOTHING_TO_DO = {
    ("overtaken", "call"), ("overtaken", ""), ("open", "withdraw"), ("open", ""),
}  # fmt: skip
"""(block, what the run has decided): blocks that are nothing to a run."""

_SHARED = ("close", "move", "follow", "begin", "write", "record")


def _rewritten(before: State, after: State) -> Broken | None:
    """What was sent stays sent."""
    for was, now in zip(before.episodes, after.episodes, strict=False):
        if was is not now:
            for row in ("context", "task"):
                if getattr(was, row) == "sent" != getattr(now, row):
                    return Broken(4, f"the {row}'s row was sent and is {getattr(now, row)}")
    return None


@cache
def _policy() -> Policy:
    return read_policy()
