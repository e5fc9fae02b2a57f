"""How an account is best sold to: self-serve, sales-assist or sales-led (S3)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from onetouch.columns import Numbers, number, words
from onetouch.policy import Policy

MOTIONS = ["sales_led", "self_serve", "sales_assist"]

FRICTION = ("failed_actions", "tickets")
"""An onboarding with any of these is not smooth."""


def motion(signals: pd.DataFrame, potential: Numbers, policy: Policy) -> pd.Series:
    """`self_serve`, `sales_assist` or `sales_led` for each account; `potential` as `value.potential_arr` gives it.

    Sales-led: of enterprise size, or worth more than `value.assist`. Self-serve: under assist size and worth less than
    `value.floor`; of a team smaller than `self_serve_seats` or of unknown size besides with fewer seats than that, no
    enterprise signal and a smooth onboarding. Between the two, and for 5–49 employees by worth alone, sales-assist.
    """
    cut = policy.routing.motion
    employees = number(signals, "employees")
    led = (employees >= cut.sales_led_employees) | (potential > policy.value.assist)
    mid_size = employees >= cut.sales_assist_employees
    by_worth = (employees >= cut.self_serve_seats) & ~mid_size
    many_seats = number(signals, "seats") >= cut.self_serve_seats
    needs = [number(signals, name) > 0 for name in (*cut.enterprise_signals, *FRICTION)]
    demanding = np.logical_or.reduce([many_seats, *needs])
    small = (potential < policy.value.floor) & ~mid_size & (by_worth | ~demanding)
    return words(np.select([led, small], [0, 1], 2), MOTIONS).set_axis(signals.index)
