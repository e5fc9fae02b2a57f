"""The vendors' event sources: one file per vendor, registered with one line.

Each source fetches the rows of a time window, reads them, and declares where the parts of an event are in a row.
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.sources.extraction import (
        extract,
        extracted,
        fetch_rows,
        raw_folder,
        read_rows,
        reading_of,
        remember_files,
    )
    from onetouch.sources.packing import packing_of, unpacked
    from onetouch.sources.protocol import Source
    from onetouch.sources.raw import Coverage, ExportError, Fetched
    from onetouch.sources.registry import SOURCES, check_sources, source_of
    from onetouch.sources.rows import ERASED, ROWS, SHOWN_BYTES, Kept
    from onetouch.sources.shape import EPOCH_MILLISECONDS, EPOCH_SECONDS, ISO, Shape, TimeFormat, steps
    from onetouch.sources.vendors import vendor_of

__all__ = [
    "EPOCH_MILLISECONDS",
    "EPOCH_SECONDS",
    "ERASED",
    "ISO",
    "ROWS",
    "SHOWN_BYTES",
    "SOURCES",
    "Coverage",
    "ExportError",
    "Fetched",
    "Kept",
    "Shape",
    "Source",
    "TimeFormat",
    "check_sources",
    "extract",
    "extracted",
    "fetch_rows",
    "packing_of",
    "unpacked",
    "raw_folder",
    "read_rows",
    "reading_of",
    "remember_files",
    "source_of",
    "steps",
    "vendor_of",
]
show(__name__)
