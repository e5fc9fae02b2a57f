"""Who gets the task: the account's own rep first, then round robin."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from onetouch.policy import Policy


def team(signals: pd.DataFrame, reps: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Everyone who may be given a task, by e-mail in lower case: owner_id, active, round_robin (bool), regions.

    `reps`: the CRM's users (owner_id, email, active); `signals`: the accounts, for their owners. A user the CRM says
    is inactive gets nothing. Round robin goes over `assignment.reps`, or without them over the active users who own
    accounts (all active ones when nobody owns any). `regions`, in lower case, is empty for all of them.
    """
    columns = {"owner_email": "email", "owner_active": "active", "owner_id": "owner_id"}
    owners = signals[list(columns)].rename(columns=columns).dropna(subset=["email"]).drop_duplicates()
    # The CRM's word on a user before an account's; of two users with one address the active one, then by id.
    people = pd.concat([reps[["email", "active", "owner_id"]].assign(place=0), owners.assign(place=1)])
    people["email"] = people["email"].astype("str").str.lower()
    people["active"] = people["active"].astype("boolean").fillna(True).astype(bool)
    people = people.dropna(subset=["email"]).sort_values(["place", "active", "owner_id"], ascending=[True, False, True])
    people = people.drop_duplicates("email").set_index("email")[["owner_id", "active"]]

    listed = {rep.email.lower(): frozenset(r.lower() for r in rep.regions) for rep in policy.assignment.reps}
    if reps.empty:  # accounts from a file: the policy's word is all there is
        strangers = pd.Index(listed).difference(people.index)
        people = pd.concat([people, pd.DataFrame({"owner_id": None, "active": True}, index=strangers)])
    owning = people.index.isin(owners["email"].astype("str").str.lower()) & people["active"].to_numpy()
    pool = people.index.isin(list(listed)) if listed else owning if owning.any() else people["active"].to_numpy()
    return people.assign(
        round_robin=pool & people["active"].to_numpy(),
        regions=pd.Series([listed.get(email, frozenset()) for email in people.index], people.index, dtype=object),
    ).sort_index()


def assign(candidates: pd.DataFrame, people: pd.DataFrame, rep_load: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """owner_email, owner_id (null where nobody can take it today) and covered (bool), indexed as `candidates`.

    `candidates`: account_id, score, region, owner_email; `people` as `team` gives them; `rep_load` as the ledger
    does (owner_email, open, today, last_assigned_at). Turns go by score, then account_id. An account whose owner is
    active is the owner's, and waits when that day is full. The others go to the rep with the fewest tasks today,
    then the fewest open ones, then the one longest without, then by e-mail; where reps list regions, to one of the
    account's (an unknown region is anyone's). `covered` is false where no rep, however idle, may take it.
    """
    order = candidates.sort_values(["score", "account_id"], ascending=[False, True])
    load = _load(people, rep_load)
    cap = policy.assignment.tasks_per_rep_per_day

    owner = order["owner_email"].astype("str").str.lower()
    owned = owner.isin(people.index[people["active"]])
    turn = owner[owned].groupby(owner[owned]).cumcount()
    has_room = turn + load["today"].reindex(owner[owned]).to_numpy() < cap
    email = owner.where(owned & has_room.reindex(order.index, fill_value=False))
    given = email.value_counts().reindex(load.index, fill_value=0)
    load["today"] += given
    load["open"] += given

    pool = people[people["round_robin"]]
    region = order["region"].astype("str").str.lower().fillna("")
    takes = dict(zip(pool.index, pool["regions"], strict=True))
    able = {
        place: [email for email, theirs in takes.items() if not place or not theirs or place in theirs]
        for place in region.unique()
    }
    covered = region.map({place: bool(emails) for place, emails in able.items()}).astype(bool) | owned
    desk = load.loc[pool.index, ["today", "open", "last"]]
    standing = {row[0]: [*row[1:], row[0]] for row in desk.itertuples(name=None)}
    # Each turn fills a place in somebody's day: the loop ends with the reps' room, however many accounts there are.
    went_to: dict[Hashable, str] = {}
    for account, place in region[~owned].items():
        free = [standing[email] for email in able[place] if standing[email][0] < cap]
        if free:
            chosen = min(free)
            went_to[account] = chosen[-1]
            chosen[0] += 1
            chosen[1] += 1
        elif all(someone[0] >= cap for someone in standing.values()):
            break
    email = email.fillna(pd.Series(went_to, dtype="str"))

    return pd.DataFrame(
        {
            "owner_email": email.astype("str"),
            "owner_id": email.map(people["owner_id"]).astype("str"),
            "covered": covered.astype(bool),
        }
    ).reindex(candidates.index)


def _load(people: pd.DataFrame, rep_load: pd.DataFrame) -> pd.DataFrame:
    """today, open and last (ns since 1970, 0 for never) of everyone."""
    last = pd.to_datetime(rep_load["last_assigned_at"], utc=True).astype("datetime64[ns, UTC]")
    load = pd.DataFrame(
        {
            "email": rep_load["owner_email"].astype("str").str.lower(),
            "today": rep_load["today"].astype("int64"),
            "open": rep_load["open"].astype("int64"),
            "last": last.fillna(pd.Timestamp(0, tz="UTC")).astype("int64"),
        }
    )
    by_email = load.groupby("email").agg({"today": "sum", "open": "sum", "last": "max"})
    return by_email.reindex(people.index, fill_value=0)
