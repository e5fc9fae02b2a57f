"""Converts columns of a frame to arrays, and arrays to columns, without a Python object for every row."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.float64]
Moments = npt.NDArray[np.datetime64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def number(frame: pd.DataFrame, column: str) -> Numbers:
    """A column as float64; unknown is NaN, with which every comparison is false. The array must not be modified."""
    values = frame[column]
    if values.dtype == np.float64:
        return values.to_numpy()  # without a copy
    return values.to_numpy(dtype="float64", na_value=np.nan)


def truth(frame: pd.DataFrame, column: str) -> Mask:
    """A column of booleans, none of which is unknown. The array must not be modified."""
    return frame[column].to_numpy(bool)


def moments(frame: pd.DataFrame, column: str) -> Moments:
    """A column of moments as datetime64[us] in UTC; unknown is NaT, with which every comparison is false."""
    return frame[column].to_numpy(dtype="datetime64[us]")


def age_days(frame: pd.DataFrame, column: str, as_of: datetime) -> Numbers:
    """Days from each moment of a column to `as_of`, never negative; NaN where the moment is unknown."""
    return np.maximum((utc(as_of) - moments(frame, column)) / np.timedelta64(1, "D"), 0.0)


def utc(at: datetime) -> np.datetime64:
    """A moment in the form in which `moments` gives those of a column."""
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def text(frame: pd.DataFrame, column: str) -> pa.StringArray:
    """A column of texts as one Arrow array."""
    found = pa.array(frame[column], pa.string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def words(places: npt.NDArray[np.integer], text: list[str]) -> pd.Series:
    """The text at each place as a column; null where the place is negative."""
    known = pa.array(places.astype(np.int32), mask=places < 0)
    column: pd.Series = (
        pa.DictionaryArray.from_arrays(known, pa.array(text, pa.string())).dictionary_decode().to_pandas()
    )
    return column


def places(ids: pd.Series, of: pd.Series) -> Places:
    """For each id, the row of `of` (whose values are unique) that holds it; -1 where there is none."""
    found = pc.index_in(pa.array(ids, pa.string()), value_set=pa.array(of, pa.string()))
    rows: Places = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return rows


def as_frame(table: pa.Table) -> pd.DataFrame:
    """A table as a frame that keeps lists in Arrow, because a million lists of objects would not fit in memory."""
    frame: pd.DataFrame = table.to_pandas(
        types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_list(kind) else None
    )
    return frame
