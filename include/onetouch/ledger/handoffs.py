"""Handoffs: each is one episode of one account, from the decision to its end, with every move in between."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, bindparam, case, func, not_, or_, select, true, type_coerce, update

from onetouch.ledger.columns import Moment, clean, encode, missing, utc
from onetouch.ledger.outbox import OVER, Outboxes, abandon
from onetouch.ledger.rows import frame, rows_of
from onetouch.ledger.runs import Run, require_run
from onetouch.ledger.states import ACTIVE, STATES, TERMINAL, NotInLedger, check_move
from onetouch.ledger.tables import handoff_moves, handoffs, outbox, runs, touches

if TYPE_CHECKING:
    import pandas as pd

_STAMPS = {"touched": "touched_at", "replied": "replied_at"} | dict.fromkeys(TERMINAL, "closed_at")
"""State → the column with the moment it was reached."""

_LEARNED = frozenset({"task_id", "owner_id", "owner_email", "due_at"})
"""Facts that any move may add to the handoff."""

RECENT = timedelta(days=7)
"""How far back `rep_load` lists handoffs one by one: long enough for a working day and the days off before it."""

AFTERMATH = timedelta(days=7)
"""Ours: how long after the end of a handoff a touch by its rep is still taken for one because of it."""

ESCALATION = "escalation"
"""The kind of the outbox row by which a task is given to another rep; its payload holds `from`, `from_email`, `to` and
`to_email`."""

REASSIGNMENT = "reassignment"
"""The kind of the outbox row by which the task of an owner who has left, is away or has lost the territory is given to
another rep; its payload holds the same, and `because`, `at` (as_of of its run) and `due_at`."""

ALERT_LINK = "alert_link"
"""The kind of the outbox row that keeps where a handoff's alert can be opened; its external id is the address."""

REFUSED, OWNER_REFUSED, NOT_DELIVERED = "refused", "refused for its owner", "not delivered"
"""How the reason begins (up to its colon) of a handoff that was withdrawn because the CRM did not take it, did not take
its owner, or did not take it in time. No rep has seen it: it answers no trigger event, and sales does not back off."""

LONGEST_ID = 255
"""Most characters of an account id: the length of its field in a CRM (an index limits it, too)."""


_Step = tuple[dict[str, Any], dict[str, Any]]
"""A row of `handoff_moves`, and the columns of its handoff that change with it."""


@dataclass(frozen=True)
class Handoff:
    """One episode of one account. Moments are UTC; `potential_arr` in dollars a year; unknown is None."""

    handoff_id: str
    account_id: str
    crm_account_id: str | None
    episode: int
    decision_id: str | None
    run_id: str
    state: str
    owner_email: str | None
    owner_id: str | None
    decided_at: datetime
    due_at: datetime | None
    score: float | None
    tier: str | None
    signals: list[str]
    potential_arr: float | None
    motion: str | None
    task_id: str | None
    touched_at: datetime | None
    replied_at: datetime | None
    closed_at: datetime | None
    reason: str

    @property
    def active(self) -> bool:
        """Whether the episode has not ended."""
        return self.state in ACTIVE

    @property
    def refused(self) -> bool:
        """Whether it was withdrawn because the CRM refused it."""
        return refused(self.state, self.reason)


_COLUMNS = [field.name for field in fields(Handoff)]
_LOAD = ["owner_email", "open", "last_assigned_at", "recent"]
_REST = ("rest_state", "rest_at", "rest_owner")

Rows = Callable[[Handoff], Iterable[Mapping[str, Any]]]
"""The outbox rows for a handoff that has just been opened."""


def refused(state: str, reason: str) -> bool:
    """Whether a handoff in that state, moved there for that reason, was withdrawn because the CRM refused it."""
    return state == "withdrawn" and reason.split(":")[0] in (REFUSED, OWNER_REFUSED)


def handoff_id(account_id: str, episode: int) -> str:
    """The id of an account's nth episode: 32 hex digits, the same wherever it is computed."""
    return hashlib.sha256(encode([account_id, episode]).encode()).hexdigest()[:32]


class Handoffs(Outboxes):
    """The part of the ledger about handoffs."""

    def open_handoff(self, decision: Mapping[str, Any], run: Run, rows: Rows | None = None) -> Handoff | None:
        """Opens the handoff of a decision in state `decided`; called again, it returns the existing one.

        None when the account may not be handed over as of this run: another handoff of it is active, was active at
        `run.as_of`, or was decided later (a re-run of an old run opens nothing behind newer ones). A handoff that
        existed already may have moved on, even ended: check its state.

        `decision` holds the columns of `decisions/{run_id}.parquet`; `signals` are those of its `reasons` that
        earned points. `rows` gives the outbox rows of a newly opened handoff, {key, destination, kind, payload}: they
        are put in the outbox in the same transaction, so neither ever exists without the other.
        Raises ValueError for a dry run, a missing account_id or an `as_of` other than the run's.
        """
        return self.open_handoffs([decision], run, rows)[0]

    def open_handoffs(
        self,
        decisions: Iterable[Mapping[str, Any]],
        run: Run,
        rows: Rows | None = None,
        knew: Mapping[str, tuple[str, str]] | None = None,
    ) -> list[Handoff | None]:
        """`open_handoff` for each decision, in one transaction: all or none. Results are in the order of decisions.

        `knew`: account → (id, state) of the last handoff that its decision knew of; an account without one is not in
        it. Also None for an account whose last handoff is another one, or in another state: what was decided without
        knowing that is decided again by the next run.
        """
        if run.dry_run:
            raise ValueError(f"run {run.run_id}: a dry run opens no handoffs")
        wanted = [_opening(decision, run) for decision in decisions]
        with self.writing() as connection:
            require_run(connection, run.run_id)
            earlier: dict[str, list[dict[str, Any]]] = {}
            accounts = {row["account_id"] for row in wanted}
            for row in rows_of(connection, select(handoffs, _last_known()), handoffs.c.account_id, accounts):
                earlier.setdefault(row["account_id"], []).append(row)
            new: dict[str, dict[str, Any]] = {}
            answers: list[Handoff | None] = []
            for row in wanted:
                account_id = row["account_id"]
                theirs = earlier.get(account_id, [])
                same = [other for other in theirs if other["decided_at"] == run.as_of]
                if same:
                    answers.append(_handoff(same[0]))
                elif account_id in new:
                    answers.append(Handoff(**new[account_id]))
                elif any(_stands_in_the_way(other, run.as_of) for other in theirs) or (
                    knew is not None and knew.get(account_id) != _last(theirs)
                ):
                    answers.append(None)
                else:
                    episode = 1 + max((other["episode"] for other in theirs), default=0)
                    new[account_id] = row | {"episode": episode, "handoff_id": handoff_id(account_id, episode)}
                    answers.append(Handoff(**new[account_id]))
            if new:
                connection.execute(self.insert(handoffs), list(new.values()))
                connection.execute(self.insert(handoff_moves), [_first_move(row) for row in new.values()])
            if rows is not None:
                told = {row["handoff_id"]: Handoff(**row) for row in new.values()}
                its: dict[str, Any] = {"run_id": run.run_id}
                self.lay_out(connection, [{**its, **row, "handoff_id": i} for i, h in told.items() for row in rows(h)])
        return answers

    def move(
        self,
        handoff_id: str,
        to_state: str,
        at: datetime,
        reason: str = "",
        *,
        as_of: datetime | None = None,
        **learned: Any,
    ) -> Handoff:
        """Moves a handoff to another state and returns it.

        A move to the present state, and a move already made (same state, same `at`), change nothing.

        `at` is when it happened (the CRM's time, or the run's as_of). `as_of` is the moment of the run that
        learned of it, `at` when not given: a reply of 9:30 read by the 10:00 run must stay unknown to a re-run of
        the 9:45 run. `learned` are new facts: task_id, owner_id, owner_email, due_at; touched_at, replied_at,
        closed_at with the move that reaches the state (default `at`). None is not a fact and erases nothing.
        Raises IllegalMove, NotInLedger, ValueError (unknown state or fact).
        """
        moving = {"handoff_id": handoff_id, "to_state": to_state, "at": at, "reason": reason, "as_of": as_of}
        return self.move_all([moving | learned])[0]

    def move_all(self, moves: Iterable[Mapping[str, Any]]) -> list[Handoff]:
        """`move` for each row {handoff_id, to_state, at, reason?, as_of?, …facts}, in order, in one transaction.

        All or none; results are in the order of the rows, each handoff as it is after all of them.
        """
        moves = list(moves)
        ids = {str(row["handoff_id"]) for row in moves}
        with self.writing() as connection:
            at_hand = {
                row["handoff_id"]: dict(row)
                for row in rows_of(connection, select(handoffs), handoffs.c.handoff_id, ids)
            }
            history: dict[str, list[dict[str, Any]]] = {}
            query = select(handoff_moves).order_by(handoff_moves.c.handoff_id, handoff_moves.c.step)
            for done in rows_of(connection, query, handoff_moves.c.handoff_id, ids):
                history.setdefault(done["handoff_id"], []).append(done)
            steps: list[_Step] = []
            for row in moves:
                steps += self._next_step(at_hand, history, dict(row))
            self._write(connection, steps)
        return [Handoff(**at_hand[str(row["handoff_id"])]) for row in moves]

    @staticmethod
    def _next_step(
        at_hand: dict[str, dict[str, Any]], history: dict[str, list[Any]], row: dict[str, Any]
    ) -> Iterator[_Step]:
        """The step of a move, if it changes anything; `at_hand` and `history` know it from then on."""
        moving, to_state, at = str(row.pop("handoff_id")), row.pop("to_state"), utc(row.pop("at"))
        reason, as_of = clean(row.pop("reason", "")), row.pop("as_of", None)
        if to_state not in STATES:
            raise ValueError(f"state {to_state!r}: not a state of a handoff; allowed: {', '.join(STATES)}")
        allowed = _LEARNED | {_STAMPS[to_state]} if to_state in _STAMPS else _LEARNED
        if unknown := sorted(set(row) - allowed):
            raise ValueError(
                f"a move to {to_state} cannot tell {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}"
            )
        if moving not in at_hand:
            raise NotInLedger(f"handoff {moving}: not in the ledger; open_handoff makes it")
        handoff = at_hand[moving]
        if to_state == handoff["state"] or (to_state, at) in {(m["to_state"], m["at"]) for m in history[moving]}:
            return
        check_move(moving, handoff["state"], to_state)

        last = history[moving][-1]
        change = {name: _fact(value) for name, value in row.items() if not missing(value)}
        if to_state in _STAMPS:
            change.setdefault(_STAMPS[to_state], at)
        change |= {"state": to_state, "reason": reason or handoff["reason"]}
        step = {
            "handoff_id": moving,
            "step": last["step"] + 1,
            "from_state": handoff["state"],
            "to_state": to_state,
            "at": at,
            # Never before the previous move, so that the moves known at any moment are always the first of the history.
            "known_at": max(at, at if as_of is None else utc(as_of), last["known_at"]),
            "owner_email": change.get("owner_email", handoff["owner_email"]),
            "reason": reason,
        }
        history[moving].append(step)
        handoff.update(change)
        yield step, change

    def _write(self, connection: Connection, steps: list[_Step]) -> None:
        """Writes steps, of each handoff in their order. Those that change the same columns are written together."""
        turns: dict[tuple[int, tuple[str, ...]], list[_Step]] = {}
        passed: Counter[str] = Counter()
        for step, change in steps:
            turns.setdefault((passed[step["handoff_id"]], tuple(sorted(change))), []).append((step, change))
            passed[step["handoff_id"]] += 1
        for (_, columns), together in sorted(turns.items()):
            connection.execute(self.insert(handoff_moves), [step for step, _ in together])
            changed = update(handoffs).where(handoffs.c.handoff_id == bindparam("its_id"))
            connection.execute(
                changed.values({name: bindparam(f"new_{name}") for name in columns}),
                [
                    {"its_id": step["handoff_id"]} | {f"new_{name}": change[name] for name in columns}
                    for step, change in together
                ],
            )
        abandon(connection, [step["handoff_id"] for step, _ in steps if step["to_state"] in TERMINAL])

    def link(self, crm_account_ids: Mapping[str, str]) -> None:
        """Sets the CRM record of handoffs that have none: handoff id → CRM account id."""
        with self.writing() as connection:
            for its_id, crm_id in crm_account_ids.items():
                mine = and_(handoffs.c.handoff_id == its_id, handoffs.c.crm_account_id.is_(None))
                connection.execute(update(handoffs).where(mine).values(crm_account_id=crm_id))

    def relink(self, merged: Mapping[str, str]) -> int:
        """Moves handoffs of merged CRM accounts (old id → surviving id) to the surviving one. Returns how many."""
        with self.writing() as connection:
            moved = 0
            for old, new in merged.items():
                theirs = update(handoffs).where(handoffs.c.crm_account_id == old)
                moved += connection.execute(theirs.values(crm_account_id=new)).rowcount
        return moved

    def rename_accounts(self, ids: Mapping[str, str]) -> int:
        """Gives handoffs and touches of accounts under a former id (former id → id) the id of today; returns how many.

        Handoffs keep their own ids. Repeating it changes nothing.
        """
        with self.writing() as connection:
            renamed = 0
            for table in (handoffs, touches):
                there = set(connection.execute(select(table.c.account_id).distinct()).scalars())
                for old in sorted(there & ids.keys()):
                    if table is handoffs and ids[old] in there:
                        continue  # both have handoffs: two numberings of episodes cannot become one
                    theirs = update(table).where(table.c.account_id == old)
                    renamed += connection.execute(theirs.values(account_id=ids[old])).rowcount
        return renamed

    def reassign(
        self, handoff_id: str, owner_id: str | None, owner_email: str | None, due_at: datetime | None = None
    ) -> None:
        """Sets the owner after the task was reassigned in the CRM; the next move records it in the history.

        `due_at`: by when the new owner must make contact; None: as before.
        """
        change = update(handoffs).where(handoffs.c.handoff_id == handoff_id)
        new: dict[str, Any] = {"owner_id": owner_id, "owner_email": owner_email}
        with self.writing() as connection:
            connection.execute(change.values(new if due_at is None else new | {"due_at": utc(due_at)}))

    def rename_reps(self, emails: Mapping[str, str | None]) -> int:
        """Gives the handoffs of reps whose e-mail address has changed the address of today: owner id → address.

        Touches under the former address follow, unless it is another user's by now; moves keep what was written
        (`rep_load` knows better). Returns how many handoffs; repeating it changes nothing.
        """
        known = select(handoffs.c.owner_id, handoffs.c.owner_email).where(handoffs.c.owner_email.is_not(None))
        with self.reading() as connection:
            pairs = [(owner_id, before) for owner_id, before in connection.execute(known.distinct())]
        today = [(owner_id, before, emails.get(owner_id or "")) for owner_id, before in pairs]
        changed = [(owner_id, before, now) for owner_id, before, now in today if now and now != before.strip().lower()]
        if not changed:
            return 0
        renamed = 0
        with self.writing() as connection:
            for owner_id, before, now in changed:
                theirs = update(handoffs).where(handoffs.c.owner_id == owner_id, handoffs.c.owner_email == before)
                renamed += connection.execute(theirs.values(owner_email=now)).rowcount
                if before.strip().lower() not in emails.values():
                    connection.execute(update(touches).where(touches.c.owner_email == before).values(owner_email=now))
        return renamed

    def handoffs(
        self,
        *,
        states: Collection[str] | None = None,
        account_ids: Collection[str] | None = None,
        crm_account_ids: Collection[str] | None = None,
        handoff_ids: Collection[str] | None = None,
        run_id: str | None = None,
    ) -> list[Handoff]:
        """Handoffs in their present state, ordered by moment of decision, then id; every given filter applies."""
        query = select(handoffs).order_by(handoffs.c.decided_at, handoffs.c.handoff_id)
        if states is not None:
            query = query.where(handoffs.c.state.in_(list(states)))
        if run_id is not None:
            query = query.where(handoffs.c.run_id == run_id)
        with self.reading() as connection:
            if handoff_ids is not None:
                found = rows_of(connection, query, handoffs.c.handoff_id, handoff_ids)
            elif crm_account_ids is None:
                found = rows_of(connection, query, handoffs.c.account_id, account_ids)
            else:
                found = rows_of(connection, query, handoffs.c.crm_account_id, crm_account_ids)
        return [_handoff(row) for row in found if account_ids is None or row["account_id"] in account_ids]

    def decided(self, since: datetime, before: datetime) -> list[tuple[datetime, str | None]]:
        """(decided_at, owner_email) of the handoffs decided from `since` up to before `before`, in order."""
        query = select(handoffs.c.decided_at, handoffs.c.owner_email).order_by(handoffs.c.decided_at)
        query = query.where(handoffs.c.decided_at >= utc(since), handoffs.c.decided_at < utc(before))
        with self.reading() as connection:
            return [(at, email) for at, email in connection.execute(query)]

    def moves(self, handoff_ids: Collection[str] | None = None) -> pd.DataFrame:
        """Every move, in order: handoff_id, step, from_state, to_state, at, known_at, owner_email, reason."""
        query = select(handoff_moves).order_by(handoff_moves.c.handoff_id, handoff_moves.c.step)
        with self.reading() as connection:
            rows = rows_of(connection, query, handoff_moves.c.handoff_id, handoff_ids)
        return frame(rows, list(handoff_moves.c.keys()))

    def handoff_frame(self, as_of: datetime) -> pd.DataFrame:
        """One row an account: its latest handoff decided before `as_of`, as far as it was known at `as_of`.

        Columns: account_id, handoff_id, episode, state, owner_email, decided_at, touched_at, closed_at, signals,
        run_id, reason, first_task_at, answered_at, refused_at, rest_state, rest_at, rest_owner; ordered by account.
        What later runs decided or learned is left out, so a re-run sees what its first attempt saw. Times are UTC;
        touched_at, closed_at and first_task_at (when its first handoff with a task was decided) are null until known.
        `answered_at`: when its last handoff was decided that the CRM did not refuse. `refused_at`: when the CRM refused
        this one, until the row is queued again or is over (`outbox.retry`, `outbox.settle`).
        `reason` is that of the last move. `rest_…` is the account's last handoff, this or an earlier one, that has
        ended and for which anybody was in touch (`contacted`): its state, when it was over (its end, or a touch that
        was logged for it later), and its rep.

        `signals` are the signals a rep was last shown: those of the account's latest handoff that reached a task, which
        is an earlier handoff when this one was withdrawn before its task existed. Empty when no handoff reached a task.
        """
        as_of = utc(as_of)
        latest = (
            select(
                handoffs.c.account_id,
                func.max(handoffs.c.episode).label("episode"),
                func.min(case((handoffs.c.task_id.is_not(None), handoffs.c.decided_at))).label("first_task_at"),
            )
            .where(handoffs.c.decided_at < as_of)
            .group_by(handoffs.c.account_id)
            .subquery()
        )
        known = _known(as_of)
        touched = _touched(as_of)
        seen, answered = _seen(as_of), _answered(as_of)
        stands = select(outbox.c.handoff_id).where(outbox.c.state == "failed", outbox.c.reason.not_in(OVER))
        refused = _reason_is(known, REFUSED, OWNER_REFUSED) & handoffs.c.handoff_id.in_(stands)
        query = (
            select(
                handoffs.c.account_id,
                handoffs.c.handoff_id,
                handoffs.c.episode,
                known.c.to_state.label("state"),
                known.c.owner_email,
                handoffs.c.decided_at,
                case((touched.c.handoff_id.is_not(None), handoffs.c.touched_at)).label("touched_at"),
                case((known.c.to_state.in_(TERMINAL), handoffs.c.closed_at)).label("closed_at"),
                seen.c.signals,
                handoffs.c.run_id,
                known.c.reason,
                type_coerce(latest.c.first_task_at, Moment).label("first_task_at"),
                type_coerce(answered.c.answered_at, Moment).label("answered_at"),
                type_coerce(case((refused, handoffs.c.closed_at)), Moment).label("refused_at"),
            )
            .join(latest, and_(latest.c.account_id == handoffs.c.account_id, latest.c.episode == handoffs.c.episode))
            .join(known, known.c.handoff_id == handoffs.c.handoff_id)
            .join(touched, touched.c.handoff_id == handoffs.c.handoff_id, isouter=True)
            .join(seen, seen.c.account_id == handoffs.c.account_id, isouter=True)
            .join(answered, answered.c.account_id == handoffs.c.account_id, isouter=True)
            .order_by(handoffs.c.account_id)
        )
        with self.reading() as connection:
            rows = rows_of(connection, query)
            rests = _rests(connection, as_of) if rows else {}
        none = dict.fromkeys(_REST)
        rows = [{**row, "signals": row["signals"] or [], **rests.get(row["account_id"], none)} for row in rows]
        return frame(rows, [*query.selected_columns.keys(), *_REST])

    def contacted(self, ended: Iterable[Handoff], as_of: datetime) -> dict[str, datetime]:
        """When anybody was in touch because of these handoffs, as far as known at `as_of`; handoff id → moment.

        That is the touch that moved the handoff on. Where none did, because it was logged only after the handoff had
        expired or been withdrawn, it is the last touch on its task, of the account while the handoff went on, or by its
        rep in the AFTERMATH of its end.
        """
        rows = [{name: getattr(handoff, name) for name in _COLUMNS} for handoff in ended]
        with self.reading() as connection:
            return _contacted(connection, rows, utc(as_of))

    def first_task_at(self, before: datetime) -> datetime | None:
        """When the first handoff that got a task was decided, of those decided before that moment; None: none was."""
        query = select(handoffs.c.decided_at).where(
            handoffs.c.task_id.is_not(None), handoffs.c.decided_at < utc(before)
        )
        with self.reading() as connection:
            return connection.scalar(query.order_by(handoffs.c.decided_at).limit(1))

    def rep_load(self, as_of: datetime, addresses: Collection[str] = ()) -> pd.DataFrame:
        """The workload of each rep as of a moment, from handoffs decided before it, ordered by e-mail.

        Columns: owner_email; open (number of active handoffs); last_assigned_at; recent (ordered list of the moments of
        decision within RECENT before `as_of`, of handoffs in any state). A handoff that was escalated or reassigned
        before `as_of` counts for its new owner, from that run on.

        `addresses`: of all users of the CRM, in lower case, where they are known. What was decided for an address that
        is nobody's any more counts for its rep's address of today (`rename_reps`).
        """
        as_of = utc(as_of)
        known = _known(as_of)
        both = known.c.owner_email, handoffs.c.owner_email.label("now")
        query = (
            select(
                *both,
                func.sum(case((known.c.to_state.in_(ACTIVE), 1), else_=0)).label("open"),
                func.max(handoffs.c.decided_at).label("last_assigned_at"),
            )
            .join(known, known.c.handoff_id == handoffs.c.handoff_id)
            .where(handoffs.c.decided_at < as_of, known.c.owner_email.is_not(None))
            .group_by(known.c.owner_email, handoffs.c.owner_email)
            .order_by(known.c.owner_email)
        )
        lately = _known(as_of, since=as_of - RECENT)
        late = (
            select(lately.c.owner_email, handoffs.c.owner_email.label("now"), handoffs.c.decided_at)
            .join(lately, lately.c.handoff_id == handoffs.c.handoff_id)
            .where(handoffs.c.decided_at < as_of, handoffs.c.decided_at >= as_of - RECENT)
            .order_by(handoffs.c.decided_at)
        )
        with self.reading() as connection:
            rows, lately_given = rows_of(connection, query), rows_of(connection, late)
            given_on = _given_on(connection, as_of)

        def renamed(email: str) -> bool:
            return bool(addresses) and email.strip().lower() not in addresses

        def whose(row: Mapping[str, Any]) -> str:
            return str(row["now"] if row["now"] and renamed(row["owner_email"]) else row["owner_email"])

        load: dict[str, dict[str, Any]] = {}
        for row in rows:
            email = whose(row)
            its = load.setdefault(email, {"owner_email": email, "open": 0, "last_assigned_at": None, "recent": []})
            its["open"] += row["open"]
            its["last_assigned_at"] = max(filter(None, (its["last_assigned_at"], row["last_assigned_at"])))
        for row in lately_given:
            if row["owner_email"] is not None:
                load[whose(row)]["recent"].append(row["decided_at"])
        for before, to, state, at in given_on:
            nothing = {"owner_email": to, "open": 0, "last_assigned_at": at, "recent": []}
            theirs = load.setdefault(to, nothing)
            if state in ACTIVE and not renamed(before):  # else it counts for whom it has gone to already
                load[before]["open"] -= 1
                theirs["open"] += 1
            theirs["last_assigned_at"] = max(theirs["last_assigned_at"], at)
            if at >= as_of - RECENT:
                theirs["recent"] = sorted([*theirs["recent"], at])
        return frame([load[email] for email in sorted(load)], _LOAD)


def _known(as_of: datetime, since: datetime | None = None) -> Any:
    """The last move of each handoff known at `as_of`; with `since`, only moves that became known since then."""
    last = (
        select(handoff_moves.c.handoff_id, func.max(handoff_moves.c.step).label("step"))
        .where(handoff_moves.c.known_at <= as_of, true() if since is None else handoff_moves.c.known_at >= since)
        .group_by(handoff_moves.c.handoff_id)
        .subquery()
    )
    return (
        select(handoff_moves)
        .join(last, and_(last.c.handoff_id == handoff_moves.c.handoff_id, last.c.step == handoff_moves.c.step))
        .subquery("known")
    )


def _given_on(connection: Connection, as_of: datetime) -> list[tuple[str, str, str, datetime]]:
    """Each time before `as_of` that a handoff was given to another rep whom no move since records: the former owner and
    the new one, the state known at `as_of`, and when, in that order."""
    known = _known(as_of)
    query = (
        select(
            outbox.c.handoff_id,
            outbox.c.payload,
            runs.c.as_of,
            known.c.to_state,
            known.c.owner_email,
            handoffs.c.owner_id.label("now_id"),
            handoffs.c.owner_email.label("now_email"),
        )
        .join(runs, runs.c.run_id == outbox.c.run_id)
        .join(handoffs, handoffs.c.handoff_id == outbox.c.handoff_id)
        .join(known, known.c.handoff_id == outbox.c.handoff_id)
        .where(outbox.c.kind.in_((ESCALATION, REASSIGNMENT)), outbox.c.state == "sent", runs.c.as_of < as_of)
        .order_by(runs.c.as_of, outbox.c.key)
    )
    owner: dict[str, str | None] = {}
    passed = []
    for row in rows_of(connection, query):
        before = owner.setdefault(row["handoff_id"], row["owner_email"])
        if before is not None and row["payload"].get("from_email") == before:
            # The address of today, should the rep have got another one since.
            theirs = row["payload"].get("to") == row["now_id"] and row["now_email"]
            owner[row["handoff_id"]] = to = theirs or row["payload"]["to_email"]
            passed.append((before, to, row["to_state"], row["as_of"]))
    return passed


def _touched(as_of: datetime) -> Any:
    """The handoffs whose touch was known at `as_of`."""
    moves = handoff_moves.c
    query = select(moves.handoff_id).where(moves.to_state == "touched", moves.known_at <= as_of)
    return query.subquery("touched")


def _rests(connection: Connection, as_of: datetime) -> dict[str, dict[str, Any]]:
    """Account → _REST of its last handoff that has ended and for which anybody was in touch."""
    known, touched = _known(as_of), _touched(as_of)
    query = (
        select(
            handoffs.c.account_id,
            handoffs.c.handoff_id,
            known.c.to_state.label("state"),
            known.c.owner_email,
            handoffs.c.decided_at,
            handoffs.c.closed_at,
            case((touched.c.handoff_id.is_not(None), handoffs.c.touched_at)).label("touched_at"),
        )
        .join(known, known.c.handoff_id == handoffs.c.handoff_id)
        .join(touched, touched.c.handoff_id == handoffs.c.handoff_id, isouter=True)
        .where(handoffs.c.decided_at < as_of, known.c.to_state.in_(TERMINAL))
    )
    ended = rows_of(connection, query)
    contacted = _contacted(connection, ended, as_of)
    rests: dict[str, dict[str, Any]] = {}
    for row in ended:
        if (at := contacted.get(row["handoff_id"])) is None and row["state"] not in ("won", "lost"):
            continue
        over = row["closed_at"] if at is None else max(row["closed_at"], at)
        if row["account_id"] not in rests or over > rests[row["account_id"]]["rest_at"]:
            rests[row["account_id"]] = {"rest_state": row["state"], "rest_at": over, "rest_owner": row["owner_email"]}
    return rests


def _contacted(connection: Connection, rows: Iterable[Mapping[str, Any]], as_of: datetime) -> dict[str, datetime]:
    """`Handoffs.contacted` of rows that have the columns of a handoff."""
    rows = list(rows)
    found = {row["handoff_id"]: row["touched_at"] for row in rows if row["touched_at"] is not None}
    untouched = {row["handoff_id"]: row for row in rows if row["handoff_id"] not in found}
    if not untouched:
        return found
    query = (
        select(
            handoffs.c.handoff_id,
            touches.c.at,
            touches.c.owner_email.label("by"),
            touches.c.handoff_id.label("task_of"),
        )
        .join(touches, and_(touches.c.account_id == handoffs.c.account_id, touches.c.at > handoffs.c.decided_at))
        .where(
            touches.c.known_at <= as_of,
            or_(
                touches.c.handoff_id == handoffs.c.handoff_id,
                touches.c.at <= handoffs.c.closed_at,
                func.lower(touches.c.owner_email) == func.lower(handoffs.c.owner_email),
            ),
        )
    )
    for touch in rows_of(connection, query, handoffs.c.handoff_id, untouched):
        row, at = untouched[touch["handoff_id"]], touch["at"]
        if _because_of(row, touch) and at > found.get(row["handoff_id"], row["decided_at"]):
            found[row["handoff_id"]] = at
    return found


def _because_of(handoff: Mapping[str, Any], touch: Mapping[str, Any]) -> bool:
    if touch["task_of"] is not None:
        return bool(touch["task_of"] == handoff["handoff_id"])
    its_rep = (touch["by"] or "").lower() == (handoff["owner_email"] or "").lower() != ""
    return bool(touch["at"] <= handoff["closed_at"] + (AFTERMATH if its_rep else timedelta(0)))


def _seen(as_of: datetime) -> Any:
    """The signals of each account's latest handoff decided before `as_of` whose task was known then."""
    latest = (
        select(handoffs.c.account_id, func.max(handoffs.c.episode).label("episode"))
        .join(handoff_moves, handoff_moves.c.handoff_id == handoffs.c.handoff_id)
        .where(
            handoffs.c.decided_at < as_of,
            handoff_moves.c.to_state == "task_open",
            handoff_moves.c.known_at <= as_of,
        )
        .group_by(handoffs.c.account_id)
        .subquery()
    )
    return (
        select(handoffs.c.account_id, handoffs.c.signals)
        .join(latest, and_(latest.c.account_id == handoffs.c.account_id, latest.c.episode == handoffs.c.episode))
        .subquery("seen")
    )


def _answered(as_of: datetime) -> Any:
    """When each account's last handoff was decided that did not fail at the CRM."""
    known = _known(as_of)
    return (
        select(handoffs.c.account_id, func.max(handoffs.c.decided_at).label("answered_at"))
        .join(known, known.c.handoff_id == handoffs.c.handoff_id)
        .where(handoffs.c.decided_at < as_of, not_(_reason_is(known, REFUSED, OWNER_REFUSED, NOT_DELIVERED)))
        .group_by(handoffs.c.account_id)
        .subquery("answered")
    )


def _reason_is(known: Any, *kinds: str) -> Any:
    """Whether a handoff was withdrawn for a reason of these kinds; `known`: its moves known at a moment."""
    return (known.c.to_state == "withdrawn") & or_(*[known.c.reason.startswith(f"{kind}:") for kind in kinds])


def _last_known() -> Any:
    """When a handoff's last move became known."""
    moved = select(func.max(handoff_moves.c.known_at)).where(handoff_moves.c.handoff_id == handoffs.c.handoff_id)
    return moved.scalar_subquery().label("last_known_at")


def _stands_in_the_way(other: Mapping[str, Any], as_of: datetime) -> bool:
    return other["state"] in ACTIVE or other["decided_at"] > as_of or other["last_known_at"] > as_of


def _last(handoffs: Iterable[Mapping[str, Any]]) -> tuple[str, str] | None:
    """(id, state) of the last of an account's handoffs."""
    last = max(handoffs, key=lambda handoff: handoff["episode"], default=None)
    return None if last is None else (last["handoff_id"], last["state"])


def _opening(decision: Mapping[str, Any], run: Run) -> dict[str, Any]:
    given: dict[str, Any] = {name: None if missing(decision.get(name)) else decision[name] for name in decision}
    account_id = given.get("account_id")
    if not isinstance(account_id, str) or not account_id:
        raise ValueError("decision without account_id; every decision names its account")
    if clean(account_id) != account_id or len(account_id) > LONGEST_ID:
        raise ValueError(
            f"account_id of {len(account_id)} characters: at most {LONGEST_ID}, neither NUL nor lone surrogates"
        )
    if given.get("as_of") is not None and utc(given["as_of"]) != run.as_of:
        raise ValueError(f"decision of {utc(given['as_of']).isoformat()} given to run {run.run_id}; take its own run")
    reasons = given.get("reasons")
    told = {name: _fact(given.get(name)) for name in ("crm_account_id", "decision_id", "owner_email", "owner_id")}
    told |= {name: _fact(given.get(name)) for name in ("due_at", "tier", "motion")}
    figures = {name: None if given.get(name) is None else float(given[name]) for name in ("score", "potential_arr")}
    return {
        **told,
        **figures,
        "account_id": account_id,
        "run_id": run.run_id,
        "state": "decided",
        "decided_at": run.as_of,
        "signals": sorted({str(r["signal"]) for r in ([] if reasons is None else reasons) if r["points"] > 0}),
        "task_id": None,
        "touched_at": None,
        "replied_at": None,
        "closed_at": None,
        "reason": "",
    }


def _first_move(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "handoff_id": row["handoff_id"],
        "step": 0,
        "from_state": None,
        "to_state": "decided",
        "at": row["decided_at"],
        "known_at": row["decided_at"],
        "owner_email": row["owner_email"],
        "reason": "",
    }


def _fact(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc(value)
    return clean(value) if isinstance(value, str) else value


def _handoff(row: Mapping[str, Any]) -> Handoff:
    return Handoff(**{name: row[name] for name in _COLUMNS})
