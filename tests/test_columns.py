"""Columns as arrays and back: unknown stays unknown, and nothing is copied that need not be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from onetouch.columns import age_days, moments, number, places, text, words

AS_OF = datetime(2025, 3, 10, 9, tzinfo=UTC)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "float64", "object", "boolean"])
def test_a_number_is_a_float_and_unknown_is_nan(dtype: str) -> None:
    frame = pd.DataFrame({"x": pd.Series([1, None, 0], dtype=dtype)})
    np.testing.assert_array_equal(number(frame, "x"), [1.0, np.nan, 0.0])
    assert number(frame, "x").dtype == np.float64


def test_floats_are_not_copied() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    assert np.shares_memory(number(frame, "x"), frame["x"].to_numpy())


def test_a_moment_is_in_utc_wherever_it_was_told() -> None:
    there = AS_OF.astimezone(timezone(timedelta(hours=-7)))
    frame = pd.DataFrame({"at": pd.to_datetime([there, None], utc=False)})
    assert moments(frame, "at").tolist() == [AS_OF.replace(tzinfo=None), None]
    assert moments(frame, "at").dtype == "datetime64[us]"


def test_an_age_is_in_days_and_never_negative() -> None:
    at = pd.Series([AS_OF, AS_OF - timedelta(hours=36), AS_OF + timedelta(days=1), None], dtype="datetime64[us, UTC]")
    there = AS_OF.astimezone(timezone(timedelta(hours=9)))
    for now in (AS_OF, there):
        np.testing.assert_array_equal(age_days(pd.DataFrame({"at": at}), "at", now), [0, 1.5, 0, np.nan])


def test_words_stand_at_their_places() -> None:
    found = words(np.array([1, -1, 0]), ["no", "yes"])
    assert found.dtype == "str"
    assert found.fillna("-").tolist() == ["yes", "-", "no"]


def test_places_are_rows_of_the_other_column() -> None:
    ids, of = pd.Series(["b", "x", "a", "b"], dtype="str"), pd.Series(["a", "b"], dtype="str")
    assert places(ids, of).tolist() == [1, -1, 0, 1]
    assert places(ids.head(0), of).tolist() == []
    assert places(ids, of.head(0)).tolist() == [-1] * 4


def test_a_text_column_is_one_array() -> None:
    parts = pa.chunked_array([["a"], [None, "b"]])
    column = pd.Series(pd.array(["a", None, "b"], dtype="str"))
    for series in (column, pd.Series(parts.to_pandas()), pd.Series(["a", None, "b"], dtype=object)):
        assert text(pd.DataFrame({"x": series}), "x").to_pylist() == ["a", None, "b"]
        assert isinstance(text(pd.DataFrame({"x": series}), "x"), pa.StringArray)
