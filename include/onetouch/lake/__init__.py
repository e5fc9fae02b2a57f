"""The storage of tables (`Lake`), and the engine that reads, computes and writes them (`Lake.engine`)."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.lake.engines import DEFAULT_ENGINE, ENGINES, ISO_8601, Engine
    from onetouch.lake.erase import Erasure, erase_files, search
    from onetouch.lake.files import key
    from onetouch.lake.formats import as_stored, columns_held, read_raw, read_table, table_kind
    from onetouch.lake.lake import Lake
    from onetouch.lake.marks import SHORT, Marks
    from onetouch.lake.pruned import Pruned, PrunedMonth, pruned_months, record_pruned, require_events
    from onetouch.lake.rows import rows_where

__all__ = [
    "DEFAULT_ENGINE",
    "ENGINES",
    "Engine",
    "Erasure",
    "ISO_8601",
    "Lake",
    "Marks",
    "Pruned",
    "PrunedMonth",
    "SHORT",
    "as_stored",
    "columns_held",
    "erase_files",
    "key",
    "pruned_months",
    "read_raw",
    "read_table",
    "record_pruned",
    "require_events",
    "rows_where",
    "search",
    "table_kind",
]
show(__name__)
