"""What an account may be worth, in dollars a year."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.columns import number
from onetouch.policy import Value


def potential_arr(signals: pd.DataFrame, value: Value) -> npt.NDArray[np.float64]:
    """max(current ARR, price of a seat for a year × seats within reach), to the cent (ours; requirements).

    Seats within reach: the share `seats_within_reach` of the employees, but at least the recently active users.
    """
    employees = np.nan_to_num(number(signals, "employees"))
    users = np.nan_to_num(number(signals, "active_users"))
    seats = np.maximum(value.seats_within_reach * employees, users)
    arr = np.maximum(np.nan_to_num(number(signals, "arr")), value.seat_price_year * seats)
    return np.round(arr, 2).astype(np.float64)
