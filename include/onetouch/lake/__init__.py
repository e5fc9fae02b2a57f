"""Where tables live (`Lake`) and which engine reads them (DuckDB, through `Lake.engine`)."""

from onetouch.lake.lake import Lake

__all__ = ["Lake"]
