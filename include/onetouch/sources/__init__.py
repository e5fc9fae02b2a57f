"""Sources: one file a vendor, all with the same verbs: `fetch` a window, `read` it as rows."""

from onetouch.sources.extraction import extract, extracted, fetch_rows, read_rows
from onetouch.sources.raw import ExportError

__all__ = ["ExportError", "extract", "extracted", "fetch_rows", "read_rows"]
