"""Gates: conditions that no score can replace. PQL = fits the ICP, activated, engaged and shows intent (S0 S2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.columns import number
from onetouch.policy import Condition, Icp, Policy

Mask = npt.NDArray[np.bool_]

GATES = ("gate_icp", "gate_activated", "gate_engagement", "gate_intent")


def gates(signals: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """One boolean column for each of GATES, with the index of `signals`."""
    return pd.DataFrame(
        {
            "gate_icp": fits(signals, policy.gates.icp),
            "gate_activated": number(signals, "activated") >= 1,
            "gate_engagement": np.logical_and.reduce([holds(signals, c) for c in policy.gates.engagement]),
            "gate_intent": np.logical_or.reduce([holds(signals, c) for c in policy.gates.intent])
            & qualified(signals, policy),
        },
        index=signals.index,
    )


def holds(signals: pd.DataFrame, condition: Condition) -> Mask:
    """Whether the signal is known and reaches `condition.at_least`."""
    return number(signals, condition.signal) >= condition.at_least


def qualified(signals: pd.DataFrame, policy: Policy) -> Mask:
    """Whether the intent is somebody's: with `unit: user` (S2) one user at least has to qualify in person."""
    if policy.unit == "account":
        return np.ones(len(signals), dtype=bool)
    return number(signals, "qualified_users") >= 1


def fits(signals: pd.DataFrame, icp: Icp) -> Mask:
    """Whether the account fits the ideal customer profile (ICP); an unknown value excludes no account."""
    fit = np.ones(len(signals), dtype=bool)
    if icp.organisation:
        fit &= organisation(signals)
    employees = number(signals, "employees")
    if icp.min_employees is not None:
        fit &= ~(employees < icp.min_employees)
    if icp.max_employees is not None:
        fit &= ~(employees > icp.max_employees)
    industry = signals["industry"].astype("str").str.lower()
    if icp.industries:
        fit &= (industry.isna() | industry.isin([i.lower() for i in icp.industries])).to_numpy(bool)
    return fit & ~industry.isin([i.lower() for i in icp.excluded_industries]).to_numpy(bool)


def organisation(signals: pd.DataFrame) -> Mask:
    """Whether the account is not a lone user: it is a group or has a business domain in the product or in the CRM.

    A domain in `signals` is always a company's: domains of free-mail providers were removed before
    (`signals.accounts.identify`).
    """
    return ((signals["account_basis"] != "personal") | signals["domain"].notna()).to_numpy(bool)
