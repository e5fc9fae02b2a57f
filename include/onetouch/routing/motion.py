"""How an account is best sold to: self-serve, sales-assist or sales-led (S3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.policy import Policy
from onetouch.scoring.gates import number


def motion(signals: pd.DataFrame, potential: npt.NDArray[np.float64], policy: Policy) -> npt.NDArray[np.str_]:
    """`self_serve`, `sales_assist` or `sales_led` for each account; `potential` as `value.potential_arr` gives it.

    Sales-led: enterprise size, or worth more than `value.assist`. Self-serve: worth less than `value.floor`, and
    neither of assist size nor, where the size is unknown, with many seats or an enterprise signal. Between the two,
    and for 5–49 employees by worth alone, sales-assist.
    """
    cut = policy.routing.motion
    employees = number(signals, "employees")
    many_seats = number(signals, "seats") >= cut.self_serve_seats
    enterprise = (signals[list(cut.enterprise_signals)] > 0).any(axis=1).to_numpy(bool)
    unsized = np.isnan(employees) & (many_seats | enterprise)
    led = (employees >= cut.sales_led_employees) | (potential > policy.value.assist)
    small = (potential < policy.value.floor) & ~(employees >= cut.sales_assist_employees) & ~unsized
    return np.select([led, small], ["sales_led", "self_serve"], "sales_assist")
