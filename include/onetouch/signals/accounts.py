"""The account snapshot: its columns, and its values as they are compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from onetouch.catalogue import CRM_COLUMNS, SNAPSHOT_COLUMNS, Column, Kind
from onetouch.policy import SEATS, Policy, cost_nothing, limits_of_plans, plans_of, unknown_plans
from onetouch.signals.account_values import Values, read_values

SNAPSHOT: dict[str, str] = {column.name: column.kind.dtype for column in SNAPSHOT_COLUMNS}
"""Columns of an account snapshot and their dtypes; ARR in dollars a year, `plan_limits` a JSON object limit → cap."""

CRM: dict[str, str] = {column.name: column.kind.dtype for column in CRM_COLUMNS}
"""Additional columns of a snapshot taken from the CRM, and their dtypes."""

KINDS: dict[str, Kind] = {column.name: column.kind for column in (*SNAPSHOT_COLUMNS, *CRM_COLUMNS)}
"""Column → what it holds."""

_SHOWN = 5  # rows named in one error


class AccountsError(ValueError):
    """An account file that cannot be used. The message names file, column, rows and what is allowed."""


def normalise_accounts(
    frame: pd.DataFrame, *, strict: bool = False, tell: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """All columns of SNAPSHOT and CRM with their dtypes; unknown is null.

    Domains and websites become registrable domains, e-mails lower case, time zones IANA names. A value that cannot be
    read (an invalid number, an unknown time zone, …) becomes null, because CRMs contain many such values and one of
    them must not stop the run; with `strict` it raises AccountsError. Unknown columns, rows with neither `account_id`
    nor `domain` nor `crm_account_id`, and two rows of one account always raise AccountsError. `tell` is called with one
    line for each way in which values of a column were read otherwise than written, or not at all.
    """
    unknown = sorted(set(map(str, frame.columns)) - set(SNAPSHOT) - set(CRM))
    if unknown:
        raise AccountsError(f"no such column: {', '.join(unknown)}; allowed: {', '.join([*SNAPSHOT, *CRM])}")
    frame = frame.reset_index(drop=True)
    clean = pd.DataFrame(index=frame.index)
    for column in (*SNAPSHOT_COLUMNS, *CRM_COLUMNS):
        given = frame[column.name] if column.name in frame else pd.Series(None, index=frame.index, dtype=object)
        values = read_values(column.kind, given)
        clean[column.name] = values.read
        lost = given[values.lost & (given.astype(str).str.strip() != "")]
        if strict and len(lost):
            raise AccountsError(_lost(column, lost, values.why))
        if tell is not None:
            for line in _notes(column, lost, values):
                tell(line)
    nameless = clean["account_id"].isna() & clean["domain"].isna() & clean["crm_account_id"].isna()
    if nameless.any():
        raise AccountsError(f"{_rows(nameless)}: neither account_id nor domain; each row needs one of them")
    clean["open_opportunities"] = clean["open_opportunities"].fillna(0)
    key = clean["account_id"].where(clean["account_id"].notna(), clean["domain"])
    key = key.where(clean["crm_account_id"].isna(), "crm:" + clean["crm_account_id"])
    twice = key.duplicated(keep=False)
    if twice.any():
        names = key[twice].drop_duplicates()
        raise AccountsError(f"{_rows(twice)}: several rows of one account: {_some(names)}; keep one row each")
    return clean


class Planned(NamedTuple):
    """Accounts with what is known of their plans.

    `accounts`: with the limits of their plan (`product.plans`) where the CRM records none. `caps`: what `plan_caps`
    gives of them. `seats`: account_id and limit_cap, if active users count as seats in use (`signals.seats_used`; then
    `caps` has no seats): the CRM's cap of them, else the seats it records, unless the account is known to pay nothing
    (then nobody bought them), else the plan's cap. `warnings`: plans of the CRM that the policy does not list.
    """

    accounts: pd.DataFrame
    caps: pd.DataFrame
    seats: pd.DataFrame
    warnings: list[str]


def with_plans(accounts: pd.DataFrame, policy: Policy) -> Planned:
    """Adds to the records of accounts what their plans hold."""
    texts = {name: plans_of(name, policy.product) for name in accounts["plan"].dropna().unique()}
    told = accounts["plan_limits"]
    by_plan = {name: json.dumps(held, sort_keys=True) for name, p in texts.items() if (held := limits_of_plans(p))}
    limits = told.where(told.notna(), accounts["plan"].map(by_plan)).astype("str")
    recorded, planned = _seat_caps(told), _seat_caps(limits)
    costs_nothing = accounts["plan"].map({name: cost_nothing(plans) for name, plans in texts.items()}).eq(True)
    pays_nothing = accounts["arr"].eq(0) | (accounts["arr"].isna() & costs_nothing)
    bought = accounts["seats"].astype("float64").where(~pays_nothing)
    cap = recorded.fillna(bought.where(bought > 0)).fillna(planned)
    seats = pd.DataFrame({"account_id": accounts["account_id"], "limit_cap": cap}).dropna()
    caps = plan_caps(limits)
    if policy.signals.seats_used == "events":
        seats = seats.head(0)
    else:
        caps = caps[caps["limit_name"] != SEATS]
    return Planned(accounts.assign(plan_limits=limits), caps, seats, list(_unknown_plans(accounts["plan"], policy)))


def _seat_caps(limits: pd.Series) -> pd.Series:
    """The cap of seats in each JSON text; NaN without one."""
    return limits.map({text: json.loads(text).get(SEATS) for text in limits.dropna().unique()}).astype("float64")


def _unknown_plans(plans: pd.Series, policy: Policy) -> Iterator[str]:
    if not policy.product.plans:
        return
    count: Counter[str] = Counter()
    for name, accounts in plans.dropna().value_counts().items():
        count.update(dict.fromkeys(unknown_plans(str(name), policy.product), int(accounts)))
    if count:
        named = ", ".join(f"{name[:60]!r} ({accounts:,})" for name, accounts in count.most_common(_SHOWN))
        more = f" and {len(count) - _SHOWN} more" if len(count) > _SHOWN else ""
        yield (
            f"plan: the CRM names plans that product.plans does not list: {named}{more}; add them, or nothing is known "
            "of their prices, limits and features"
        )


def plan_caps(plan_limits: pd.Series) -> pd.DataFrame:
    """`plan_limits`, `limit_name`, `limit_cap`: one row for each limit of each distinct JSON text (plans are few)."""
    texts = plan_limits.dropna().unique()
    rows = [(text, name, float(cap)) for text in texts for name, cap in json.loads(text).items()]
    frame = pd.DataFrame(rows, columns=["plan_limits", "limit_name", "limit_cap"])
    return frame.astype({"plan_limits": "str", "limit_name": "str", "limit_cap": "float64"})


def _lost(column: Column, values: pd.Series, why: Mapping[Any, str]) -> str:
    said = f"{_rows(values.notna())}: {column.name}: {_some(values)} is not allowed"
    more = next((why[value] for value in values if why.get(value)), "")
    return f"{said}; give {column.kind.allowed}, or nothing" + (f" ({more})" if more else "")


def _notes(column: Column, lost: pd.Series, values: Values) -> Iterator[str]:
    """How values of a column were read otherwise than written, one line each."""
    for note, (rows, examples) in values.notes.items():
        yield f"{column.name}: {_times(rows)} {note}: {', '.join(examples)}"
    if len(lost):
        yield f"{column.name}: {_times(len(lost))} not read: {_some(lost)}; give {column.kind.allowed}"


def _times(rows: int) -> str:
    return "1 value" if rows == 1 else f"{rows:,} values"


def _rows(mask: pd.Series) -> str:
    """Row numbers for messages: the first row below the header is 1."""
    numbers = [str(i + 1) for i in mask.index[mask]]
    return f"row{'s' if len(numbers) > 1 else ''} {_some(pd.Series(numbers), quote=False)}"


def _some(values: pd.Series, *, quote: bool = True) -> str:
    shown = [repr(str(v)[:60]) if quote else str(v) for v in values.head(_SHOWN)]
    return ", ".join(shown) + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
