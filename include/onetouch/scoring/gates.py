"""Gates: what no score can buy off. PQL = fits the ICP and activated and engaged and shows intent (S0 S2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.columns import number
from onetouch.policy import Condition, Icp, Policy

Mask = npt.NDArray[np.bool_]

GATES = ("gate_icp", "gate_activated", "gate_engagement", "gate_intent")


def gates(signals: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """One bool column for each of GATES, with the index of `signals`."""
    return pd.DataFrame(
        {
            "gate_icp": fits(signals, policy.gates.icp),
            "gate_activated": number(signals, "activated") >= 1,
            "gate_engagement": np.logical_and.reduce([holds(signals, c) for c in policy.gates.engagement]),
            "gate_intent": np.logical_or.reduce([holds(signals, c) for c in policy.gates.intent]),
        },
        index=signals.index,
    )


def holds(signals: pd.DataFrame, condition: Condition) -> Mask:
    """Whether the signal is known and at least so much."""
    return number(signals, condition.signal) >= condition.at_least


def fits(signals: pd.DataFrame, icp: Icp) -> Mask:
    """Whether the account is one we sell to at all; what is not known excludes nobody."""
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
    """Not a lone person: a group or a business domain in the product, or a domain in the CRM.

    A domain of `signals` is a company's: that of a mail provider is nobody's (`signals.accounts.identify`).
    """
    return ((signals["account_basis"] != "personal") | signals["domain"].notna()).to_numpy(bool)
