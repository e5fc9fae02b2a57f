"""Exports: one file a vendor, all with the same verbs: `fetch` a window, `read` it as rows."""

from onetouch.exports.extraction import extract, extracted, fetch_rows, read_rows
from onetouch.exports.raw import ExportError

__all__ = ["ExportError", "extract", "extracted", "fetch_rows", "read_rows"]
