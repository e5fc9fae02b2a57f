"""Sources: one file a vendor, all with the same verbs: `fetch` a window, `read` it as rows."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.sources.extraction import extract, extracted, fetch_rows, read_rows
    from onetouch.sources.raw import ExportError

__all__ = ["ExportError", "extract", "extracted", "fetch_rows", "read_rows"]
show(__name__)
