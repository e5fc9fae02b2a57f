"""How an account is best sold to: self-serve, sales-assist or sales-led (S3)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from onetouch.columns import Numbers, number, words
from onetouch.policy import Policy

MOTIONS = ["sales_led", "self_serve", "sales_assist"]

FRICTION = ("failed_actions", "tickets")
"""Signals of a difficult onboarding: it is smooth only if all of them are zero or unknown."""


def motion(signals: pd.DataFrame, potential: Numbers, policy: Policy) -> pd.Series:
    """`self_serve`, `sales_assist` or `sales_led` for each account; `potential` as `value.potential_arr` returns it.

    - Sales-led: at least `sales_led_employees` employees, or worth more than `value.assist`.
    - Self-serve: fewer than `sales_assist_employees` employees and worth less than `value.floor`. An account with fewer
      than `self_serve_seats` employees, or of unknown size, must also have fewer seats than that, no enterprise signal
      and a smooth onboarding. For sizes in between (5–49 employees by default) the worth alone decides.
    - Sales-assist: all others.
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
