"""Which rep gets a task: the rep of before, then the account's owner, then its territory, then round robin (S4).

A rep who is on leave, has a public holiday, or has no working time before the task expires gets no new task: the
account passes to the next of these steps. A rep whose day is merely full keeps the account in their queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.catalogue import HOLD_CAPACITY, SALES_NOW
from onetouch.columns import number
from onetouch.ledger import RECENT
from onetouch.policy import Policy, Territory, country_of, listed_reps, tasks_of, zone_of
from onetouch.routing.ramp import tasks_of_the_day
from onetouch.routing.working_time import Calendar, calendars

_CANDIDATE = ("account_id", "score", "region", "industry", "employees", "owner_email")


def team(signals: pd.DataFrame, reps: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.DataFrame:
    """Everyone who may be given a task: one row a person, indexed and sorted by e-mail in lower case.

    `reps`: the CRM's users (owner_id, email, active, timezone); `signals`: the accounts, read for their owners
    (owner_email, owner_id, owner_active). Days are those of the rep's own calendar. Columns:

    - owner_id; active: false for a user who is inactive in the CRM and therefore gets no task
    - senior; timezone: the policy's value, else the CRM's, else that of `working_time`; country: ISO code or null
    - tasks_per_day; leave: tuple of pairs (first day, last day)
    - round_robin: takes part in the round robin: the reps of `assignment.reps`; if the policy lists none, the active
      users who own accounts; if nobody owns any, all active users
    - away: may get no new task, because today is leave or a public holiday, or because no working time comes before
      a task would expire
    - works_today: some of today's working time is still to come
    - day_began: from when tasks count for the rep's day: midnight, or the end of the previous working day if that is
      earlier (tasks given at a weekend are Monday's work)
    """
    assignment, reps_of = policy.assignment, listed_reps(policy.assignment)
    people, owning = _known(signals, reps)
    if reps.empty:  # accounts from a file: people are known from the policy alone
        named = [*reps_of, *(email.lower() for place in assignment.territories for email in place.reps)]
        strangers = pd.Index(named, dtype="str").unique().difference(people.index)
        unknown = {"owner_id": None, "active": True, "timezone": None}
        people = pd.concat([people, pd.DataFrame(unknown, index=strangers)])
    people = people.sort_index()

    says = [reps_of.get(email) for email in people.index]
    active = people["active"].to_numpy(bool)
    pool = people.index.isin(list(reps_of or owning)) if reps_of or owning else active
    people = pd.DataFrame(
        {
            "owner_id": people["owner_id"].astype("str"),
            "active": active,
            "senior": np.array([rep is not None and rep.senior for rep in says], dtype=bool),
            "timezone": [
                zone_of(reps_of.get(str(email)), told, assignment) for email, told in people["timezone"].items()
            ],
            "country": [country_of(rep, assignment) for rep in says],
            "tasks_per_day": [tasks_of(rep, assignment) for rep in says],
            "leave": [tuple((out.first, out.last) for out in rep.leave) if rep else () for rep in says],
            "round_robin": active & pool,
        },
        index=people.index,
    )
    until = as_of + timedelta(hours=policy.handoff.expires_hours)
    plans = [_plan(calendar, as_of, until) for calendar in calendars(people, assignment.working_time).values()]
    return people.assign(
        away=np.array([away for away, _, _ in plans], dtype=bool),
        works_today=np.array([works for _, works, _ in plans], dtype=bool),
        day_began=[began for _, _, began in plans],
    )


def assign(
    candidates: pd.DataFrame,
    people: pd.DataFrame,
    rep_load: pd.DataFrame,
    policy: Policy,
    as_of: datetime,
    first_task_at: datetime | None = None,
) -> pd.DataFrame:
    """The rep of each account, indexed as `candidates` (account_id, score, region, industry, employees, owner_email;
    optionally `lot`, and `rep_before`: who was in touch with it lately, see `returns`).

    `people`: as `team` returns them; `rep_load`: as the ledger returns it (owner_email, open, recent,
    last_assigned_at). Columns:

    - owner_email, owner_id: the rep
    - assigned_by: why this rep: "rep of before", "owner", "territory NAME", "round robin", "senior",
      "territory NAME, senior"
    - has_room: whether the rep can take the task today; if not, the account waits in this rep's queue
    - covered: whether any rep may take the account (if not, owner_email and owner_id are null, assigned_by is empty)
    - waits_for: "" if the rep has room, "day" if only the day of all reps together is full, "room" if the days of all
      reps at work are full, "return" if every rep who may take it is away, "rep" if it is not covered

    Accounts are assigned in the order of `in_line`. With `beyond_the_day: queue`, at most
    `tasks_per_day` accounts are given room on a UTC day, fewer on the first days since `first_task_at` (`ramp`); the
    best of a rep whose own day begins only later on that day keep their places, so that no time zone takes them all.
    An account belongs to the rep of before, else to its owner, else to the first territory it fits, else to the round
    robin; a step without a rep at work is skipped. Within a team, an account with at least `senior_score` goes to a
    senior rep if one has room. Otherwise, and among seniors, the order is: fewest tasks today, still works today,
    fewest open tasks, longest since the last task, e-mail. A rep's day is full when `tasks_per_day` tasks were given
    since `day_began`.
    """
    order = in_line(candidates)
    takers = people[people["active"] & (people["tasks_per_day"] > 0)]
    given = _since_midnight(rep_load, as_of)
    desks = _desks(takers, rep_load, given)
    teams = _teams(desks, takers, policy)
    team_of = _team_of(order, teams, policy)
    went_to, why = np.full(len(order), None, dtype=object), np.full(len(order), "", dtype=object)
    has_room = np.zeros(len(order), dtype=bool)

    here = [desk.email for desk in desks.values() if not desk.away]
    before = _lower(order["rep_before"]) if "rep_before" in order else pd.Series("", order.index)
    again = before.isin(here).to_numpy(bool)
    owner = _lower(order["owner_email"]).mask(again, before)
    owned = owner.isin(here).to_numpy(bool)
    went_to[owned], why[owned] = owner[owned], np.where(again, "rep of before", "owner")[owned]

    # Each turn uses one free place of a rep and one of the day; the loop ends when either has none left.
    cut = policy.assignment.senior_score
    top = order["score"].to_numpy(float) >= (np.inf if cut is None else cut)
    room = sum(desk.room for desk in desks.values() if not desk.away)
    # The places of the day that all reps together have left; with "stop", delivery stops the run.
    queues = policy.assignment.beyond_the_day == "queue"
    day = tasks_of_the_day(policy, first_task_at, as_of) - sum(given.values()) if queues else np.inf
    now = pd.Timestamp(as_of).value
    for row in range(len(order)):
        if room == 0 or day <= 0:
            break
        own, group = went_to[row], teams[team_of[row]]
        able = [desks[own]] if own else group.here
        free = [desk for desk in able if desk.room > 0]
        if not free and (later := [desk for desk in able if desk.later > 0]):  # its place of the day is kept
            min(later, key=_Desk.turn).later -= 1
            day -= 1
        if free:
            seniors = [desk for desk in free if desk.senior] if top[row] and not own else []
            chosen = min(seniors or free, key=_Desk.turn)
            chosen.give(now + row)  # within this run, an earlier row counts as an earlier task
            room -= 1
            day -= 1
            went_to[row], has_room[row] = chosen.email, True
            why[row] = why[row] or (group.senior if seniors else group.name)

    # The day of all together is what an account waits for whose reps still have room.
    roomy_reps = {email for email, desk in desks.items() if desk.room > 0 and not desk.away}
    roomy = np.array([any(desk.room > 0 for desk in team.here) for team in teams], dtype=bool)
    day_full = ~has_room & np.where(owned, owner.isin(roomy_reps).to_numpy(bool), roomy[team_of])

    # Accounts without a free rep queue with the next rep in turn, spread evenly over the team.
    for place in np.unique(team_of):
        rows = np.flatnonzero(~owned & ~has_room & (team_of == place))
        line = sorted(teams[place].here or teams[place].desks, key=_Desk.turn)
        if line:
            went_to[rows] = [line[at % len(line)].email for at in range(len(rows))]
            why[rows] = teams[place].name
        if not teams[place].here:  # all are away, and the owner too: the account queues with its owner
            theirs = rows[owner.iloc[rows].isin(list(desks)).to_numpy(bool)]
            went_to[theirs], why[theirs] = owner.iloc[theirs], "owner"

    rep = pd.Series(went_to, order.index, dtype="str")
    away = rep.isin([desk.email for desk in desks.values() if desk.away])
    waits_for = np.select([has_room, rep.isna(), away, day_full], ["", "rep", "return", "day"], "room")
    return pd.DataFrame(
        {
            "owner_email": rep,
            "owner_id": rep.map(takers["owner_id"]).astype("str"),
            "assigned_by": pd.Series(why, order.index, dtype="str"),
            "has_room": has_room,
            "covered": rep.notna(),
            "waits_for": pd.Series(waits_for, order.index, dtype="str"),
        }
    ).reindex(candidates.index)


def next_in_turn(
    account: Mapping[str, Any],
    owner: str | None,
    people: pd.DataFrame,
    rep_load: pd.DataFrame,
    policy: Policy,
    as_of: datetime,
) -> str | None:
    """The e-mail of the rep who takes over a task from its `owner`, by the rules of `assign`; None: nobody has room.

    `account`: the columns of a candidate. A place of the rep's own day is used, none of the day of all reps together,
    since it is no new task.
    """
    rest = people.drop(index=[email for email in people.index if email == (owner or "").strip().lower()])
    candidate = pd.DataFrame([{name: account.get(name) for name in _CANDIDATE}])
    given = assign(candidate, rest, rep_load, policy.changed(assignment__beyond_the_day="stop"), as_of).iloc[0]
    return str(given["owner_email"]) if given["has_room"] else None


def territories_of(accounts: pd.DataFrame, policy: Policy) -> list[Territory | None]:
    """The first territory that each account fits (region, industry, employees); None: it fits none."""
    territories = policy.assignment.territories
    fits = [_fits(accounts, territory) for territory in territories]
    return [
        next((territory for territory, its in zip(territories, fits, strict=True) if its[row]), None)
        for row in range(len(accounts))
    ]


def in_line(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates by score, highest first, then by `lot` if they have one, then by account_id."""
    lots = ["lot"] if "lot" in candidates else []
    return candidates.sort_values(["score", *lots, "account_id"], ascending=[False, *(True for _ in lots), True])


def assignments(
    decisions: pd.DataFrame, rep_load: pd.DataFrame, people: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables: one row a rep, and one row an account that goes to a rep or waits for one, with the reason.

    `decisions`: of the run; `rep_load` and `people`: as given to `assign`.

    Reps, by e-mail (those in the round robin and those with any task or queued account): tasks_per_day, today (tasks
    given since the rep's day began, before this run), new (tasks given by this run), left (tasks the rep can still take
    after it), open (active handoffs, the new ones included), waiting (accounts in the rep's queue), away.

    Tasks, highest score first: account_id, score, action (sales_now or hold_capacity), owner_email (null: no rep may
    take the account), assigned_by, call (the contact reason), due_at, contact_at.
    """
    columns = ["account_id", "score", "action", "owner_email", "assigned_by", "call", "due_at", "contact_at"]
    theirs = decisions[decisions["action"].isin([SALES_NOW, HOLD_CAPACITY])]
    line = [name for name in ("turn",) if name in theirs]  # runs of earlier releases have no line
    order = ["score", *line, "account_id"]
    tasks = theirs.sort_values(order, ascending=[False, *(True for _ in order[1:])], ignore_index=True)[columns]
    counts = pd.crosstab(_lower(tasks["owner_email"]), tasks["action"]).reindex(
        index=people.index, columns=[SALES_NOW, HOLD_CAPACITY], fill_value=0
    )
    load = _load(people, rep_load)
    reps = pd.DataFrame(
        {
            "tasks_per_day": people["tasks_per_day"],
            "today": load["today"],
            "new": counts[SALES_NOW],
            "left": (people["tasks_per_day"] - load["today"] - counts[SALES_NOW]).clip(lower=0),
            "open": load["open"] + counts[SALES_NOW],
            "waiting": counts[HOLD_CAPACITY],
            "away": people["away"],
        }
    )
    busy = reps[["today", "new", "open", "waiting"]].any(axis=1)
    reps = reps[people["active"] & (people["tasks_per_day"] > 0) & (people["round_robin"] | busy)]
    return reps.rename_axis("owner_email").reset_index(), tasks


@dataclass
class _Desk:
    """A rep's load during assignment. `last`: when the latest task was given (ns since 1970; 0: never).

    `later`: how many tasks the rep may still be given on this UTC day, now or when the rep's own day has begun anew.
    """

    email: str
    senior: bool
    away: bool
    works_today: bool
    room: int
    today: int
    open: int
    last: int
    later: int = 0

    def turn(self) -> tuple[int, bool, int, int, str]:
        """Sort key of the next turn: the rep with the smallest key gets the task."""
        return self.today, not self.works_today, self.open, self.last, self.email

    def give(self, at: int) -> None:
        """Counts one more task, given at `at` (ns since 1970)."""
        self.room -= 1
        self.later -= 1
        self.today += 1
        self.open += 1
        self.last = at


@dataclass(frozen=True)
class _Team:
    """Reps who share accounts. `name`, `senior`: the `assigned_by` of their tasks, the latter by seniority."""

    name: str
    senior: str
    desks: list[_Desk]

    @property
    def here(self) -> list[_Desk]:
        return [desk for desk in self.desks if not desk.away]


def _since_midnight(rep_load: pd.DataFrame, as_of: datetime) -> dict[str, int]:
    """The rep's e-mail → tasks given on this UTC day."""
    midnight = pd.Timestamp(as_of).tz_convert("UTC").normalize()
    lists = [list(recent) for recent in rep_load["recent"]]
    today = pd.to_datetime([at for recent in lists for at in recent], utc=True) >= midnight
    of_rep = np.repeat(np.arange(len(lists)), [len(recent) for recent in lists])
    counted = np.bincount(of_rep[today], minlength=len(lists))
    return dict(zip(_lower(rep_load["owner_email"]), map(int, counted), strict=True))


def _desks(takers: pd.DataFrame, rep_load: pd.DataFrame, given: dict[str, int]) -> dict[str, _Desk]:
    table = takers[["senior", "away", "works_today", "tasks_per_day"]].join(_load(takers, rep_load))
    return {
        email: _Desk(
            email, senior, away, works, max(cap - today, 0), today, still_open, last, cap - given.get(email, 0)
        )
        for email, senior, away, works, cap, today, still_open, last in table.itertuples(name=None)
    }


def _load(people: pd.DataFrame, rep_load: pd.DataFrame) -> pd.DataFrame:
    """Of each of `people`: today (tasks since the rep's day began), open, last (ns since 1970; 0: never)."""
    found = {email: [0, 0, 0] for email in people.index}
    began, columns = people["day_began"], ["open", "recent", "last_assigned_at"]
    for email, n, recent, last in rep_load.set_index(_lower(rep_load["owner_email"]))[columns].itertuples(name=None):
        if email in found:
            mine = found[email]
            mine[0] += int((pd.to_datetime(recent, utc=True) >= began[email]).sum())
            mine[1] += int(n)
            mine[2] = max(mine[2], 0 if pd.isna(last) else last.value)
    return pd.DataFrame.from_dict(found, orient="index", columns=["today", "open", "last"])


def _teams(desks: dict[str, _Desk], takers: pd.DataFrame, policy: Policy) -> list[_Team]:
    """One team for each territory, in the policy's order, then the round robin."""
    territories = [
        (territory.name, dict.fromkeys(email.lower() for email in territory.reps))
        for territory in policy.assignment.territories
    ]
    pool = [desks[email] for email in takers.index[takers["round_robin"]]]
    return [
        *(
            _Team(f"territory {name}", f"territory {name}, senior", [desks[e] for e in emails if e in desks])
            for name, emails in territories
        ),
        _Team("round robin", "senior", pool),
    ]


def _team_of(order: pd.DataFrame, teams: list[_Team], policy: Policy) -> npt.NDArray[np.int64]:
    """The place in `teams` of each account's team; the round robin replaces a territory whose reps are all away.

    When everybody in the round robin is away as well, a territory that has reps keeps its accounts.
    """
    pool = len(teams) - 1
    first = np.full(len(order), pool)
    for place, territory in reversed(list(enumerate(policy.assignment.territories))):
        first[_fits(order, territory)] = place
    stand_in = [
        place if team.here or (team.desks and not teams[pool].here) else pool for place, team in enumerate(teams)
    ]
    teams_of: npt.NDArray[np.int64] = np.array(stand_in, dtype=np.int64)[first]
    return teams_of


def _fits(accounts: pd.DataFrame, territory: Territory) -> npt.NDArray[np.bool_]:
    """Whether each account fits the territory; an unknown region, industry or size fits."""
    fits = np.ones(len(accounts), dtype=bool)
    for column, allowed in (("region", territory.regions), ("industry", territory.industries)):
        if allowed:
            words = _lower(accounts[column]).fillna("")
            fits &= words.isin(["", *(word.strip().lower() for word in allowed)]).to_numpy(bool)
    employees = number(accounts, "employees")
    if territory.min_employees is not None:
        fits &= ~(employees < territory.min_employees)
    if territory.max_employees is not None:
        fits &= ~(employees > territory.max_employees)
    return fits


def _known(signals: pd.DataFrame, reps: pd.DataFrame) -> tuple[pd.DataFrame, set[str]]:
    """owner_id, active and timezone of each user of the CRM by e-mail, and the e-mails of active account owners."""
    columns = {"owner_email": "email", "owner_active": "active", "owner_id": "owner_id"}
    owners = signals[list(columns)].rename(columns=columns).dropna(subset=["email"]).drop_duplicates()
    # The CRM's list of users takes precedence over the owner fields of accounts. Of two users with one address the
    # active one is kept, then the one with the smaller id.
    users = reps.reindex(columns=["email", "active", "owner_id", "timezone"])
    people = pd.concat([users.assign(place=0), owners.assign(place=1)])
    people["email"] = _lower(people["email"])
    people["active"] = people["active"].astype("boolean").fillna(True).astype(bool)
    people = people.dropna(subset=["email"]).sort_values(["place", "active", "owner_id"], ascending=[True, False, True])
    people = people.drop_duplicates("email").set_index("email")[["owner_id", "active", "timezone"]]
    return people, set(_lower(owners["email"])) & set(people.index[people["active"]])


def _plan(calendar: Calendar, as_of: datetime, until: datetime) -> tuple[bool, bool, datetime]:
    """A rep's away (for a task that expires at `until`), works_today and day_began."""
    today = calendar.day_of(as_of)
    begins, _ = next(calendar.stretches(as_of, until), (None, None))
    if begins is None or calendar.off(today):
        return True, False, calendar.day_began(as_of, as_of, RECENT)
    return False, calendar.day_of(begins) == today, calendar.day_began(as_of, begins, RECENT)


def _lower(text: pd.Series) -> pd.Series:
    return text.astype("str").str.strip().str.lower()
