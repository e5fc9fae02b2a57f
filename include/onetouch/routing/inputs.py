"""The inputs of a run's decisions: read once, stored beside the decisions, and read again by a replay."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import partial

import pandas as pd

from onetouch.columns import as_frame
from onetouch.consent import CONTACTS, LISTED, PEOPLE, Consent, Lists
from onetouch.events import by_todays_ids
from onetouch.lake import Lake, read_table
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.routing.recall import heard, recall

REPS = ("owner_id", "email", "name", "active", "timezone")

_MOMENT = "datetime64[us, UTC]"

PREVIOUS = {
    "account_id": "str", "action": "str", "rule": "str", "since": _MOMENT, "call": "str", "trigger_at": _MOMENT,
}  # fmt: skip
"""Columns of `Inputs.previous` from the previous decision, and their types; the names are those of a decision."""


def _empty(types: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(types)).astype(types)


@dataclass(frozen=True)
class Inputs:
    """Everything `decide` reads besides the policy and `as_of`; the order of rows has no effect.

    `signals`, `scores`: one row an account, for the same accounts. `handoffs`, `rep_load`, `touches`: as the ledger
    returns them. `reps`: the CRM's users (REPS). `previous`: each account's decision in the latest earlier real run,
    under whichever policy, and what else is remembered of it (PREVIOUS, REMEMBERED, HEARD). `contacts`: the people of
    the CRM (`consent.CONTACTS`); `people`: those of the product, of accounts that hang on them (`consent.PEOPLE`);
    `listed`: the entries of the policy's file of whom never to contact (`consent.LISTED`).
    """

    signals: pd.DataFrame
    scores: pd.DataFrame
    handoffs: pd.DataFrame
    rep_load: pd.DataFrame
    reps: pd.DataFrame
    touches: pd.DataFrame
    previous: pd.DataFrame
    contacts: pd.DataFrame = field(default_factory=partial(_empty, CONTACTS))
    people: pd.DataFrame = field(default_factory=partial(_empty, PEOPLE))
    listed: pd.DataFrame = field(default_factory=partial(_empty, LISTED))


def went_live(handoffs: pd.DataFrame) -> datetime | None:
    """When the first task of all was decided, from `Inputs.handoffs`; None: none was, or its release did not say."""
    if "first_task_at" not in handoffs or handoffs["first_task_at"].isna().all():
        return None
    first: datetime = handoffs["first_task_at"].min().to_pydatetime()
    return first


_OF_STAGES = {"signals": "signals", "scores": "scores"}
"""Inputs that an earlier stage has written, each with its folder in the lake."""

_LATER = ("contacts", "people", "listed")
"""Inputs that runs of former releases did not keep."""


def gather(lake: Lake, ledger: Ledger, policy: Policy, run: Run, listed: pd.DataFrame | None = None) -> Inputs:
    """The inputs of a run: its signals and scores, the state of CRM and ledger at its `as_of`, and the entries `listed`
    in the policy's file.

    Raises FileNotFoundError when an earlier stage has not written its file.
    """
    crm_reps = ("crm", run.run_id, "reps.parquet")
    silence = timedelta(days=policy.handoff.silence_days)
    made = {name: _read(lake, room, f"{run.run_id}.parquet") for name, room in _OF_STAGES.items()}
    handoffs = ledger.handoff_frame(run.as_of)
    reps = lake.read(*crm_reps) if lake.exists(*crm_reps) else pd.DataFrame(columns=list(REPS))
    contacts, listed = _contacts(lake, run, made["signals"]), _empty(LISTED) if listed is None else listed
    consent = Consent(contacts, Lists(policy, listed), policy.never_contact.channels)
    return Inputs(
        **made,
        contacts=contacts,
        people=product_people(lake, run.run_id, made["signals"]["account_id"][consent.in_question(made["signals"])]),
        listed=listed,
        handoffs=handoffs,
        rep_load=ledger.rep_load(run.as_of, set(reps["email"].dropna())),
        reps=reps,
        touches=ledger.touches(since=run.as_of - silence, as_of=run.as_of),
        previous=_previous(lake, ledger, policy, run, handoffs, made["signals"]["account_id"]),
    )


def keep(lake: Lake, run_id: str, inputs: Inputs) -> None:
    """Writes the inputs that no earlier stage has stored to `inputs/{run_id}/…`, so that the run can be replayed."""
    for name in _kept_here():
        lake.write(getattr(inputs, name), "inputs", run_id, f"{name}.parquet")


def kept(lake: Lake, run_id: str) -> Inputs:
    """The stored inputs of a run. Raises FileNotFoundError naming every file that is missing."""
    paths = {name: (room, f"{run_id}.parquet") for name, room in _OF_STAGES.items()}
    files: dict[str, tuple[str, ...]] = {
        **paths,
        **{name: ("inputs", run_id, f"{name}.parquet") for name in _kept_here()},
    }
    # Runs of former releases read nobody's opt-out.
    files = {name: parts for name, parts in files.items() if name not in _LATER or lake.exists(*parts)}
    gone = ["/".join(parts) for parts in files.values() if not lake.exists(*parts)]
    if gone:
        raise FileNotFoundError(f"run {run_id}: the lake no longer holds {', '.join(gone)}; restore them")
    return Inputs(**{name: _read(lake, *parts) for name, parts in files.items()})


def _kept_here() -> list[str]:
    return [field.name for field in fields(Inputs) if field.name not in _OF_STAGES]


def _contacts(lake: Lake, run: Run, signals: pd.DataFrame) -> pd.DataFrame:
    """The people of the CRM: of the run's accounts, and those elsewhere who opted out of something."""
    parts = ("crm", run.run_id, "contacts.parquet")
    if not lake.exists(*parts):
        return _empty(CONTACTS)
    contacts = lake.read(*parts).rename(columns={"email": "address"})
    theirs = contacts["crm_account_id"].isin(signals["crm_account_id"].dropna())
    out = contacts["do_not_call"].fillna(False) | contacts["email_opt_out"].fillna(False)
    kept: pd.DataFrame = contacts.loc[theirs | out, list(CONTACTS)].reset_index(drop=True)
    return kept


def product_people(lake: Lake, run_id: str, account_ids: Collection[str]) -> pd.DataFrame:
    """The product's people of these accounts who have an address (`consent.PEOPLE`), as far as the run has any."""
    parts = ("people", f"{run_id}.parquet")
    if not len(account_ids) or not lake.exists(*parts):
        return _empty(PEOPLE)
    wanted = [("account_id", "in", sorted(account_ids))]
    people = read_table(lake, *parts, columns=["account_id", "user_id", "email"], filters=wanted).to_pandas()
    users = people["user_id"].where(people["user_id"].str.contains("@", regex=False).eq(True))
    people["address"] = people["email"].where(people["email"].notna(), users).str.lower()
    known: pd.DataFrame = people.loc[people["address"].notna(), list(PEOPLE)].astype(PEOPLE).reset_index(drop=True)
    return known


def _previous(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, handoffs: pd.DataFrame, accounts: pd.Series
) -> pd.DataFrame:
    last = run_before(lake, ledger, run)
    previous = pd.DataFrame(columns=list(PREVIOUS)).astype(PREVIOUS)
    if last is not None:
        rows = read_table(lake, "decisions", f"{last.run_id}.parquet", columns=list(PREVIOUS)).to_pandas()
        previous = by_todays_ids(rows[list(PREVIOUS)].astype(PREVIOUS), accounts)
    previous = recall(previous, ledger.remembered(run.as_of), handoffs, policy, run.as_of)
    return heard(lake, previous, last, accounts)


def run_before(lake: Lake, ledger: Ledger, run: Run) -> Run | None:
    """The latest earlier run that decided and was not dry; before a real run also none that was made up for later."""
    for other in reversed(ledger.runs()):
        counts = other.real or not (run.real or other.dry_run)
        if counts and other.as_of < run.as_of and lake.exists("decisions", f"{other.run_id}.parquet"):
            return other
    return None


def _read(lake: Lake, *parts: str) -> pd.DataFrame:
    return as_frame(read_table(lake, *parts))
