"""Where tables live (`Lake`) and which engine reads them (DuckDB, through `Lake.engine`)."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.lake.lake import Lake

__all__ = ["Lake"]
show(__name__)
