"""What an account may be worth, in dollars a year."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.columns import number
from onetouch.policy import Product, Value, plans_of, seat_price


def potential_arr(signals: pd.DataFrame, value: Value, product: Product | None = None) -> npt.NDArray[np.float64]:
    """max(current ARR, price of a seat for a year × seats within reach), to the cent (ours; requirements).

    Seats within reach: the share `seats_within_reach` of the employees, but at least the recently active users. The
    price is that of the plan after the account's own, else of its own plan, if the `product` has them with prices; else
    `seat_price_year`.
    """
    employees = np.nan_to_num(number(signals, "employees"))
    users = np.nan_to_num(number(signals, "active_users"))
    seats = np.maximum(value.seats_within_reach * employees, users)
    arr = np.maximum(np.nan_to_num(number(signals, "arr")), _price(signals, value, product) * seats)
    return np.round(arr, 2).astype(np.float64)


def _price(signals: pd.DataFrame, value: Value, product: Product | None) -> npt.NDArray[np.float64]:
    """Dollars a seat and year of each account."""
    if product is None or not any(plan.seat_price_year for plan in product.plans):
        return np.full(len(signals), value.seat_price_year, dtype=np.float64)
    priced = {name: seat_price(plans_of(name, product), product) for name in signals["plan"].dropna().unique()}
    price = signals["plan"].map(priced).astype("float64").fillna(value.seat_price_year)
    return number(pd.DataFrame({"price": price}), "price")
