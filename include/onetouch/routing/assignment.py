"""Who gets the task: the account's own rep first, then its territory, then round robin (S4).

Who is on leave, has a public holiday, or works too late for the signal gets nothing new: the account goes on to the
next of these. Whose day is merely full keeps the account waiting: it is theirs tomorrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.catalogue import HOLD_CAPACITY, SALES_NOW
from onetouch.columns import number
from onetouch.ledger import RECENT
from onetouch.policy import Policy, Territory, country_of, listed_reps, tasks_of, zone_of
from onetouch.routing.working_time import Calendar, calendars


def team(signals: pd.DataFrame, reps: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.DataFrame:
    """Everyone who may be given a task, one row a person, by e-mail in lower case, in that order.

    `reps`: the CRM's users (owner_id, email, active, timezone); `signals`: the accounts, for their owners
    (owner_email, owner_id, owner_active). Columns: owner_id; active (a user the CRM says is inactive gets nothing);
    senior; timezone (the policy's word, else the CRM's, else `working_time`'s); country (ISO code or null);
    tasks_per_day; leave (tuple of day pairs); round_robin: one of `assignment.reps`, or without them of the active
    users who own accounts (of all active ones when nobody owns any); away: nothing new may be given, since today is
    leave or a public holiday, or no working time comes before a task would expire; works_today: some of today's
    working time is still to come; day_began: since when tasks count for the rep's day: from midnight, or from the end
    of the working day before (what comes at a weekend is Monday's work). Days are those of the rep's own calendar.
    """
    assignment, reps_of = policy.assignment, listed_reps(policy.assignment)
    people, owning = _known(signals, reps)
    if reps.empty:  # accounts from a file: the policy's word is all there is
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
    candidates: pd.DataFrame, people: pd.DataFrame, rep_load: pd.DataFrame, policy: Policy, as_of: datetime
) -> pd.DataFrame:
    """Who gets each account, indexed as `candidates` (account_id, score, region, industry, employees, owner_email).

    `people` as `team` gives them; `rep_load` as the ledger does (owner_email, open, recent, last_assigned_at).
    Columns: owner_email, owner_id; assigned_by (why this rep: "owner", "territory NAME", "round robin", "senior",
    "territory NAME, senior"); has_room: whether the rep's day still takes it, else it waits in this rep's queue;
    covered: whether anybody may take it at all (if not, the others are null and empty); waits_for: "" with room,
    "room" when the days of those at work are full, "return" when everybody who may take it is away, "rep" uncovered.

    Turns go by score, then account_id. An account belongs to its owner, else to the first territory it fits, else to
    the round robin: to the first of them where somebody is there. Among several the task goes, from `senior_score` on
    to a senior if one has room, then to who has fewest tasks today, still works today, has fewest open, was longest
    without, comes first by e-mail. A rep's day is full with `tasks_per_day` since `day_began`.
    """
    order = candidates.sort_values(["score", "account_id"], ascending=[False, True])
    takers = people[people["active"] & (people["tasks_per_day"] > 0)]
    desks = _desks(takers, rep_load)
    teams = _teams(desks, takers, policy)
    team_of = _team_of(order, teams, policy)
    went_to, why = np.full(len(order), None, dtype=object), np.full(len(order), "", dtype=object)
    has_room = np.zeros(len(order), dtype=bool)

    owner = _lower(order["owner_email"])
    owned = owner.isin([desk.email for desk in desks.values() if not desk.away]).to_numpy(bool)
    went_to[owned], why[owned] = owner[owned], "owner"

    # Each turn fills a place in somebody's day: no more is looked for when the reps' room is gone.
    cut = policy.assignment.senior_score
    top = order["score"].to_numpy(float) >= (np.inf if cut is None else cut)
    room = sum(desk.room for desk in desks.values() if not desk.away)
    now = pd.Timestamp(as_of).value
    for row in range(len(order)):
        if room == 0:
            break
        own, group = went_to[row], teams[team_of[row]]
        free = [desk for desk in ([desks[own]] if own else group.here) if desk.room > 0]
        if free:
            seniors = [desk for desk in free if desk.senior] if top[row] and not own else []
            chosen = min(seniors or free, key=_Desk.turn)
            chosen.give(now + row)  # of those given one now, the first is longest without
            room -= 1
            went_to[row], has_room[row] = chosen.email, True
            why[row] = why[row] or (group.senior if seniors else group.name)

    # Nobody waits with nobody: in the queue of whose turn is next, spread over the team.
    for place in np.unique(team_of):
        rows = np.flatnonzero(~owned & ~has_room & (team_of == place))
        line = sorted(teams[place].here or teams[place].desks, key=_Desk.turn)
        if line:
            went_to[rows] = [line[at % len(line)].email for at in range(len(rows))]
            why[rows] = teams[place].name
        if not teams[place].here:  # all are away: then rather the owner, who is away too
            theirs = rows[owner.iloc[rows].isin(list(desks)).to_numpy(bool)]
            went_to[theirs], why[theirs] = owner.iloc[theirs], "owner"

    rep = pd.Series(went_to, order.index, dtype="str")
    away = rep.isin([desk.email for desk in desks.values() if desk.away])
    waits_for = np.select([has_room, rep.isna(), away], ["", "rep", "return"], "room")
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


def assignments(
    decisions: pd.DataFrame, rep_load: pd.DataFrame, people: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Who got what and why: one row a rep, and one an account that goes to a rep or waits for one.

    `decisions` of the run, `rep_load` and `people` as `assign` had them. Reps, by e-mail, those who take turns or have
    something: tasks_per_day, today (given since the rep's day began, before this run), new (by this run), left (room
    after it), open (active handoffs with the new ones), waiting (accounts in the rep's queue), away. Tasks, best score
    first: account_id, score, action (sales_now or hold_capacity), owner_email (null: there is no rep at all),
    assigned_by, call, due_at, contact_at.
    """
    columns = ["account_id", "score", "action", "owner_email", "assigned_by", "call", "due_at", "contact_at"]
    theirs = decisions[decisions["action"].isin([SALES_NOW, HOLD_CAPACITY])]
    tasks = theirs.sort_values(["score", "account_id"], ascending=[False, True], ignore_index=True)[columns]
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
    """What is on a rep's desk while the turns go round. `last`: when the latest task came (ns since 1970; 0: never)."""

    email: str
    senior: bool
    away: bool
    works_today: bool
    room: int
    today: int
    open: int
    last: int

    def turn(self) -> tuple[int, bool, int, int, str]:
        """Who has least comes first."""
        return self.today, not self.works_today, self.open, self.last, self.email

    def give(self, at: int) -> None:
        """One more task, at a moment in ns since 1970."""
        self.room -= 1
        self.today += 1
        self.open += 1
        self.last = at


@dataclass(frozen=True)
class _Team:
    """Those who share what comes: all of them, and those not away. `name` and `senior`: why one of them is given it."""

    name: str
    senior: str
    desks: list[_Desk]

    @property
    def here(self) -> list[_Desk]:
        return [desk for desk in self.desks if not desk.away]


def _desks(takers: pd.DataFrame, rep_load: pd.DataFrame) -> dict[str, _Desk]:
    table = takers[["senior", "away", "works_today", "tasks_per_day"]].join(_load(takers, rep_load))
    return {
        email: _Desk(email, senior, away, works, max(cap - today, 0), today, still_open, last)
        for email, senior, away, works, cap, today, still_open, last in table.itertuples(name=None)
    }


def _load(people: pd.DataFrame, rep_load: pd.DataFrame) -> pd.DataFrame:
    """today (given since the rep's day began), open and last (ns since 1970; 0: never) of each of `people`."""
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
    """One for each territory in the policy's order, then the round robin."""
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
    """The place in `teams` of each account's team; a territory with nobody there hands over to the round robin."""
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
    """Whether each account is the territory's, as far as it is known."""
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
    """owner_id, active and timezone (as the CRM tells them) by e-mail, and the e-mails of active owners of accounts."""
    columns = {"owner_email": "email", "owner_active": "active", "owner_id": "owner_id"}
    owners = signals[list(columns)].rename(columns=columns).dropna(subset=["email"]).drop_duplicates()
    # The CRM's word on a user before an account's; of two users with one address the active one, then by id.
    users = reps.reindex(columns=["email", "active", "owner_id", "timezone"])
    people = pd.concat([users.assign(place=0), owners.assign(place=1)])
    people["email"] = _lower(people["email"])
    people["active"] = people["active"].astype("boolean").fillna(True).astype(bool)
    people = people.dropna(subset=["email"]).sort_values(["place", "active", "owner_id"], ascending=[True, False, True])
    people = people.drop_duplicates("email").set_index("email")[["owner_id", "active", "timezone"]]
    return people, set(_lower(owners["email"])) & set(people.index[people["active"]])


def _plan(calendar: Calendar, as_of: datetime, until: datetime) -> tuple[bool, bool, datetime]:
    """away (for a task that expires at `until`), works_today and day_began of a rep."""
    today = calendar.day_of(as_of)
    begins, _ = next(calendar.stretches(as_of, until), (None, None))
    if begins is None or calendar.off(today):
        return True, False, calendar.day_began(as_of, as_of, RECENT)
    return False, calendar.day_of(begins) == today, calendar.day_began(as_of, begins, RECENT)


def _lower(text: pd.Series) -> pd.Series:
    return text.astype("str").str.strip().str.lower()
